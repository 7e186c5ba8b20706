"""Transforms of torch.func, dual numbers and second derivatives through images of maps, queries and integration."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.rendering import predict_surfels
from gradslam_ng.structures import SurfelMap

D = torch.float64
SIZE = (12, 16)
K = torch.tensor([[[14.0, 0, 7.4], [0, 14.0, 5.6], [0, 0, 1]]], dtype=D)
T_WC = se3.exp(torch.tensor([[0.03, -0.02, 0.05, 0.02, -0.03, 0.04]], dtype=D))
TWISTS = torch.tensor([[0.3, -0.4, 0.2, 0.5, 0.1, 0.3], [-0.2, 0.1, 0.4, 0.3, -0.6, 0.2]], dtype=D)
THETA = torch.tensor([1e-3, -2e-3], dtype=D)
PARTS = ("render", "render soft", "predict_surfels", "raycast", "query", "integrate")
WITHOUT_VMAP = ("raycast", "integrate")  # how many blocks there are depends on values


def moved(theta: Tensor) -> Tensor:  # theta (2,)
    return se3.exp((theta @ TWISTS)[None]) @ T_WC


@pytest.fixture(scope="module")
def frame() -> gs.RGBDFrames:
    """A bent surface with bright and dark spots."""
    v, u = torch.meshgrid(*(torch.arange(n, dtype=D) for n in SIZE), indexing="ij")
    depth = 1.5 + 0.03 * u + 0.02 * v + 0.02 * torch.sin(u) * torch.cos(v)
    color = torch.stack([torch.sin(0.5 * u), torch.cos(0.4 * v), torch.sin(0.3 * (u + v))], -1)
    return gs.RGBDFrames(0.5 + 0.4 * color[None], depth[None, ..., None], K, torch.eye(4, dtype=D)[None])


@pytest.fixture(scope="module")
def surfels(frame) -> SurfelMap:
    with torch.no_grad():
        return gs.ICPSLAM("ground-truth", factor=1)(frame.map(lambda x: x[:, None]))[0]


@pytest.fixture(scope="module")
def grid(frame) -> gs.VoxelGrid:
    with torch.no_grad():
        return gs.integrate(gs.VoxelGrid.empty(1, 0.1, 0.4, dtype=D), frame)


@pytest.fixture
def loss(part, frame, surfels, grid) -> Callable[[Tensor], Tensor]:
    """A number that depends on every output of a part, as a function of theta (2,)."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(1, *SIZE, c, dtype=D, generator=generator) for c in (1, 3, 3, 1)]
    places = torch.tensor([0.2, 0.2, 0.1], dtype=D) * torch.randn(1, 5, 3, dtype=D, generator=generator)
    places = places + torch.tensor([0.0, 0.0, 1.75], dtype=D)

    def outputs(T_wc: Tensor) -> tuple[Tensor, ...]:
        if part.startswith("render"):
            view = gs.render(surfels, T_wc, K, SIZE, visibility="soft" if "soft" in part else "hard")
            return view.depth, view.color, view.normal
        if part == "predict_surfels":
            seen = predict_surfels(surfels, T_wc, K, SIZE, 1.0)
            return seen.intensity[..., None], seen.vertices, seen.normals
        if part == "raycast":
            cast = gs.raycast(grid, T_wc, K, SIZE)
            return cast.depth, cast.color, cast.normal, cast.weight
        if part == "query":
            return grid.query(se3.transform(T_wc, places))
        fused = gs.integrate(grid, gs.RGBDFrames(frame.color, frame.depth, K, T_wc))
        return fused.sdf, fused.weight, fused.color

    def number(theta: Tensor) -> Tensor:
        values = outputs(moved(theta))
        if part in ("query", "integrate"):
            return sum((x * x).sum() + x.sum() for x in values)
        return sum((w * x).sum() for w, x in zip(weights, values, strict=False))

    return number


def slope(loss, theta: Tensor) -> Tensor:
    theta = theta.detach().requires_grad_()
    return torch.autograd.grad(loss(theta), theta)[0]


def twice(loss, theta: Tensor) -> Tensor:
    theta = theta.detach().requires_grad_()
    (first,) = torch.autograd.grad(loss(theta), theta, create_graph=True)
    return torch.stack([torch.autograd.grad(x, theta, retain_graph=True)[0] for x in first])


def by_dual_numbers(loss, theta: Tensor) -> Tensor:
    with forward_ad.dual_level():
        tangents = [forward_ad.unpack_dual(loss(forward_ad.make_dual(theta, e))).tangent for e in torch.eye(2, dtype=D)]
        return torch.stack(tangents)


def differences(function, theta: Tensor, h: float = 1e-8) -> Tensor:
    """Central ones, so near that no choice changes."""
    return torch.stack([(function(theta + h * e) - function(theta - h * e)) / (2 * h) for e in torch.eye(2, dtype=D)])


@pytest.mark.parametrize("part", PARTS)
def test_first_derivatives_in_every_way_of_asking(part, loss):
    expected = slope(loss, THETA)
    torch.testing.assert_close(expected, differences(loss, THETA), rtol=1e-5, atol=1e-5)
    found = {
        "grad": torch.func.grad(loss)(THETA),
        "jacrev": torch.func.jacrev(loss)(THETA),
        "jacfwd": torch.func.jacfwd(loss)(THETA),
        "dual numbers": by_dual_numbers(loss, THETA),
    }
    for way, value in found.items():
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9, msg=f"{way}: {value} {expected}")


@pytest.mark.parametrize("part", PARTS)
def test_second_derivatives_in_every_way_of_asking(part, loss):
    expected = differences(lambda theta: slope(loss, theta), THETA)
    found = {
        "twice": twice(loss, THETA),
        "functional": torch.autograd.functional.hessian(loss, THETA),
        "torch.func": torch.func.hessian(loss)(THETA),
        "jacrev": torch.func.jacrev(torch.func.jacrev(loss))(THETA),
    }
    scale = float(expected.abs().max())
    for way, value in found.items():
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-5 * scale, msg=f"{way}: {value} {expected}")


@pytest.mark.parametrize("part", PARTS)
def test_vmap_over_poses(part, loss):
    thetas = torch.stack([THETA, -THETA])
    if part in WITHOUT_VMAP:
        with pytest.raises(RuntimeError, match=rf"vmap: {part} takes a batch as it is; give tensors with a leading"):
            torch.vmap(loss)(thetas)
        return
    torch.testing.assert_close(torch.vmap(loss)(thetas), torch.stack([loss(theta) for theta in thetas]))
    torch.testing.assert_close(
        torch.vmap(torch.func.grad(loss))(thetas), torch.stack([slope(loss, theta) for theta in thetas])
    )
