from __future__ import annotations

from functools import partial

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import se3


@pytest.fixture(scope="module")
def surfels(room) -> gs.SurfelMap:
    """Of two clean frames of the closed-form room."""
    frames = room.view(room.walk(2), (60, 80), torch.float64)
    with torch.no_grad():
        return gs.ICPSLAM("ground-truth", factor=1)(frames)[0]


@pytest.fixture(scope="module")
def frame(room) -> gs.RGBDFrames:
    """Another view of it."""
    return room.view(room.walk(6)[5:], (60, 80), torch.float64)


def test_both_maps_bring_the_camera_back(demo, tmp_path):
    numbers = demo("pose_from_image").main(tmp_path, targets=1, starts=1, frames=3)
    for name in ("surfels", "volume"):
        millimeters, degrees = numbers[name]["start, mm and degrees (mean)"]
        assert millimeters > 10 and degrees > 0.5
        assert numbers[name]["there"] == 1, numbers
    assert (tmp_path / "pose_from_image.png").stat().st_size > 10_000


def test_the_normal_equations_are_those_of_the_error(demo, surfels, frame):
    """g is the gradient of the error, by reverse mode; H is positive and predicts the decrease of a small step."""
    problem = demo("pose_from_image").Difference(partial(gs.render, surfels), frame, 1, 0.05, 0.1)
    T_wc = se3.exp(torch.tensor([[0.01, -0.02, 0.01, 0.01, 0.02, -0.01]], dtype=torch.float64)) @ frame.T_wc
    H, g, error = problem.linearize(T_wc)
    xi = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    again = problem.error(problem.retract(T_wc, xi))
    (expected,) = torch.autograd.grad(again.sum(), xi)
    assert torch.allclose(error, again.detach()) and torch.allclose(g, expected, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(H).amin() > 0
    with torch.no_grad():
        step = -0.2 * torch.linalg.solve(H, g)
        assert problem.error(problem.retract(T_wc, step)) < error


def test_to_look_away_is_the_worst(demo, surfels, frame):
    problem = demo("pose_from_image").Difference(partial(gs.render, surfels), frame, 1, 0.05, 0.1)
    away = frame.T_wc.clone()
    away[:, :3, 3] += 1e3
    assert problem.error(frame.T_wc) < 0.2 and abs(float(problem.error(away)) - 1.0) < 1e-12


def test_starts_fill_the_two_balls(demo):
    module, generator = demo("pose_from_image"), torch.Generator().manual_seed(0)
    truth = se3.exp(torch.tensor([[1.0, 2, 3, 0.3, 0.2, 0.1]]))
    found = torch.tensor([module.off(module.astray(truth, generator), truth) for _ in range(200)])
    assert found[:, 0].max() <= 50.001 and found[:, 1].max() <= 5.001
    assert ((found / torch.tensor([50, 5])).mean(0) - 0.75).abs().max() < 0.05  # 3/4, the mean radius of a ball
