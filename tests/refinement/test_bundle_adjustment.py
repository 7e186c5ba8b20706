"""Direct bundle adjustment: known answers in the closed-form room, and derivatives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradslam_ng.geometry import se3
from gradslam_ng.refinement import BundleAdjustment
from gradslam_ng.refinement.observations import associate


def make(scene, T_wk, **changes) -> BundleAdjustment:
    observed = replace(associate(scene.keyframes, *scene.surfels, T_wk), **changes)
    return BundleAdjustment(observed, surfels=scene.surfels)


def distances(A, B):
    meters, radians = se3.distance(A, B)
    return float(meters.max()), float(radians.max())


@pytest.mark.parametrize("brightness", [True, False])
def test_poses_that_are_off_come_back(scene, brightness):
    T = scene.T_off
    before = distances(T, scene.T_wc)
    for _ in range(4):
        observed = associate(scene.keyframes, *scene.surfels, T)
        T = BundleAdjustment(observed, surfels=scene.surfels, brightness=brightness).solve(T)
    meters, radians = distances(T, scene.T_wc)
    assert meters < 0.2 * before[0] and radians < 0.2 * before[1]
    assert torch.equal(T[0], scene.T_off[0])  # the first stays


def test_another_exposure_changes_nothing(scene):
    gain = torch.tensor([1.0, 0.8, 1.1, 0.9, 1.0])[:, None, None]
    darker = replace(scene.keyframes, intensity=gain * scene.keyframes.intensity + 0.05)
    plain, other = (associate(k, *scene.surfels, scene.T_wc) for k in (scene.keyframes, darker))
    found = other.gain / other.gain[0]
    assert torch.allclose(found, plain.gain / plain.gain[0] / gain[:, 0, 0].double(), rtol=0.02)


def test_the_gradient_is_that_of_the_error(scene):
    problem, generator = make(scene, scene.T_off), torch.Generator().manual_seed(0)
    T = problem.retract(scene.T_wc, 1e-3 * torch.randn(24, generator=generator, dtype=torch.float64))
    H, g, error = problem.linearize(T)
    assert H.shape == (24, 24) and error > 0
    for _ in range(3):
        direction = torch.randn(24, generator=generator, dtype=torch.float64)
        ahead, behind = (problem.error(problem.retract(T, e * direction)) for e in (1e-7, -1e-7))
        assert float((ahead - behind) / 2e-7) == pytest.approx(float(g @ direction), abs=3e-4 * float(g.norm()))


def optimum(scene, vertices, intensity, backward):
    problem = make(scene, scene.T_wc, vertices=vertices, intensity=intensity)
    return problem.solve(scene.T_wc, iterations=12, backward=backward)


def test_the_implicit_gradient_is_that_of_the_optimum(scene):
    """Of the refined poses, to what was measured: depth and brightness, by central differences in float64."""
    observed = associate(scene.keyframes, *scene.surfels, scene.T_wc)
    generator = torch.Generator().manual_seed(0)
    start = {"vertices": observed.vertices, "intensity": observed.intensity.double()}
    steps = {"vertices": 1e-3, "intensity": 1e-2}
    noise = {k: steps[k] * torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in start.items()}
    start = {k: v + 0.3 * noise[k] for k, v in start.items()}
    weights = torch.randn(5, 4, 4, generator=generator, dtype=torch.float64)
    leaves = {k: v.clone().requires_grad_() for k, v in start.items()}
    (weights * optimum(scene, **leaves, backward="implicit")).sum().backward()
    for name in start:
        losses = []
        for e in (1e-3, -1e-3):
            moved = start | {name: start[name] + e * noise[name]}
            losses.append(float((weights * optimum(scene, **moved, backward="detach")).sum()))
        expected = (losses[0] - losses[1]) / 2e-3
        assert float((leaves[name].grad * noise[name]).sum()) == pytest.approx(expected, rel=2e-2)
