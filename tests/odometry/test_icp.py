from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import RGBDFrames, SurfaceView


@pytest.fixture(scope="module")
def align(room) -> Callable[..., tuple]:
    """Function (T_model, T_live, odometer, size, dtype, T_init) -> alignment of the live frames with the model ones.

    Poses (B, 4, 4). The alignment starts at the models' poses or at T_init.
    """

    def aligned(T_model, T_live, odometer=None, size=(60, 80), dtype=torch.float32, T_init=None):
        model, live = (measure_surface(room.view(T, size, dtype)) for T in (T_model, T_live))
        T_model = T_model.to(dtype)
        start = T_model if T_init is None else T_init.to(dtype)
        return (odometer or ProjectiveICP(photometric=False))(live, model.surface.with_pose(T_model), start)

    return aligned


def errors(T: Tensor, T_true: Tensor) -> tuple[float, float]:
    """Worst of a batch, meters and degrees."""
    xi = se3.log(T.double() @ se3.inverse(T_true))
    return xi[:, :3].norm(dim=-1).max().item(), math.degrees(xi[:, 3:].norm(dim=-1).max())


RULES = [None, optim.LevenbergMarquardt(damping=1e-6), optim.GaussNewton()]


@pytest.mark.parametrize("strategy", RULES, ids=["soft", "classical", "gauss-newton"])
def test_finds_a_known_motion_of_clean_images(align, room, strategy):
    """2.6 cm and 1 degree, and 5 cm and 1.8 degrees, found to 0.1 mm and 0.01 degrees."""
    T = room.walk(9)
    found = align(T[[0, 0]], T[[4, 8]], ProjectiveICP(strategy, photometric=False), size=(240, 320))
    meters, degrees = errors(found.T_wc, T[[4, 8]])
    assert meters < 1e-4 and degrees < 0.01
    assert found.ok.all() and (found.overlap > 0.9).all()


def test_no_motion_is_no_motion(align, room):
    T = room.walk(3)
    found = align(T, T)
    meters, degrees = errors(found.T_wc, T)
    assert meters < 1e-5 and degrees < 1e-3
    assert (found.overlap > 0.98).all() and (found.error < 1e-10).all()


def test_far_from_the_origin_nothing_gets_worse(align, room):
    """Images are aligned relative to each other, so that float32 is enough however far the camera has walked."""
    T = room.walk(5)
    here = align(T[:1], T[4:])
    away = se3.exp(torch.tensor([300.0, -200, 100, 1, 2, 0.5], dtype=torch.float64))
    T_model = (away @ T[:1]).float()
    model, live = (measure_surface(room.view(x)) for x in (T[:1], T[4:]))
    there = ProjectiveICP(photometric=False)(live, model.surface.with_pose(T_model), T_model)
    first, second = se3.inverse(T[:1].float()) @ here.T_wc, se3.inverse(T_model) @ there.T_wc
    assert torch.allclose(first[:, :3, :3], second[:, :3, :3], atol=1e-5)
    assert torch.allclose(first[:, :3, 3], second[:, :3, 3], atol=2e-4)  # of 375 m, in float32


def test_a_batch_is_aligned_as_its_elements_are_alone(align, room):
    T = room.walk(12)
    together = align(T[[0, 3, 6]], T[[4, 3, 11]], dtype=torch.float64)
    for b, (i, j) in enumerate(((0, 4), (3, 3), (6, 11))):
        alone = align(T[[i]], T[[j]], dtype=torch.float64)
        assert torch.allclose(together.T_wc[b], alone.T_wc[0], atol=1e-10)
        assert torch.allclose(together.overlap[b], alone.overlap[0])


def turned(degrees: float) -> Tensor:
    """(1, 4, 4): the camera turned about its own upright axis."""
    return se3.exp(torch.tensor([[0, 0, 0, 0, math.radians(degrees), 0]], dtype=torch.float64))


@pytest.mark.parametrize("degrees", [30, 60, 90, 120, 150, 180])
def test_a_frame_from_elsewhere_is_lost_and_stays_where_it_was_looked_for(align, room, degrees):
    T = room.walk(4)
    found = align(T[:1], T[:1] @ turned(degrees), T_init=T[3:])
    assert not found.ok.any()
    assert torch.allclose(found.T_wc, T[3:].float(), atol=1e-6)
    assert found.overlap.isfinite().all() and found.error.isfinite().all()


