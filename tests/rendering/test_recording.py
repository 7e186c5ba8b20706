"""Values do not depend on whether gradients are recorded; derivatives of second order are right."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.rendering import predict_surfels, predict_volume

SIZE = (36, 48)
MODES = {"inference": torch.inference_mode, "enabled": torch.enable_grad, "required": contextlib.nullcontext}
ARRAYS = ("sdf", "weight", "color", "color_weight")


@pytest.fixture(scope="module")
def frames(room) -> gs.RGBDFrames:
    clip = room.view(room.walk(13)[::6], SIZE)
    noise = torch.randn(clip.depth.shape, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(clip, depth=clip.depth + 0.002 * noise)


def volume(frames: gs.RGBDFrames) -> gs.VoxelGrid:
    grid = gs.VoxelGrid.empty(1, 0.047, 0.19, dtype=frames.depth.dtype)
    for i in range(len(frames)):
        grid = gs.integrate(grid, frames[i])
    return grid


def everything(frames: gs.RGBDFrames) -> dict[str, Tensor]:
    """All that is rendered, cast, asked and extracted of maps of frames (L,)."""
    T_wc, K = frames.T_wc[-1:], frames.K[-1:]
    grid, (map_, _) = volume(frames), gs.PointFusion("ground-truth", factor=1)(frames)
    mesh = gs.marching_cubes(grid)
    views = {"render": gs.render(map_, T_wc, K, SIZE), "raycast": gs.raycast(grid, T_wc, K, SIZE)}
    views |= {"surfels": predict_surfels(map_, T_wc, K, SIZE, 1.0), "volume": predict_volume(grid, T_wc, K, SIZE)}
    values = {f"{name} {field}": value for name, view in views.items() for field, value in vars(view).items()}
    values |= {f"grid {name}": getattr(grid, name)[grid.slots] for name in ARRAYS}
    values |= {f"mesh {name}": getattr(mesh, name) for name in ("vertices", "normals", "colors", "weights")}
    points = se3.transform(T_wc, 1.01 * views["volume"].vertices.flatten(1, 2))
    values |= zip(("query sdf", "query gradient", "query weight"), grid.query(points), strict=True)
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


@pytest.fixture(scope="module")
def without_gradients(frames) -> dict[str, Tensor]:
    with torch.no_grad():
        return everything(frames)


@pytest.mark.parametrize("mode", MODES)
def test_values_are_the_same_with_gradients_and_without(mode: str, frames, without_gradients):
    depth = frames.depth.clone().requires_grad_(mode == "required")
    with MODES[mode]():
        found = everything(dataclasses.replace(frames, depth=depth))
    assert found.keys() == without_gradients.keys() and found["raycast depth"].requires_grad == (mode == "required")
    for name, value in without_gradients.items():
        assert torch.allclose(found[name].to(value.dtype), value, rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("system", [gs.ICPOdometry, gs.ICPSLAM, gs.PointFusion, gs.KinectFusion])
def test_poses_are_the_same_with_gradients_and_without(system: Callable, frames):
    options = {"voxel_size": 0.047, "truncation": 0.19} if system is gs.KinectFusion else {}
    clip = dataclasses.replace(frames, T_wc=None)
    with torch.no_grad():
        expected = system(factor=1, **options)(clip)[1]
    for mode, context in MODES.items():
        depth = clip.depth.clone().requires_grad_(mode == "required")
        with context():
            T_wc = system(factor=1, **options)(dataclasses.replace(clip, depth=depth))[1]
        assert torch.allclose(T_wc, expected, rtol=0, atol=1e-6), mode


@pytest.fixture(scope="module")
def grid(frames) -> gs.VoxelGrid:
    with torch.no_grad():
        return volume(frames.map(lambda value: value.double()))


@pytest.fixture(scope="module")
def looks(grid, frames) -> dict[str, tuple[Callable[..., Tensor], dict[str, Tensor]]]:
    """Functions of tensors, numbers in the end, and where to look at them."""
    beside = torch.tensor([[0.013, -0.021, 0.017, 0.031, -0.023, 0.041]], dtype=torch.float64)  # no ties of pixels
    T_wc, K = frames.T_wc[1:2].double() @ se3.exp(beside), frames.K[1:2].double()
    with torch.no_grad():
        seen = gs.raycast(grid, T_wc, K, SIZE)
        inner = (seen.weight > 0.3)[..., 0]
        map_ = gs.PointFusion("ground-truth", factor=1)(frames.map(lambda value: value.double()))[0]
        points = se3.transform(T_wc, 0.99 * predict_volume(grid, T_wc, K, SIZE).vertices.flatten(1, 2))

    def weighed(value: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return (torch.randn(value.shape, generator=generator, dtype=value.dtype) * value.square()).sum()

    def cast(xi: Tensor, sdf: Tensor, weight: Tensor) -> Tensor:
        view = gs.raycast(dataclasses.replace(grid, sdf=sdf, weight=weight), se3.exp(xi) @ T_wc, K, SIZE)
        return weighed(view.depth[inner]) + weighed(view.color[inner]) + weighed(view.weight[inner])

    def ask(points: Tensor, sdf: Tensor, weight: Tensor) -> Tensor:
        found = dataclasses.replace(grid, sdf=sdf, weight=weight).query(points)
        return sum((weighed(value) for value in found), start=torch.zeros(()))

    def draw(xi: Tensor, points: Tensor, radii: Tensor) -> Tensor:
        view = gs.render(dataclasses.replace(map_, points=points, radii=radii), se3.exp(xi) @ T_wc, K, SIZE)
        return weighed(view.depth) + weighed(view.color)

    xi = torch.zeros(1, 6, dtype=torch.float64)
    return {
        "raycast": (cast, {"xi": xi, "sdf": grid.sdf, "weight": grid.weight}),
        "query": (ask, {"points": points, "sdf": grid.sdf, "weight": grid.weight}),
        "render": (draw, {"xi": xi, "points": map_.points, "radii": map_.radii}),
    }


@pytest.mark.parametrize("name", ["raycast", "query", "render"])
def test_first_and_second_derivatives_are_those_of_central_differences(name: str, looks):
    function, inputs = looks[name]
    generator = torch.Generator().manual_seed(0)

    def first(values: dict[str, Tensor], create_graph: bool = False) -> list[Tensor]:
        leaves = {key: value.detach().requires_grad_() for key, value in values.items()}
        found = torch.autograd.grad(function(**leaves), list(leaves.values()), create_graph=create_graph)
        return [leaves, *found] if create_graph else list(found)

    scales = {key: torch.ones_like(x) if key == "xi" else x for key, x in inputs.items()}
    towards = {key: x * torch.randn(x.shape, generator=generator, dtype=x.dtype) for key, x in scales.items()}
    leaves, *gradients = first(inputs, create_graph=True)
    along = sum((g * t).sum() for g, t in zip(gradients, towards.values(), strict=True))
    second = torch.autograd.grad(along, list(leaves.values()))
    for key, direction in towards.items():
        h = 1e-7
        ends = [inputs | {key: inputs[key] + sign * h * direction} for sign in (1, -1)]
        slopes = [function(**end).item() for end in ends]
        numeric = (slopes[0] - slopes[1]) / (2 * h)
        analytic = (gradients[list(inputs).index(key)] * direction).sum().item()
        assert analytic == pytest.approx(numeric, rel=1e-4, abs=1e-5), key
        slopes = [sum((g * t).sum() for g, t in zip(first(end), towards.values(), strict=True)) for end in ends]
        numeric = ((slopes[0] - slopes[1]) / (2 * h)).item()
        analytic = (second[list(inputs).index(key)] * direction).sum().item()
        assert analytic == pytest.approx(numeric, rel=1e-3, abs=1e-4), key
