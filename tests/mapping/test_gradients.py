"""How the gradient passes fusion: from the new map to the old one, to the frame and to the settings."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from gradslam_ng.mapping import Aggregate, PointFuser
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import LiveFrame, RGBDFrames, SurfelMap

FLOATS = ("points", "normals", "colors", "radii", "confidences")


@pytest.fixture(scope="module")
def frames(room) -> RGBDFrames:
    """Two clips of three noisy frames (B, L), float64; half of one image has no depth."""
    frames = RGBDFrames.stack([room.view(room.walk(13, seed)[::6], (24, 32), torch.float64) for seed in (0, 1)])
    noise = torch.randn(frames.depth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    depth = frames.depth + 0.002 * noise
    depth[0, :, :, :16] = 0
    return RGBDFrames(frames.color, depth, frames.K, frames.T_wc)


def live(frames: RGBDFrames, **fields: Tensor) -> LiveFrame:
    return measure_surface(dataclasses.replace(frames, **fields))


@pytest.fixture(scope="module")
def map_(frames) -> SurfelMap:
    """Of the first two frames of each clip."""
    map_, yes = SurfelMap.empty(2, dtype=torch.float64), torch.ones(2, dtype=torch.bool)
    for i in range(2):
        map_ = PointFuser()(map_, live(frames[:, i]), frames.T_wc[:, i], yes, i)
    return map_.detach()


def test_point_fusion(differences, frames, map_):
    """All attributes of the new map to all of the old one and to all of the frame; a tidying frame."""

    def fused(depth, color, K, T_wc, sigma, **attributes: Tensor) -> dict[str, Tensor]:
        old = dataclasses.replace(map_, **attributes)
        frame = live(frames[:, 2], depth=depth, color=color, K=K)
        new = PointFuser(sigma=sigma, max_unseen_frames=1, stable_confidence=0.8)(
            old, frame, T_wc, torch.ones(2, dtype=torch.bool), 5
        )
        return {name: getattr(new, name) for name in FLOATS}

    last = frames[:, 2]
    inputs = {"depth": last.depth, "color": last.color, "K": last.K, "T_wc": last.T_wc}
    inputs |= {"sigma": torch.tensor(0.6, dtype=torch.float64)} | {name: getattr(map_, name) for name in FLOATS}
    errors = differences(fused, inputs, {"depth": 1e-8, "radii": 1e-7}, directions=3)
    pairs = {
        (name, i) for name in ("points", "normals", "colors") for i in (name, "confidences", "depth", "K", "sigma")
    }
    pairs |= {("points", "T_wc"), ("normals", "T_wc"), ("colors", "color"), ("radii", "radii"), ("radii", "depth")}
    pairs |= {("radii", "K"), ("confidences", "confidences"), ("confidences", "depth"), ("confidences", "sigma")}
    assert pairs <= errors.keys()
    errors = sorted(errors[pair] for pair in pairs)
    assert errors[len(errors) // 2] <= 1e-7 and errors[-1] <= 1e-5, errors


def test_aggregation(differences, frames):
    def gathered(depth, color, K, T_wc) -> dict[str, Tensor]:
        frame = live(frames[:, 2], depth=depth, color=color, K=K)
        yes = torch.ones(2, dtype=torch.bool)
        new = Aggregate()(SurfelMap.empty(2, dtype=torch.float64), frame, T_wc, yes, 0)
        return {name: getattr(new, name) for name in FLOATS}

    last = frames[:, 2]
    inputs = {"depth": last.depth, "color": last.color, "K": last.K, "T_wc": last.T_wc}
    errors = differences(gathered, inputs, {"depth": 1e-8}, directions=3)
    pairs = {(name, i) for name in ("points", "normals") for i in ("depth", "K", "T_wc")}
    pairs |= {("colors", "color")} | {(name, i) for name in ("radii", "confidences") for i in ("depth", "K")}
    assert pairs <= errors.keys() and max(errors[pair] for pair in pairs) <= 1e-6, errors


def test_slots_without_a_surfel_send_no_gradient(frames, map_):
    """What users sum over whole tensors must not depend on what padding holds."""
    depth = frames.depth[:, 2].clone().requires_grad_()
    new = PointFuser()(map_, live(frames[:, 2], depth=depth), frames.T_wc[:, 2], torch.ones(2, dtype=torch.bool), 2)
    whole = sum(getattr(new, name).sum() for name in FLOATS)
    held = sum(getattr(new, name)[new.mask].sum() for name in FLOATS)
    assert not new.mask.all() and torch.equal(
        *(torch.autograd.grad(x, depth, retain_graph=True)[0] for x in (whole, held))
    )
