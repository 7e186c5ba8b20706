"""Points that lie on borders between pixels or voxels, as they do from where a map was made: rounding decides nothing.

No discrete choice is held here. A camera that is its images' center, at the world's origin, sees planes of voxels edge
on at borders of pixels or through their centers, and the discs of its own surfels reach the next pixels' centers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from benchmarks.gradient_errors import SCENES, SIZE
from gradslam_ng.geometry import camera, se3
from gradslam_ng.slam.system import System

D = torch.float64
CENTERS = {"between pixels": (15.5, 11.5), "at a pixel": (16.0, 12.0)}  # principal points
MAP = ("points", "normals", "radii")
VOLUME = ("sdf", "weight", "color")


def make(system: type[System]) -> System:
    sizes = {"voxel_size": 0.03, "truncation": 0.12} if system is gs.KinectFusion else {}
    return system("ground-truth", factor=1, **sizes)


def view(K: Tensor, frames: int, noise: float) -> tuple[Tensor, Tensor]:
    """Color and depth (1, L, H, W, ...) of a corner, always seen from the origin, with noise in meters."""
    rays = camera.unproject(torch.ones(*SIZE, 1, dtype=D), K)
    depth = torch.ones(*SIZE, 1, dtype=D)
    for _ in range(150):
        depth = depth + 0.5 * SCENES["corner"](rays * depth)[..., None]
    color = 0.5 + 0.3 * torch.sin(rays * depth @ torch.tensor([[9.0, 4, 5], [3, 8, 6], [5, 7, 3]], dtype=D))
    depth = depth + noise * torch.randn(depth.shape, generator=torch.Generator().manual_seed(0), dtype=D)
    return color.expand(1, frames, *color.shape), depth.expand(1, frames, *depth.shape)


def run(slam: System, x: dict[str, Tensor]) -> dict[str, Tensor]:
    """The map, and what it looks like from the pose of all frames."""
    T_wc = se3.exp(x["pose"]).expand(x["depth"].shape[1], 4, 4)
    map_, poses = slam(gs.RGBDFrames(x["color"], x["depth"], x["K"], T_wc[None]))
    if isinstance(map_, gs.VoxelGrid):
        shown, names = gs.raycast(map_, poses[:, -1], x["K"][None], SIZE), VOLUME
        found = {name: getattr(map_, name)[map_.slots] for name in names}
    else:
        shown, names = gs.render(map_, poses[:, -1], x["K"][None], SIZE), MAP
        found = {name: getattr(map_, name)[map_.mask] for name in names}
    return found | {f"{name} seen": getattr(shown, name) for name in ("color", "depth", "normal")}


def sums(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """One random sum an output."""
    found = {}
    for name, value in outputs.items():
        weight = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=D)
        found[name] = (weight * value).sum() / math.sqrt(value.numel())
    return found


def assert_free_differences(evaluate: Callable[[dict[str, Tensor]], dict[str, Tensor]], x: dict[str, Tensor]) -> None:
    """Gradients are central differences, whatever choices change on the way."""
    leaves = {name: value.clone().requires_grad_() for name, value in x.items()}
    base = sums(evaluate(leaves))
    for moved, value in x.items():
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(2), dtype=D)
        if moved == "K":
            direction = torch.tensor([[-10.0, 0, -20], [0, 40, 30], [0, 0, 0]], dtype=D)
        with torch.no_grad():
            ends = [sums(evaluate(x | {moved: value + step * direction})) for step in (1e-8, -1e-8)]
        for name, total in base.items():
            (gradient,) = torch.autograd.grad(total, leaves[moved], retain_graph=True, materialize_grads=True)
            exact, difference = (gradient * direction).sum(), (ends[0][name] - ends[1][name]) / 2e-8
            assert abs(exact - difference) < 1e-4 * max(abs(exact), abs(difference), 0.1), (name, moved)


@pytest.mark.parametrize(
    ("system", "frames", "noise", "center"),
    [
        (gs.PointFusion, 1, 1e-3, "between pixels"),
        (gs.PointFusion, 2, 0.0, "at a pixel"),
        (gs.KinectFusion, 1, 1e-3, "at a pixel"),
        (gs.KinectFusion, 1, 0.0, "between pixels"),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_maps_and_images_from_the_origin(system, frames, noise, center):
    """Without noise planes are exact, and both neighbors of a pixel differ from it alike."""
    K = torch.tensor([[35.2, 0, CENTERS[center][0]], [0, 35.2, CENTERS[center][1]], [0, 0, 1]], dtype=D)
    color, depth = view(K, frames, noise)
    x = {"depth": depth, "K": K, "pose": torch.zeros(1, 6, dtype=D)}
    assert_free_differences(lambda x: run(make(system), x | {"color": color}), x)


@torch.no_grad()
@pytest.mark.parametrize("system", [gs.PointFusion, gs.KinectFusion], ids=lambda s: s.__name__)
def test_a_wall_that_is_whole_voxels_away(system):
    """Seen from two places a pixel apart: rounding of the depth moves nothing by more than that."""
    K = torch.tensor([[35.2, 0, 15.5], [0, 35.2, 11.5], [0, 0, 1]], dtype=D)
    color = torch.rand(1, 2, *SIZE, 3, generator=torch.Generator().manual_seed(0), dtype=D)
    T_wc = torch.eye(4, dtype=D).repeat(1, 2, 1, 1)
    T_wc[0, 1, 0, 3] = 1.5 / 35.2
    rounding = 1e-10 * torch.randn(1, 2, *SIZE, 1, generator=torch.Generator().manual_seed(1), dtype=D)
    found = []
    for depth in (1.5 + rounding, 1.5 - rounding):
        map_, _ = make(system)(gs.RGBDFrames(color, depth, K, T_wc))
        names = VOLUME if system is gs.KinectFusion else MAP
        found.append([getattr(map_, name) for name in names])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
