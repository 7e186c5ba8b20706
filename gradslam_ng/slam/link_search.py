"""Links between submaps: places of one seen in frames of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.places import FeatureFrame, PlaceVerifier, estimate_motion
from gradslam_ng.places.repetition import DRIFT, is_within
from gradslam_ng.slam.state import State
from gradslam_ng.slam.submaps import Connections, Submap
from gradslam_ng.slam.system import System

MIN_SIMILARITY = 0.3  # of descriptors, from which a keyframe of another submap is looked into
CANDIDATES = 2  # keyframes of other submaps that one frame is compared with
AGREEMENT = 0.05, math.radians(3.0)  # meters and radians: two links that say the same
MAJORITY = 3  # times as many links must say what connects two submaps as say another place


@dataclass(frozen=True, eq=False)
class Link:
    """Frame b of submap j seen from frame a of submap i, each counted within its submap: loops may yet move both."""

    i: int
    a: int
    j: int
    b: int
    T_ab: Tensor  # (4, 4) float64, from the camera of frame b to that of frame a
    verified: bool = True  # by what the map of submap i shows; else local features alone say so


class LinkSearch:
    """Finds places of other submaps in frames of the one at hand."""

    def __init__(self, system: System) -> None:
        self.system, self.verifier = system, PlaceVerifier.for_loop_closure()
        self.links: list[Link] = []

    @torch.no_grad()
    def search(self, submaps: list[Submap], current: int, state: State) -> None:
        """Compare the frame that a state was reached by, if it became a keyframe of the submap of that number, with
        keyframes of all others."""
        recovery = submaps[current].recovery
        if len(submaps) < 2 or recovery is None or recovery.relocalizer is None:
            return
        keyframes = recovery.relocalizer.keyframes
        if keyframes.frames[-1:] != [state.frames - 1]:
            return
        assert keyframes.last_descriptors is not None
        for i, k in self.candidates(submaps, current, keyframes.last_descriptors):
            found = self.locate(submaps[i], k, state, keyframes.images[-1])
            if found is not None:
                recovery = submaps[i].recovery
                assert recovery is not None and recovery.relocalizer is not None
                a = recovery.relocalizer.keyframes.frames[k]
                self.links.append(Link(i, a, current, state.frames - 1, *found))

    def candidates(self, submaps: list[Submap], current: int, descriptors: Tensor) -> list[tuple[int, int]]:
        """Submap and keyframe of those most similar."""
        found = []
        for i, submap in enumerate(submaps):
            if i != current and submap.recovery is not None and submap.recovery.relocalizer is not None:
                similar = submap.recovery.relocalizer.keyframes.similarities(descriptors)
                found += [(value, i, k) for k, value in enumerate(similar.tolist()) if value > MIN_SIMILARITY]
        return [(i, k) for _, i, k in sorted(found, reverse=True)[:CANDIDATES]]

    def locate(self, submap: Submap, k: int, state: State, image: FeatureFrame) -> tuple[Tensor, bool] | None:
        """The pose (4, 4) float64 of the last frame of a state in the camera of keyframe k of a submap, and whether it
        fits what that shows; None where they have too few features in common."""
        assert submap.state is not None and submap.recovery is not None and submap.recovery.relocalizer is not None
        keyframes = submap.recovery.relocalizer.keyframes
        motion = estimate_motion(keyframes.images[k].features, image.features)
        if motion is None:
            return None
        T_kw = se3.inverse(keyframes.T_wk[k])
        T_init = (keyframes.T_wk[k].to(motion.T_ab) @ motion.T_ab).to(state.T_oc)[None]
        submap.recall([k])
        predict = partial(self.system.predict_view, submap.searched, camera=state.live.camera)
        match = self.verifier.locate(state.live, predict, T_init, T_init)
        return (motion.T_ab, False) if match is None else (T_kw @ match.T_wc[0].double().cpu(), True)

    def connections(self, poses: Sequence[Tensor]) -> Connections:
        """See `connect`."""
        return connect(self.links, poses)


class Evidence(NamedTuple):
    """What links say of two submaps of which two verified ones at least agree."""

    T_ij: Tensor  # (4, 4) float64, the mean of those that agree with most
    agreeing: int  # links, verified or not, that say so but for drift
    otherwise: int  # that say another place

    @property
    def is_unique(self) -> bool:
        """Whether few say otherwise: where what is seen repeats, how well it fits does not tell where it was seen."""
        return self.agreeing >= MAJORITY * self.otherwise


def connect(links: Sequence[Link], poses: Sequence[Tensor]) -> Connections:
    """By pair of submaps i < j, T_ij (4, 4) where `gather_evidence` says a unique one."""
    return {pair: found.T_ij for pair, found in gather_evidence(links, poses).items() if found.is_unique}


def gather_evidence(links: Sequence[Link], poses: Sequence[Tensor]) -> dict[tuple[int, int], Evidence]:
    """By pair of submaps i < j what links say, where two verified ones at least agree: one alone may be of two places
    that look alike.

    poses: of the frames of each submap, (L, 4, 4) float64, as loops have them.
    """
    said: dict[tuple[int, int], list[tuple[Tensor, bool]]] = {}
    for link in links:
        i, j = link.i, link.j
        T = poses[i][link.a] @ link.T_ab @ se3.inverse(poses[j][link.b])
        said.setdefault((min(i, j), max(i, j)), []).append((T if i < j else se3.inverse(T), link.verified))
    found = {}
    for pair, each in said.items():
        verified = [T for T, is_verified in each if is_verified]
        mean = mean_of_agreeing(torch.stack(verified)) if verified else None
        if mean is not None:
            agreeing = int(is_within(torch.stack([T for T, _ in each]), mean, DRIFT).sum())
            found[pair] = Evidence(mean, agreeing, len(each) - agreeing)
    return found


def mean_of_agreeing(
    T: Tensor,  # (N, 4, 4)
) -> Tensor | None:
    """The mean (4, 4) of the most motions that agree with one of them; None where no two do."""
    meters, radians = se3.distance(T[:, None], T[None])
    agree = (meters < AGREEMENT[0]) & (radians < AGREEMENT[1])
    best = int(agree.sum(1).argmax())
    chosen = agree[best]
    if int(chosen.sum()) < 2:
        return None
    return se3.exp(se3.log(T[chosen] @ se3.inverse(T[best])).mean(0)) @ T[best]
