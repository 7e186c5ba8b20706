"""Graphs that start at their optimum have the gradient of the optimum."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph import graph_problem as graph_module

RULES = {
    "default": None,
    "gauss-newton": optim.GaussNewton(),
    "exact": optim.LevenbergMarquardt(error_noise=0.0),
    "soft": optim.SoftLevenbergMarquardt(error_noise=0.0),
    "relinearize": optim.SoftLevenbergMarquardt(error_noise=0.0, relinearize=True),
}


def gradient(rings, scene, start, **options) -> torch.Tensor:
    """Of a fixed function of the solution, to the measurements."""
    twist = zero_twist(scene).requires_grad_()
    x = rings.graph(scene, z=scene.variable.retract(scene.z, twist), start=start).optimize(**options)["x"]
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    return torch.autograd.grad((weight * x).sum(), twist)[0]


def zero_twist(scene) -> torch.Tensor:
    """Of the measurements: matrices that are no poses have no place in a graph."""
    return scene.z.new_zeros(*scene.z.shape[: scene.z.ndim - scene.variable.event_ndim], scene.d)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("dense_up_to", [0, 96], ids=["sparse", "dense"])
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("kind", ["SE(3)", "Euclidean"])
def test_by_every_way_back(rings, kind, noise, dense_up_to, monkeypatch):
    monkeypatch.setattr(graph_module, "DENSE_UP_TO", dense_up_to)
    scene = rings.make(kind, n=7, noise=noise)
    best = rings.graph(scene, start=scene.truth).optimize(iterations=12, tolerance=None)["x"]
    exact = gradient(rings, scene, best, backward="implicit")
    for backward in ("truncated", "direct"):
        assert apart(gradient(rings, scene, best, backward=backward), exact) < 1e-4
    for strategy in RULES.values() if dense_up_to else (None,):
        for tolerance in (1e-10, None):
            options = {"strategy": strategy, "tolerance": tolerance, "iterations": 4}
            assert apart(gradient(rings, scene, best, **options), exact) < 1e-4, options


@pytest.mark.parametrize("off", [1e-2, 1e-4, 1e-6, 1e-9])
def test_near_the_optimum(rings, off):
    """However few steps it takes to converge."""
    scene = rings.make(n=7)
    best = rings.graph(scene).optimize(iterations=60, tolerance=None)["x"]
    exact = gradient(rings, scene, best, backward="implicit")
    direction = torch.randn(7, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction[0] = 0  # is fixed where it starts
    start = scene.variable.retract(best, off * direction)
    for backward in ("unroll", "truncated", "direct"):
        assert apart(gradient(rings, scene, start, backward=backward), exact) < 1e-5


def test_one_graph_of_a_batch(rings):
    scene = rings.make(n=7, batch=(3,))
    best = rings.graph(scene).optimize(iterations=60, tolerance=None)["x"]
    start = torch.stack([best[0], scene.start[1], best[2]])
    exact = gradient(rings, scene, start, backward="implicit")
    for backward in ("unroll", "truncated"):
        found = gradient(rings, scene, start, backward=backward)
        assert max(apart(a, b) for a, b in zip(found, exact, strict=True)) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identities(dtype):
    """Every residual is exactly zero, and so is every step: the last pose is the sum of the motions all the same."""
    eye = torch.eye(4, dtype=dtype)
    for options in ({}, {"tolerance": None, "iterations": 3}, {"backward": "truncated"}, {"backward": "implicit"}):
        z = eye.repeat(2, 1, 1).requires_grad_()
        graph = gs.FactorGraph()
        graph.add_variables("pose", optim.SE3(), eye.repeat(3, 1, 1))
        graph.add_between("pose", [0, 1], [1, 2], z)
        (found,) = torch.autograd.grad(graph.optimize(**options)["pose"][2, :3, 3].sum(), z)
        torch.testing.assert_close(found[:, :3, 3], torch.ones(2, 3, dtype=dtype), rtol=1e-4, atol=1e-4)


def test_values_are_those_without_gradients(rings):
    """Steps that are recorded for the gradient alone have length zero."""
    scene = rings.make(n=7)
    best = rings.graph(scene).optimize()["x"]
    for start in (best, scene.start):
        for backward in ("unroll", "truncated"):
            recorded = rings.graph(scene, z=scene.z.clone().requires_grad_(), start=start).optimize(backward=backward)
            with torch.no_grad():
                plain = rings.graph(scene, start=start).optimize(backward=backward)
            torch.testing.assert_close(recorded["x"].detach(), plain["x"], rtol=0, atol=1e-14)
            assert torch.equal(recorded.solution.converged, plain.solution.converged)


@pytest.mark.parametrize("lag", [None, 2])
def test_a_smoother_whose_odometry_agrees(rings, lag):
    """Every smoothing starts at its optimum; the end of the chain is the product of its motions."""
    scene = rings.make(n=5, noise=0.0)
    twist = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    motions = se3.exp(twist) @ scene.z[:4]
    smoother, chained = gs.Smoother(scene.truth[0], lag=lag), scene.truth[0]
    for motion in motions:
        smoother.add(motion)
        chained = chained @ motion
    weight = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(4, 4)
    found, exact = (
        torch.autograd.grad((weight * T).sum(), twist, retain_graph=True)[0] for T in (smoother.smooth()[-1], chained)
    )
    assert apart(found, exact) < 1e-6


@pytest.mark.parametrize("backward", ["unroll", "truncated", "implicit", "implicit-gn", "direct"])
@pytest.mark.parametrize("dense_up_to", [0, 96], ids=["sparse", "dense"])
def test_covariances_have_the_gradient_of_the_solution(rings, backward, dense_up_to, monkeypatch):
    monkeypatch.setattr(graph_module, "DENSE_UP_TO", dense_up_to)
    scene = rings.make(n=6, noise=0.3)

    def spread(twist: torch.Tensor, **options) -> torch.Tensor:
        graph = rings.graph(scene, z=se3.exp(twist) @ scene.z)
        solution = graph.optimize(iterations=30, tolerance=None, **options)
        return solution.covariance("x", [2, 4])[..., 0, :].sin().sum()

    twist = zero_twist(scene).requires_grad_()
    (found,) = torch.autograd.grad(spread(twist, backward=backward, backward_iterations=15), twist)
    direction = torch.randn(twist.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        numeric = (spread(1e-6 * direction) - spread(-1e-6 * direction)) / 2e-6
    limit = 0.2 if backward == "implicit-gn" else 1e-4
    assert abs((found * direction).sum() - numeric) < limit * abs(numeric)
