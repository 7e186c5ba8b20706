"""A whole run follows its keyframes: poses by interpolated corrections, the map by fusing all frames anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradslam_ng.datasets.prefetch import prefetch
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.geometry import se3
from gradslam_ng.slam.state import Map
from gradslam_ng.slam.system import System


def follow_keyframes(
    T_wc: Tensor,  # (L, 4, 4)
    number: Tensor,  # (K,) int64, in order: which of them are keyframes
    T_wk: Tensor,  # (K, 4, 4), where these are now
) -> Tensor:
    """All poses (L, 4, 4), moved as the keyframes before and after them are, on the geodesic between the two
    corrections; those before the first and after the last as that one is."""
    corrections = T_wk @ se3.inverse(T_wc[number])
    frames = torch.arange(len(T_wc), device=number.device)
    after = torch.searchsorted(number, frames).clamp(max=len(number) - 1)
    before = torch.where(number[after] == frames, after, (after - 1).clamp(min=0))
    span = (number[after] - number[before]).clamp(min=1)
    share = ((frames - number[before]) / span).clamp(0, 1).to(T_wc.dtype)
    return se3.interpolate(corrections[before], corrections[after], share) @ T_wc


def fuse_again(
    system: System,
    sequence: RGBDSequence,
    frames: Sequence[int],  # of the sequence, for each pose
    T_oc: Tensor,  # (L, 4, 4), relative to the origin of the map
    ok: Tensor,  # (L,) bool
) -> Map:
    """A new map of the frames that are `ok`, each seen from its pose; those that cannot be read are left out."""
    map_: Map | None = None
    number_of = {frames[i]: i for i in ok.nonzero()[:, 0].tolist()}
    for index, frame in prefetch(sequence):
        number = number_of.get(index)
        if number is None or isinstance(frame, FrameError):
            continue
        live = system.preprocess(frame.to(system.device))
        dtype, device = live.surface.vertices.dtype, live.surface.K.device
        map_ = system.empty_map(1, device, dtype) if map_ is None else map_
        there = torch.ones(1, dtype=torch.bool, device=device)
        T_oc_now = T_oc[number : number + 1].to(live.surface.vertices)
        map_ = system.fuse(map_, live, T_oc_now, there, torch.full((), number, device=device))
        map_ = system.maintain(map_, there, number)
    if map_ is None:
        raise ValueError(f"{sequence.name}: none of its frames could be read")
    return system.mapper.finalize(map_)
