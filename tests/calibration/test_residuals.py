"""Residuals of pairs of keyframes: Jacobians against central differences, and zero where everything is right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.calibration.cameras import NAMES, CameraPair, lift, see
from gradslam_ng.calibration.motion import LocalMotion, interpolate_motion
from gradslam_ng.calibration.problem import JointRefinement
from gradslam_ng.calibration.residuals import BrightnessPairs, Images, PlanePairs, View, share_gradient
from gradslam_ng.geometry import se3

N, PAIRS, POINTS = 3, 2, 20
K = torch.tensor([[100.0, 0, 50], [0, 98, 40], [0, 0, 1]], dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def cameras() -> CameraPair:
    """Nothing about them is zero."""
    told = CameraPair.registered(K)
    return told.retract(0.02 * random(len(NAMES)))


@pytest.fixture
def motion() -> LocalMotion:
    times = torch.arange(13, dtype=torch.float64) / 30
    way = se3.exp(torch.cumsum(0.01 * random(13, 6, seed=1), 0))
    return interpolate_motion(times, way, torch.tensor([5, 6, 7]))


@pytest.fixture
def problem(cameras: CameraPair, motion: LocalMotion) -> tuple[JointRefinement, tuple]:
    """Pairs that see an image whose brightness is a plane, so that interpolation has its exact derivative."""
    i, j = torch.tensor([0, 1]), torch.tensor([1, 2])
    uv = 40 + 10 * random(PAIRS, POINTS, 2, seed=2)
    z = 2 + 0.1 * random(PAIRS, POINTS, seed=3)
    normal = torch.nn.functional.normalize(random(PAIRS, POINTS, 3, seed=4), dim=-1)
    planes = PlanePairs(uv, z, uv + 1, z + 0.01, normal, torch.full_like(z, 50.0), 1.0)
    slopes = 0.01 * random(N, 2, seed=5)
    v, u = torch.meshgrid(torch.arange(80.0), torch.arange(100.0), indexing="ij")
    image = 0.5 + slopes[:, 0, None, None] * u + slopes[:, 1, None, None] * v
    gain, bias = torch.tensor([0.9, 1.1], dtype=torch.float64), torch.tensor([0.1, -0.1], dtype=torch.float64)
    images = Images.of(image, 1)
    unknown = torch.zeros_like(normal)  # surfaces: each image has its own gradient, see `share_gradient`
    brightness = BrightnessPairs(i, j, uv, z, unknown, images, gain, bias, torch.full_like(z, 3.0), motion, 1.0)
    T_wc = se3.exp(0.02 * random(N, 6, seed=6))
    told = CameraPair.registered(K)
    prior = torch.full((len(NAMES),), 0.5, dtype=torch.float64)
    free = torch.arange(len(NAMES)) != 3
    return JointRefinement(i, j, planes, brightness, optim.Tukey(50.0), told, prior, free), (T_wc, cameras)


def test_tangent(cameras: CameraPair) -> None:
    told = CameraPair.registered(K)
    delta = told.local(cameras)
    for a, b in zip(told.retract(delta), cameras, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert torch.equal(told.local(told), torch.zeros(len(NAMES), dtype=torch.float64))


def test_lift_and_see_invert_each_other() -> None:
    registered = CameraPair.registered(K)
    uv = 40 + 10 * random(7, 2)
    p, _ = lift(uv, torch.full((7,), 2.0, dtype=torch.float64), registered)
    torch.testing.assert_close(see(p, registered)[0], uv)


@pytest.mark.parametrize("term", ["planes", "brightness"])
def test_jacobians(problem, term: str) -> None:
    """To poses and cameras, at cameras that are not the ones told: tangents at where the cameras are."""
    joint, (T_wc, cameras) = problem
    pairs, h = getattr(joint, term), 1e-6
    found = pairs.evaluate(T_wc[joint.i], T_wc[joint.j], cameras)
    assert (found.r != 0).sum() > POINTS
    for k, name in enumerate(NAMES):
        step = h * torch.eye(len(NAMES), dtype=torch.float64)[k]
        up, down = (pairs.evaluate(T_wc[joint.i], T_wc[joint.j], cameras.retract(s)).r for s in (step, -step))
        torch.testing.assert_close((up - down) / (2 * h), found.to_camera[..., k], atol=1e-4, rtol=1e-5, msg=name)
    for k in range(6):
        move = se3.exp(h * torch.eye(6, dtype=torch.float64)[k]), se3.exp(-h * torch.eye(6, dtype=torch.float64)[k])
        up, down = (pairs.evaluate(T @ T_wc[joint.i], T_wc[joint.j], cameras).r for T in move)
        torch.testing.assert_close((up - down) / (2 * h), found.to_pose[..., k], atol=1e-4, rtol=1e-5)
        up, down = (pairs.evaluate(T_wc[joint.i], T @ T_wc[joint.j], cameras).r for T in move)
        torch.testing.assert_close((up - down) / (2 * h), -found.to_pose[..., k], atol=1e-4, rtol=1e-5)


def test_problem_is_consistent(problem) -> None:
    """The gradient is that of the error, and the sum of the pairs' scores and of what is told."""
    joint, x = problem
    H, g, error = joint.linearize(x)
    torch.testing.assert_close(H, H.mT)
    assert float(joint.error(x)) == float(error)
    told = joint.free * joint.told.local(x[1]) / joint.prior
    scores = joint.scores(x).sum(0)
    scores[-len(NAMES) :] += told
    torch.testing.assert_close(scores, g)
    h = 1e-6
    for k in [*range(7, 18, 3), *range(18, 24), 34]:  # the unknowns in which a prior does not turn
        step = h * torch.eye(len(g), dtype=torch.float64)[k]
        slope = (joint.error(joint.retract(x, step)) - joint.error(joint.retract(x, -step))) / (2 * h)
        torch.testing.assert_close(slope, g[k], atol=1e-3, rtol=1e-4)
    moved = joint.retract(x, torch.ones_like(g))
    held = joint.told.local(moved[1])[3] - joint.told.local(x[1])[3]
    assert torch.equal(moved[0][0], x[0][0]) and float(held.abs()) < 1e-12


