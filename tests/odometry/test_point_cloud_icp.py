from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import align_points
from gradslam_ng.odometry.nearest_neighbors import NearestNeighbors
from gradslam_ng.odometry.point_cloud_icp import PointCloudFactor

T_TS = se3.exp(
    torch.tensor([[0.04, -0.03, 0.05, 0.03, -0.04, 0.05], [-0.05, 0.02, 0.01, -0.06, 0.01, 0.02]], dtype=torch.float64)
)


def corner(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points and normals (2, N, 3) of three walls, scattered at random: no point of one seed lies on one of another.

    They keep away from the creases, where the nearest point may be one of another wall.
    """
    generator = torch.Generator().manual_seed(seed)
    points = 0.1 + 0.9 * torch.rand(2, count, 3, generator=generator, dtype=torch.float64)
    wall = torch.arange(count) % 3
    normals = torch.nn.functional.one_hot(wall, 3).double().expand(2, count, 3)
    return points * (1 - normals), normals


@pytest.fixture
def clouds() -> tuple[Tensor, Tensor, Tensor]:
    """Source, target and its normals; T_TS brings the first onto the second."""
    target, normals = corner(3000, 0)
    source, _ = corner(600, 1)
    return se3.transform(se3.inverse(T_TS), source), target, normals


@pytest.mark.parametrize("strategy", [None, optim.GaussNewton(), optim.LevenbergMarquardt()])
def test_finds_a_known_motion(clouds, strategy):
    T, overlap = align_points(*clouds, strategy=strategy)
    error = se3.log(T @ se3.inverse(T_TS)).abs()
    assert error[:, :3].max() < 1e-6 and error[:, 3:].max() < 1e-6
    assert (overlap > 0.97).all()


def test_float32(clouds):
    T, _ = align_points(*(x.float() for x in clouds))
    error = se3.log(T.double() @ se3.inverse(T_TS)).abs()
    assert error[:, :3].max() < 1e-5 and error[:, 3:].max() < math.radians(1e-3)
    assert T.dtype == torch.float32


def test_outliers_and_noise(clouds):
    source, target, normals = clouds
    generator = torch.Generator().manual_seed(2)
    noisy = source + 0.002 * torch.randn(source.shape, generator=generator, dtype=torch.float64)
    noisy[:, ::5] += torch.rand(noisy[:, ::5].shape, generator=generator, dtype=torch.float64) - 0.5
    T, overlap = align_points(noisy, target, normals)
    error = se3.log(T @ se3.inverse(T_TS)).abs()
    assert error[:, :3].max() < 1.5e-3 and error[:, 3:].max() < 2e-3
    assert (overlap < 0.95).all()


def test_padding_of_weight_zero_counts_nothing(clouds):
    source, target, normals = clouds
    weights = torch.ones(source.shape[:2], dtype=torch.float64)
    weights[1, 400:] = 0
    padded = source.clone()
    padded[1, 400:] = 7.0
    T, overlap = align_points(padded, target, normals, weights=weights)
    alone, share = align_points(source[1:, :400], target[1:], normals[1:])
    assert torch.allclose(T[1:], alone, atol=1e-12) and torch.allclose(overlap[1:], share)


def test_the_gradient_of_the_error_is_that_of_differences(clouds):
    weights = torch.ones(2, 600, dtype=torch.float64)
    factor = PointCloudFactor(*clouds, weights, 0.1, NearestNeighbors(clouds[1]))
    problem = optim.Sum(factor, variable=optim.SE3())
    T = se3.exp(torch.tensor([0.0, 0, 0, 0, 0, 0.01], dtype=torch.float64)) @ T_TS
    H, g, error = problem.linearize(T)
    numeric = []
    for i in range(6):
        h = torch.zeros(6, dtype=torch.float64)
        h[i] = 1e-7
        numeric.append((problem.error(problem.retract(T, h)) - problem.error(problem.retract(T, -h))) / 2e-7)
    assert torch.allclose(torch.stack(numeric, -1), g, atol=1e-6, rtol=1e-3)
    assert torch.allclose(H, H.mT) and (torch.linalg.eigvalsh(H) > 0).all() and torch.equal(error, problem.error(T))


@pytest.mark.parametrize("backward", ["unroll", "implicit", "implicit-gn"])
def test_gradients_are_finite_and_right(clouds, backward):
    """To the target moved along its normals: how far the source follows, against central differences."""
    source, target, normals = clouds
    direction = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)

    def moved(shift: Tensor, **options) -> Tensor:
        T, _ = align_points(source, target + shift * normals * direction, normals, T_TS, **options)
        return T[0, 2, 3] + 2 * T[1, 1, 3]

    shift = torch.tensor(0.001, dtype=torch.float64, requires_grad=True)
    moved(shift, backward=backward).backward()
    with torch.no_grad():
        numeric = (moved(shift + 1e-5) - moved(shift - 1e-5)) / 2e-5
    assert shift.grad.isfinite() and torch.allclose(shift.grad, numeric, rtol=2e-2, atol=1e-3)


def test_gradients_of_all_inputs_are_finite(clouds):
    leaves = [x[:, :300].clone().requires_grad_() for x in clouds]
    weights = torch.ones(2, 300, dtype=torch.float64, requires_grad=True)
    T, _ = align_points(*leaves, weights=weights, iterations=5)
    T[:, :3].sum().backward()
    for leaf in (*leaves, weights):
        assert leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0


def test_nothing_in_reach_leaves_the_pose_as_it_was():
    target, normals = corner(100, 0)
    source = (corner(50, 1)[0] + 10).requires_grad_()
    T, overlap = align_points(source, target, normals, T_TS)
    assert torch.allclose(T, T_TS) and (overlap == 0).all()
    T.sum().backward()
    assert source.grad.isfinite().all()


def test_a_plane_alone_leaves_what_it_cannot_tell():
    points, normals = corner(900, 0)
    flat = points[:, 2::3], normals[:, 2::3]
    source = corner(300, 1)[0][:, 2::3] + torch.tensor([0, 0, 0.03], dtype=torch.float64)
    T, overlap = align_points(source, *flat)
    assert T.isfinite().all() and (overlap > 0.95).all()
    assert torch.allclose(T[:, 2, 3], torch.full((2,), -0.03, dtype=torch.float64), atol=1e-6)
    assert T[:, :2, 3].abs().max() < 1e-6


@pytest.mark.parametrize("name", ["source", "target", "normals", "weights", "T_ts"])
def test_other_shapes_are_refused(clouds, name):
    given = dict(zip(("source", "target", "normals"), clouds, strict=True))
    given |= {"weights": torch.ones(2, 600), "T_ts": T_TS}
    with pytest.raises(ValueError, match="expected shape"):
        align_points(**(given | {name: given[name][:1] if name != "source" else given[name][..., :2]}))


def test_bad_values_are_refused(clouds):
    source, target, normals = clouds
    with pytest.raises(ValueError, match="max_distance"):
        align_points(source, target, normals, max_distance=0)
    for bad in ((source * math.nan, target), (source, target * math.nan)):
        with pytest.raises(ValueError, match="finite"):
            align_points(*bad, normals)
    with pytest.raises(ValueError, match="M at least 1"):
        align_points(source, target[:, :0], normals[:, :0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clouds_that_already_lie_on_each_other(dtype):
    """The gradient is that of the optimum, by every way back."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(1, 200, 3, generator=generator, dtype=dtype)
    normals = torch.nn.functional.normalize(torch.randn(1, 200, 3, generator=generator, dtype=dtype), dim=-1)
    weight, found = torch.randn(1, 4, 4, generator=generator, dtype=dtype), {}
    for backward in ("implicit", "unroll", "truncated", "implicit-gn"):
        source = target.clone().requires_grad_()
        T_ts, _ = align_points(source, target, normals, backward=backward)
        (found[backward],) = torch.autograd.grad((weight * T_ts).sum(), source)
    exact = found.pop("implicit")
    for gradient in found.values():
        torch.testing.assert_close(gradient, exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max()))


@pytest.mark.parametrize(("name", "change", "message"), [
    ("target", lambda x: x.double(), "target: expected torch.float32 on cpu like source, got torch.float64"),
    ("normals", lambda x: x.double(), "normals: expected torch.float32"),
    ("normals", lambda x: x * torch.nan, "normals: every entry must be finite"),
    ("T_ts", lambda x: 0 * x, "T_ts: expected rigid motions"),
    ("weights", lambda x: -x, "weights: expected none below 0"),
])  # fmt: skip
def test_values_that_make_no_sense_are_refused(name, change, message):
    points = torch.rand(1, 30, 3, generator=torch.Generator().manual_seed(0))
    given = {"source": points, "target": points, "normals": points, "T_ts": torch.eye(4)[None]}
    given["weights"] = torch.ones(1, 30)
    with pytest.raises(ValueError, match=message):
        align_points(**(given | {name: change(given[name])}))
