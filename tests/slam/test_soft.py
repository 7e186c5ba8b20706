"""Soft association: near the hard one in value, right against central differences, and right over finite steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.mapping import PointFuser, TSDFFuser
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.slam.system import System
from gradslam_ng.structures import RGBDFrames

SYSTEMS = (gs.ICPOdometry, gs.ICPSLAM, gs.PointFusion, gs.KinectFusion)
SIZE = (30, 40)


def make(system: type[System], association: str, odometry: str | None = None) -> System:
    more = {"voxel_size": 0.04, "truncation": 0.16} if system is gs.KinectFusion else {}
    tracked = ProjectiveICP(iterations=(3, 2, 2), association=association)
    settings = "soft" if association == "soft" else "default"
    return system(tracked if odometry is None else odometry, settings=settings, **more)


@pytest.fixture(scope="module")
def frames(room) -> RGBDFrames:
    """Three frames (1, 3), float64."""
    return room.view(room.walk(6)[::2], SIZE, torch.float64).map(lambda value: value[None])


@pytest.mark.parametrize("system", SYSTEMS)
def test_poses_are_as_good(system, frames):
    """Within a fifth of a voxel and of a pixel's width of the truth, as the hard ones."""
    with torch.no_grad():
        _, T_wc = make(system, "soft")(frames)
    off = se3.log(se3.inverse(frames.T_wc) @ T_wc)[0, 1:]
    assert off[:, :3].norm(dim=-1).max() < 0.01 and off[:, 3:].norm(dim=-1).max() < 0.01


def test_a_view_of_a_soft_map_shows_what_a_hard_one_does(frames):
    with torch.no_grad():
        hard, _ = make(gs.PointFusion, "hard", "ground-truth")(frames)
        soft, _ = make(gs.PointFusion, "soft", "ground-truth")(frames)
        at = frames.T_wc[:, 1], frames.K[:, 1], SIZE
        first, second = gs.render(hard, *at), gs.render(soft, *at, visibility="soft")
    both = ((first.alpha > 0) & (second.alpha > 0.9))[..., 0]
    assert both.double().mean() > 0.9
    assert (first.depth - second.depth)[both].abs().median() < 0.005
    assert (first.color - second.color)[both].abs().mean() < 0.02
    assert int(soft.count) < 1.5 * int(hard.count)  # measurements of known surfels make no new ones


def test_a_soft_volume_holds_the_surface_that_a_hard_one_does(frames):
    with torch.no_grad():
        volumes = [make(gs.KinectFusion, mode, "ground-truth")(frames)[0] for mode in ("hard", "soft")]
        first, second = (gs.raycast(v, frames.T_wc[:, 1], frames.K[:, 1], SIZE) for v in volumes)
    both = first.mask & second.mask
    assert both.double().mean() > 0.8
    assert (first.depth - second.depth)[both].abs().median() < 0.005


def losses(system: System, frames: RGBDFrames, depth: Tensor, visibility: str) -> dict[str, Tensor]:
    """Of B copies of a clip with depth (B, L, H, W, 1): of poses, of the map, and of a new view's depth and color."""
    batch = len(depth)
    color, K, T_wc = (x.expand(batch, *x.shape[1:]) for x in (frames.color, frames.K, frames.T_wc))
    map_, found = system(RGBDFrames(color, depth, K, T_wc))
    wanted = T_wc[:, 1:, :3, 3] + torch.tensor([0.03, -0.02, 0.025], dtype=torch.float64)
    w = map_.confidences * map_.mask
    moved = T_wc[:, 1] @ se3.exp(torch.tensor([0.02, -0.015, 0.03, 0.02, 0.03, -0.02], dtype=torch.float64))
    view = gs.render(map_, moved, K[:, 1], SIZE, visibility=visibility)
    alpha = view.alpha.flatten(1)
    return {
        "pose": (found[:, 1:, :3, 3] - wanted).square().flatten(1).sum(-1),
        "map": (w * (map_.points[..., 2] - 1.0).square()).sum(-1) / w.sum(-1),
        "depth": (alpha * (view.depth.flatten(1) - 1.0).square()).sum(-1) / alpha.sum(-1),
        "color": (view.alpha * (view.color - 0.3).square()).flatten(1).sum(-1) / alpha.sum(-1),
    }


@pytest.fixture(scope="module")
def noise(frames) -> Tensor:
    """(12, L, H, W, 1), meters."""
    generator = torch.Generator().manual_seed(5)
    return 1e-3 * torch.randn(12, *frames.depth.shape[1:], generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("odometry", ["ground-truth", None])
def test_gradients_are_central_differences_with_no_choice_held(frames, noise, odometry):
    """A hard system needs its choices held for this; a soft one is continuous."""
    system = make(gs.PointFusion, "soft", odometry)
    depth = (frames.depth + noise[:1]).requires_grad_()

    def total(depth: Tensor) -> Tensor:
        return sum(losses(system, frames, depth, "soft").values())[0]

    (gradient,) = torch.autograd.grad(total(depth), depth)
    with torch.no_grad():
        plus, minus = (total(depth + h * noise[1:2]) for h in (1e-3, -1e-3))
    torch.testing.assert_close((gradient * noise[1:2]).sum(), (plus - minus) / 2e-3, rtol=0.02, atol=0)


def test_gradients_foretell_steps_of_a_millimeter(frames, noise):
    found = {}
    for mode in ("hard", "soft"):
        system = make(gs.PointFusion, mode, "ground-truth")
        depth = (frames.depth + noise[:1]).requires_grad_()
        before = losses(system, frames, depth, mode)["color"]
        (gradient,) = torch.autograd.grad(before.sum(), depth)
        with torch.no_grad():
            after = losses(system, frames, depth + noise[1:], mode)["color"]
        pair = torch.stack([(gradient * noise[1:]).flatten(1).sum(-1), after - before.detach()])
        found[mode] = float(torch.corrcoef(pair)[0, 1])
    assert found["soft"] > 0.9 and found["soft"] > found["hard"] + 0.1, found


def test_other_words_are_refused(frames):
    for part in (ProjectiveICP, PointFuser, TSDFFuser, gs.slam.Settings):
        with pytest.raises(ValueError, match="association: expected hard or soft, got 'fuzzy'"):
            part(association="fuzzy")
    map_ = gs.SurfelMap.empty(1, dtype=torch.float64)
    with pytest.raises(ValueError, match="visibility: expected hard or soft"):
        gs.render(map_, frames.T_wc[:, 0], frames.K[:, 0], SIZE, visibility="fuzzy")
    with pytest.raises(ValueError, match=r"implicit.*association"):
        ProjectiveICP(association="soft", backward="implicit")


def test_holes_and_empty_frames_have_finite_gradients(frames):
    depth = frames.depth.clone()
    depth[:, 0, :12], depth[:, 2] = 0.0, 0.0
    depth.requires_grad_()
    for system in (gs.PointFusion, gs.KinectFusion):
        map_, T_wc = make(system, "soft")(RGBDFrames(frames.color, depth, frames.K, frames.T_wc))
        values = map_.points if system is gs.PointFusion else map_.sdf
        (gradient,) = torch.autograd.grad(values.sum() + T_wc.sum(), depth)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0
