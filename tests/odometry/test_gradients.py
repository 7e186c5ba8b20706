"""The gradient contract for one alignment: step rules, ways back, and what the gradient may see."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import RGBDFrames

RULES = {
    "gauss-newton": optim.GaussNewton(),
    "classical": optim.LevenbergMarquardt(),
    "soft": optim.SoftLevenbergMarquardt(temperature=0.5),
    "relinearize": optim.SoftLevenbergMarquardt(temperature=0.5, relinearize=True),
}


@pytest.fixture(scope="module")
def pairs(room) -> RGBDFrames:
    """Two pairs (B, 2) of views 2 cm apart with 2 mm of noise, float64."""
    views = RGBDFrames.stack([room.view(room.walk(9, seed)[::8], (36, 48), torch.float64) for seed in (0, 1)])
    noise = torch.randn(views.depth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return RGBDFrames(views.color, views.depth + 0.002 * noise, views.K, views.T_wc)


@pytest.fixture(scope="module")
def inputs(pairs) -> dict[str, Tensor]:
    """Both depth images, the camera, and how far from the model's camera the search starts, as a twist."""
    start = 0.003 * torch.randn(2, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return {"live": pairs.depth[:, 1], "model": pairs.depth[:, 0], "K": pairs.K[:, 0], "start": start}


@pytest.fixture(scope="module")
def pose(pairs) -> Callable[..., Tensor]:
    """Function (odometer, live, model, K, start) -> the pose of the live frame."""

    def found(odometer: ProjectiveICP, live: Tensor, model: Tensor, K: Tensor, start: Tensor) -> Tensor:
        live, model = (measure_surface(RGBDFrames(pairs.color[:, 0], depth, K)) for depth in (live, model))
        T_wm = pairs.T_wc[:, 0]
        alignment = odometer(live, model.surface.with_pose(T_wm), se3.exp(start) @ T_wm)
        assert alignment.ok.all()
        return alignment.T_wc

    return found


def gradients(pose: Callable[..., Tensor], odometer: ProjectiveICP, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    T_wc = pose(odometer, **leaves)
    weight = torch.randn(T_wc.shape, generator=torch.Generator().manual_seed(1), dtype=T_wc.dtype)
    found = torch.autograd.grad((weight * T_wc).sum(), list(leaves.values()), allow_unused=True)
    return {name: g for name, g in zip(leaves, found, strict=True) if g is not None}


CONVERGED = {"iterations": (10, 5, 30), "photometric": False, "row_stride": 1}


@pytest.fixture(scope="module")
def converged(pose, inputs) -> dict[str, Tensor]:
    """Gradients through all iterations, more than enough of them."""
    return gradients(pose, ProjectiveICP(RULES["soft"], **CONVERGED), inputs)


def apart(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("strategy", RULES)
def test_step_rules(differences, pose, inputs, strategy):
    odometer = ProjectiveICP(RULES[strategy], iterations=(1, 1, 1), photometric=False)
    steps = {"live": 1e-8, "model": 1e-8, "start": 1e-4}
    errors = differences(lambda **x: {"pose": pose(odometer, **x)}, inputs, steps, directions=2)
    assert len(errors) == len(inputs)
    assert sorted(errors.values())[1] <= 1e-6 and max(errors.values()) <= 1e-4, errors


@pytest.mark.parametrize("strategy", RULES)
def test_with_brightness(differences, pairs, strategy):
    """Both color images get a gradient too."""
    odometer = ProjectiveICP(RULES[strategy], iterations=(1, 1, 1), photometric=True)
    T_wm = pairs.T_wc[:, 0]

    def found(depth: Tensor, color: Tensor, seen: Tensor, K: Tensor) -> dict[str, Tensor]:
        live = measure_surface(RGBDFrames(color, depth, K))
        model = measure_surface(RGBDFrames(seen, pairs.depth[:, 0], K)).surface
        alignment = odometer(live, model.with_pose(T_wm), T_wm)
        assert alignment.ok.all()
        return {"pose": alignment.T_wc}

    pattern = 0.3 * torch.sin(torch.linspace(0, 9, 48, dtype=torch.float64))[:, None]
    colors = pairs.color + pattern  # the room's own is even
    inputs = {"depth": pairs.depth[:, 1], "color": colors[:, 1], "seen": colors[:, 0], "K": pairs.K[:, 0]}
    steps = {"depth": 1e-8, "color": 1e-7, "seen": 1e-7, "K": 1e-5}
    errors = differences(found, inputs, steps, directions=2)
    assert len(errors) == len(inputs)
    assert sorted(errors.values())[1] <= 1e-6 and max(errors.values()) <= 1e-4, errors


def test_brightness_from_where_the_last_frame_was(pairs):
    """The model's points lie at centers of pixels there, where brightness has its kinks: rounding must not choose the
    side. So no discrete choice is held while the model's depth is changed."""
    odometer = ProjectiveICP(RULES["soft"], iterations=(1, 1, 1))
    pattern = 0.3 * torch.sin(torch.linspace(0, 9, 48, dtype=torch.float64))[:, None]
    T_wm, K = pairs.T_wc[:, 0], pairs.K[:, 0]
    live = measure_surface(RGBDFrames(pairs.color[:, 1] + pattern, pairs.depth[:, 1], K))
    noise = torch.Generator().manual_seed(4)
    direction = torch.randn(pairs.depth[:, 0].shape, generator=noise, dtype=torch.float64)
    weight = torch.randn(T_wm.shape, generator=noise, dtype=torch.float64)

    def found(step: Tensor) -> Tensor:
        model = RGBDFrames(pairs.color[:, 0] + pattern, pairs.depth[:, 0] + step * direction, K)
        return (weight * odometer(live, measure_surface(model).surface.with_pose(T_wm), T_wm).T_wc).sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(found(step), step)
    with torch.no_grad():
        difference = (found(step + 1e-8) - found(step - 1e-8)) / 2e-8
    assert abs(difference / gradient - 1) < 1e-5


@pytest.mark.parametrize(("mode", "limit"), [("implicit", 1e-8), ("direct", 1e-3), ("implicit-gn", 0.2)])
def test_at_the_optimum_the_ways_back_agree(pose, inputs, converged, mode, limit):
    """And where the search started has no part in it. Gauss-Newton's bias is that of the residuals that remain."""
    found = gradients(pose, ProjectiveICP(RULES["soft"], **CONVERGED, backward=mode), inputs)
    assert found["start"].abs().max() < 1e-8 and converged["start"].abs().max() < 1e-8
    assert max(apart(found[name], converged[name]) for name in ("live", "model", "K")) < limit


def test_truncated_approaches_unrolled(pose, inputs, converged):
    errors = []
    for last in (1, 2, 4, 8, 16):
        odometer = ProjectiveICP(RULES["soft"], **CONVERGED, backward="truncated", backward_iterations=last)
        found = gradients(pose, odometer, inputs)
        errors.append(max(apart(found[name], converged[name]) for name in ("live", "model", "K")))
    assert all(b < 0.5 * a for a, b in pairwise(errors)) and errors[-1] < 1e-9, errors


def test_detached_the_pose_is_a_constant(pose, inputs):
    found = gradients(pose, ProjectiveICP(backward="detach"), inputs)
    assert not any(g.any() for g in found.values())


def test_a_sharp_mean_is_the_nearest_pixel(pose, inputs):
    with torch.no_grad():
        settings = {"iterations": (6, 4, 3), "row_stride": 1, "photometric": False}
        nearest, distances = pose(ProjectiveICP(**settings), **inputs), []
        for sigma in (0.5, 0.1, 1e-3):
            mean = pose(ProjectiveICP(**settings, association_window=3, association_sigma=sigma), **inputs)
            distances.append((mean - nearest).abs().max().item())
    assert distances[0] > distances[1] > distances[2] and distances[2] < 1e-4, distances


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"association_window": 4}, "association_window.*1, 2 or 3"),
        ({"backward": "sideways"}, "unroll.*sideways"),
        ({"backward": "implicit", "association_window": 3}, "implicit.*association_window=1"),
        ({"backward": "truncated", "backward_iterations": 5}, "1 to 2"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(ValueError, match=message):
        ProjectiveICP(**settings)


@pytest.mark.parametrize("strategy", RULES)
def test_frames_that_are_alike(pairs, strategy):
    """The search starts at its optimum, with residuals of exactly zero: the gradient is that of the optimum.

    By shape alone: brightness has its kinks between pixels, which is where all of them are.
    """
    T_wm, found = pairs.T_wc[:, 0], []
    for backward in ("implicit", "unroll", "truncated"):
        live, model = (pairs.depth[:, 0].clone().requires_grad_() for _ in range(2))
        views = [measure_surface(RGBDFrames(pairs.color[:, 0], depth, pairs.K[:, 0])) for depth in (live, model)]
        settings = {"iterations": (2, 2, 8), "backward": backward, "backward_iterations": 8, "photometric": False}
        odometer = ProjectiveICP(RULES[strategy], **settings)
        T_wc = odometer(views[0], views[1].surface.with_pose(T_wm), T_wm).T_wc
        torch.testing.assert_close(T_wc, T_wm, rtol=0, atol=1e-9)
        weight = torch.randn(T_wc.shape, generator=torch.Generator().manual_seed(1), dtype=T_wc.dtype)
        found.append(torch.cat(torch.autograd.grad((weight * T_wc).sum(), [live, model])))
    assert found[0].any() and max(apart(other, found[0]) for other in found[1:]) < 1e-6
