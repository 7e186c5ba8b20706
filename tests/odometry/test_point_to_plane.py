from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from gradslam_ng.geometry import camera, se3
from gradslam_ng.odometry import point_to_plane
from gradslam_ng.odometry.association import Gates, Window
from gradslam_ng.odometry.normal_equations import Blocks
from gradslam_ng.odometry.point_to_plane import LivePoints, evaluate_point_to_plane, linearize_point_to_plane
from gradslam_ng.structures import SurfaceView

SIZE = (12, 16)
DISTANCE, ANGLE, SCALE = 0.1, 30.0, 4.685


def test_point_to_plane_jacobian_against_central_differences():
    generator = torch.Generator().manual_seed(0)
    p, q, n = torch.randn(3, 2, 7, 3, generator=generator, dtype=torch.float64)
    r, J = point_to_plane(p, q, n)
    assert torch.allclose(r, torch.einsum("bni,bni->bn", p - q, n))
    for i in range(6):
        h = torch.zeros(6, dtype=torch.float64)
        h[i] = 1e-6
        in_front, _ = point_to_plane(se3.transform(se3.exp(h), p), q, n)
        behind, _ = point_to_plane(se3.transform(se3.exp(-h), p), q, n)
        assert torch.allclose(J[..., i], (in_front - behind) / 2e-6, atol=1e-8)