def test_motion_between_frames() -> None:
    """A camera at constant twist is found where it was, to rounding; beyond the knots too."""
    times = torch.arange(15, dtype=torch.float64) / 30
    twist = torch.tensor([0.3, -0.2, 0.1, 0.5, -0.4, 0.2], dtype=torch.float64)
    way = se3.exp(times[:, None] * twist)
    motion = interpolate_motion(times, way, torch.tensor([0, 7, 14]))
    for t in (-0.02, 0.0, 0.05):
        xi, rate = motion.at(torch.arange(3), torch.tensor(t, dtype=torch.float64))
        torch.testing.assert_close(xi, (t * twist).expand(3, 6), atol=1e-9, rtol=1e-7)
        torch.testing.assert_close(rate, twist.expand(3, 6), atol=1e-7, rtol=1e-7)


def test_gradients_of_one_texture_are_shared() -> None:
    """Noise of the two is halved, and what both show of a plane's texture stays, from wherever it is seen."""
    camera, T_ba = CameraPair.registered(K), se3.exp(torch.tensor([0.3, 0.1, 0.2, 0.1, -0.3, 0.2], dtype=torch.float64))
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0], dtype=torch.float64), dim=0)
    along = random(1, POINTS, 3, seed=1)
    along = along - (along @ normal)[..., None] * normal
    p = torch.tensor([0.1, 0.2, 2.0], dtype=torch.float64) + 0.2 * along
    slope = random(3, seed=2)  # brightness by place; what counts is its part along the surface
    gain = torch.tensor([[[1.25]]], dtype=torch.float64)

    def view(points: Tensor, R: Tensor, by: float) -> View:
        """An image in which the surface is `by` times as bright."""
        uv, to_p, *_ = see(points, camera)
        surface = torch.eye(3).double() - normal[:, None] * normal
        tangent = torch.linalg.svd(R @ surface)[0][:, :2]
        g = torch.linalg.solve((to_p @ tangent).mT, by * (tangent.mT @ R @ slope).expand(*uv.shape)[..., None])[..., 0]
        everything = torch.ones(uv.shape[:-1], dtype=torch.bool)
        return View(everything.double(), g, torch.cat([to_p, torch.zeros(*to_p.shape[:-1], 11).to(p)], -1), everything)

    a, b = view(p, torch.eye(3).double(), 1.0), view(se3.transform(T_ba, p), T_ba[:3, :3], 1 / 1.25)
    normals, R_ba = normal.expand(1, POINTS, 3), T_ba[None, :3, :3]
    for mine, shared in zip((a, b), share_gradient(a, b, normals, R_ba, gain), strict=True):
        torch.testing.assert_close(shared, mine.gradient)
    noisy = a._replace(gradient=1.2 * a.gradient)
    for mine, shared in zip((a, b), share_gradient(noisy, b, normals, R_ba, gain), strict=True):
        torch.testing.assert_close(shared, 1.1 * mine.gradient)
    for mine, shared in zip((noisy, b), share_gradient(noisy, b, 0 * normals, R_ba, gain), strict=True):
        assert torch.equal(shared, mine.gradient)  # of a surface that is not known


def test_nearer_and_narrower_is_no_better() -> None:
    """Noisy depth of a wall: neither longer focal lengths nor a distortion that brings all of it nearer make it fit
    better, as they would if distances in space counted."""
    told = CameraPair.registered(K)
    v, u = torch.meshgrid(torch.arange(5.0, 75, 3), torch.arange(5.0, 95, 3), indexing="ij")
    uv = torch.stack([u, v], -1).reshape(1, -1, 2).double()
    ray = torch.cat([(uv - K[:2, 2]) / K[[0, 1], [0, 1]], torch.ones_like(uv[..., :1])], -1)
    normal = torch.nn.functional.normalize(torch.tensor([0.4, -0.3, -1.0], dtype=torch.float64), dim=0)
    z = -2 / (ray @ normal)
    z_i, z_j = (z + 0.02 * random(*z.shape, seed=seed) for seed in (1, 2))

    def misfit(delta: dict[str, float]) -> float:
        at = told.retract(torch.tensor([delta.get(name, 0.0) for name in NAMES], dtype=torch.float64))
        points, _ = lift(uv[0], z[0], at)  # the wall as it would be then
        turned = torch.linalg.svd(points - points.mean(0), full_matrices=False)[2][-1].expand_as(ray)
        pairs = PlanePairs(uv, z_i, uv, z_j, turned, torch.full_like(z, 1 / 0.02), 1.0)
        eye = torch.eye(4, dtype=torch.float64)[None]
        return float(pairs.evaluate(eye, eye, at).r.square().mean())

    before = misfit({})
    for delta in ({"fx": 0.3, "fy": 0.3}, {"distortion 0": 0.2}):
        assert abs(misfit(delta) / before - 1) < 0.05, delta