def test_no_overlap_at_all(align, room):
    """The frame's surface lies far behind everything in the model: not one pair."""
    T = room.walk(1)
    model, live = measure_surface(room.view(T)), room.view(T)
    depth = (live.depth + 5).requires_grad_()
    T_init = T.float().requires_grad_()
    live = measure_surface(RGBDFrames(live.color, depth, live.K))
    found = ProjectiveICP()(live, model.surface.with_pose(T.float()), T_init)
    assert not found.ok.any() and found.overlap.item() == 0
    assert torch.allclose(found.T_wc, T.float(), atol=1e-6)
    found.T_wc.sum().backward()
    assert T_init.grad.isfinite().all() and (depth.grad is None or depth.grad.isfinite().all())


@pytest.mark.parametrize("which", ["frame", "model", "both"])
def test_an_empty_frame_or_model_is_lost(align, room, which):
    T = room.walk(2)
    frames = {name: room.view(T[i : i + 1]) for i, name in enumerate(("model", "frame"))}
    for name in frames if which == "both" else [which]:
        frames[name] = RGBDFrames(frames[name].color, torch.zeros_like(frames[name].depth), frames[name].K)
    model, live = (measure_surface(frames[name]) for name in ("model", "frame"))
    found = ProjectiveICP()(live, model.surface.with_pose(T[:1].float()), T[:1].float())
    assert not found.ok.any() and found.overlap.item() == 0 and found.error.isfinite().all()
    assert torch.allclose(found.T_wc, T[:1].float(), atol=1e-6)


def test_a_model_that_fills_part_of_the_view_is_enough(align, room):
    """Overlap is a share of what both could have in common."""
    T = room.walk(2)
    model = measure_surface(room.view(T[:1])).surface
    weights = model.weights.clone()
    weights[:, 20:] = 0
    model = SurfaceView(model.vertices, model.normals, weights, model.K, T_wm=T[:1].float())
    found = ProjectiveICP()(measure_surface(room.view(T[1:])), model, T[:1].float())
    assert found.ok.all() and found.overlap.item() > 0.9


@pytest.mark.parametrize("strategy", RULES, ids=["soft", "classical", "gauss-newton"])
def test_one_plane_fixes_three_of_six_and_the_rest_stays_finite(strategy):
    """A wall, 2 cm nearer: distance and tilt are found, sliding and turning in the plane are not made up."""
    K = torch.tensor([[64.0, 0, 39.5], [0, 64, 29.5], [0, 0, 1]])
    model, live = (
        measure_surface(RGBDFrames(torch.ones(1, 60, 80, 3), torch.full((1, 60, 80, 1), z).requires_grad_(), K))
        for z in (1.5, 1.48)
    )
    eye = torch.eye(4)[None]
    found = ProjectiveICP(strategy)(live, model.surface.with_pose(eye), eye)
    assert found.ok.all() and found.T_wc.isfinite().all()
    assert abs(found.T_wc[0, 2, 3].item() - 0.02) < 1e-4
    assert (found.T_wc[0, :2, 3].abs() < 2e-3).all()
    assert torch.allclose(found.T_wc[0, :3, :3], torch.eye(3), atol=2e-3)
    found.T_wc.sum().backward()


def test_farther_than_a_frame_may_move_is_lost(align, room):
    T = room.walk(9)
    assert align(T[:1], T[8:], ProjectiveICP(max_step=0.06)).ok.all()
    found = align(T[:1], T[8:], ProjectiveICP(max_step=0.03))
    assert not found.ok.any() and torch.allclose(found.T_wc, T[:1].float(), atol=1e-6)


def test_an_outlier_does_not_pull(align, room):
    """A sixth of the live image shows something 8 cm nearer."""
    T = room.walk(5)
    model, frame = measure_surface(room.view(T[:1], (120, 160))), room.view(T[4:], (120, 160))
    depth = frame.depth.clone()
    depth[:, :, :27] -= 0.08
    live = measure_surface(RGBDFrames(frame.color, depth, frame.K))
    found = ProjectiveICP()(live, model.surface.with_pose(T[:1].float()), T[:1].float())
    meters, degrees = errors(found.T_wc, T[4:])
    assert meters < 2e-3 and degrees < 0.1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("association_window", 4),
        ("association_sigma", 0.0),
        ("backward", "sideways"),
        ("iterations", ()),
        ("iterations", (3, -1)),
        ("kernel_width", 0.0),
        ("max_angle", 400.0),
        ("max_distance", -0.1),
        ("max_step", 0.0),
        ("min_overlap", 1.5),
        ("registration_sigma", -1.0),
        ("rotation_iterations", -1),
        ("row_stride", 0),
    ],
)
def test_settings_outside_their_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        ProjectiveICP(**{setting: value})