@pytest.fixture
def pair() -> dict[str, Tensor]:
    """Two bumpy surfaces of random points on the rays of two cameras, 1 to 2 m away, with holes; nothing is aligned.

    The tensors in the arguments of `evaluate_point_to_plane`, by name.
    """
    generator = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    K = torch.tensor([[14.0, 0.2, 7.3], [0, 15, 5.6], [0, 0, 1]], dtype=torch.float64)
    K = torch.stack([K, camera.scale_intrinsics(K, 0.9)])
    depth = 1.5 + 0.04 * torch.randn(2, 2, *SIZE, 1, generator=generator, dtype=torch.float64)
    normals = torch.tensor([0.0, 0, -1], dtype=torch.float64) + 0.3 * (rand(2, 2, *SIZE, 3) - 0.5)
    return dict(
        vertices=camera.unproject(depth[0], K).flatten(1, 2),
        normals=torch.nn.functional.normalize(normals[0], dim=-1).flatten(1, 2),
        information=((rand(2, *SIZE) > 0.1) / (0.01 + 0.03 * rand(2, *SIZE)) ** 2).flatten(1),
        model_vertices=camera.unproject(depth[1], K),
        model_normals=torch.nn.functional.normalize(normals[1], dim=-1),
        model_weights=(rand(2, *SIZE) > 0.1) * rand(2, *SIZE),
        T_mc=se3.exp(0.05 * torch.randn(2, 6, generator=generator, dtype=torch.float64)),
        K=K,
    )


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def reduce(pair: dict[str, Tensor], **changed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """H, g, error and overlap; and g is what the blocks add up to."""
    x = SimpleNamespace(**pair | changed)
    live = LivePoints(x.vertices, x.normals, x.information)
    model = SurfaceView(x.model_vertices, x.model_normals, x.model_weights, x.K)
    gates = Gates(number(DISTANCE), number(math.cos(math.radians(ANGLE))))
    alignment = live, model, x.T_mc, gates, number(SCALE), Window(1, number(0.5))
    H, g, error, overlap, scores = evaluate_point_to_plane(*alignment, Blocks.of(SIZE, SIZE[0]))
    assert torch.allclose(scores.sum(1), g, rtol=1e-9, atol=1e-12)
    for found, expected in zip(linearize_point_to_plane(*alignment), (H, g, error), strict=True):
        assert torch.equal(found, expected)
    return H, g, error, overlap


def explicit(pair: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same by the book, one pair after the other, with all rows of J."""
    x = SimpleNamespace(**pair)
    images = (x.model_vertices.flatten(1, 2), x.model_normals.flatten(1, 2), x.model_weights.flatten(1))
    model_vertices, model_normals, model_weights = images
    rows = []
    for b in range(2):
        H, g, cost, pairs = torch.zeros(6, 6).double(), torch.zeros(6).double(), 0.0, 0
        for i in range(SIZE[0] * SIZE[1]):
            information = x.information[b, i]
            if information == 0:
                continue
            rho = SCALE**2 / 6  # of an outlier
            p = x.T_mc[b, :3, :3] @ x.vertices[b, i] + x.T_mc[b, :3, 3]
            u, v, _ = (x.K[b] @ p / p[2]).tolist()
            u, v = math.floor(u + 0.5), math.floor(v + 0.5)
            if p[2] > 0 and 0 <= u < SIZE[1] and 0 <= v < SIZE[0]:
                j = v * SIZE[1] + u
                q, n, trust = model_vertices[b, j], model_normals[b, j], model_weights[b, j]
                angle = torch.rad2deg(torch.arccos((x.T_mc[b, :3, :3] @ x.normals[b, i]) @ n))
                if (p - q).norm() < DISTANCE and angle < ANGLE and trust > 0:
                    pairs += 1
                    r, J = point_to_plane(p[None], q[None], n[None])
                    r, J, s = r[0], J[0], r[0] ** 2 * information
                    if s < SCALE**2:
                        w = trust * information * (1 - s / SCALE**2) ** 2
                        H, g = H + w * torch.outer(J, J), g + w * r * J
                        rho = SCALE**2 / 6 * (1 - trust * (1 - s / SCALE**2) ** 3)
            cost = cost + rho
        total = x.information[b].sum()
        rows.append((H / total, g / total, cost / total, torch.tensor(pairs / (x.information[b] > 0).sum())))
    return tuple(torch.stack([torch.as_tensor(v).double() for v in column]) for column in zip(*rows, strict=True))


def test_normal_equations_are_those_of_the_explicit_rows(pair):
    found, expected = reduce(pair), explicit(pair)
    for name, a, b in zip(("H", "g", "error", "overlap"), found, expected, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-6, atol=1e-12), name
    assert (found[3] > 0.3).all() and (found[3] < 0.9).all()


def test_g_is_the_gradient_of_the_error(pair):
    """Where a small step changes no pair; H is the Gauss-Newton Hessian and positive."""
    H, g, _, _ = reduce(pair)
    numeric = torch.empty(2, 6, dtype=torch.float64)
    for i in range(6):
        h = torch.zeros(6, dtype=torch.float64)
        h[i] = 1e-8
        in_front, behind = (reduce(pair, T_mc=se3.exp(sign * h) @ pair["T_mc"])[2] for sign in (1, -1))
        numeric[:, i] = (in_front - behind) / 2e-8
    assert torch.allclose(g, numeric, atol=1e-5 * float(g.abs().max()))
    assert torch.equal(H, H.mT) and (torch.linalg.eigvalsh(H) > 0).all()


def test_the_gradient_of_the_error_by_autograd_is_g_too(pair):
    """Pairs are constants of the gradient, so both see the same function."""
    delta = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    _, g, error, _ = reduce(pair, T_mc=se3.exp(delta) @ pair["T_mc"])
    error.sum().backward()
    assert torch.allclose(delta.grad, g, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("nothing", ["information", "model_weights", "apart", "behind"])
def test_without_pairs_all_is_zero_but_the_error(pair, nothing):
    if nothing in pair:
        pair[nothing] = torch.zeros_like(pair[nothing])
    else:
        shift = torch.tensor([0, 0, {"apart": 5.0, "behind": -5.0}[nothing], 0, 0, 0], dtype=torch.float64)
        pair["T_mc"] = se3.exp(shift) @ pair["T_mc"]
    leaves = {name: pair[name].clone().requires_grad_() for name in ("vertices", "model_vertices", "T_mc", "K")}
    H, g, error, overlap = reduce(pair, **leaves)
    assert (H == 0).all() and (g == 0).all() and (overlap == 0).all() and error.isfinite().all()
    (H.sum() + g.sum() + error.sum()).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is None or leaf.grad.isfinite().all(), name


def test_an_element_of_a_batch_is_as_alone(pair):
    together = reduce(pair)
    for b in range(2):
        alone = {k: v[b : b + 1] for k, v in pair.items()}
        for a, c in zip(together, reduce(pair, **alone), strict=True):
            assert torch.allclose(a[b], c[0], rtol=1e-12)
