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
from gradslam_ng.geometry.lens import Lens, undistort_images, undistortion_map
from gradslam_ng.geometry.registration import register_color
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


@pytest.mark.parametrize("degrees", [60, 75, 84, 89])
def test_slanted_planes_from_where_they_were_measured(degrees):
    """A plane slanted about the column has all points of a column equally far away, in front of their neighbors."""
    K = torch.tensor([[35.2, 0, 15.5], [0, 35.2, 11.5], [0, 0, 1]], dtype=D)
    normal = torch.tensor([math.sin(math.radians(degrees)), 0, -math.cos(math.radians(degrees))], dtype=D)
    rays = camera.unproject(torch.ones(*SIZE, 1, dtype=D), K)
    depth = 1.5 * normal[2] / (rays @ normal)
    points = (rays * depth[..., None])[(depth > 0.2) & (depth < 6)][None]
    assert points.shape[1] > 50
    values = torch.rand(6, points.shape[1], generator=torch.Generator().manual_seed(0), dtype=D)
    color, radii, confidences = values[:3].mT[None], 0.02 + 0.02 * values[None, 3], 0.3 + values[None, 4]
    times = torch.zeros(1, points.shape[1], dtype=torch.int64)

    def seen(x: dict[str, Tensor]) -> dict[str, Tensor]:
        normals = normal.expand_as(points)
        count = torch.tensor([points.shape[1]])
        map_ = gs.SurfelMap(x["points"], normals, color, radii, confidences, times, times, count)
        shown = gs.render(map_, se3.exp(x["pose"]), x["K"][None], SIZE)
        return {name: getattr(shown, name) for name in ("color", "depth", "normal")}

    assert_free_differences(seen, {"points": points, "K": K, "pose": torch.zeros(1, 6, dtype=D)})


def test_the_color_camera_is_the_depth_camera():
    """Calibration begins there: without distortion or parallax every pixel is looked up at its own center."""
    K = torch.tensor([[35.2, 0, 15.5], [0, 35.2, 11.5], [0, 0, 1]], dtype=D)
    color, depth = (x[0] for x in view(K, 1, 1e-3))

    def looked_up(x: dict[str, Tensor]) -> dict[str, Tensor]:
        registered, _ = register_color(color, depth, x["K"][None], K[None], se3.exp(x["pose"]), Lens(x["lens"]))
        undistorted, _ = undistort_images(color, depth, undistortion_map(x["K"], Lens(x["lens"]), SIZE)[None])
        return {"registered": registered[:, 1:-1, 1:-1], "undistorted": undistorted}  # who is seen changes at the rim

    x = {"K": K, "pose": torch.zeros(1, 6, dtype=D), "lens": torch.zeros(4, dtype=D)}
    assert_free_differences(looked_up, x)


@torch.no_grad()
def test_a_truncation_of_whole_voxels():
    """A change of it by nothing allocates no other blocks."""
    K = torch.tensor([[35.2, 0, 15.5], [0, 35.2, 11.5], [0, 0, 1]], dtype=D)
    color, depth = view(K, 1, 1e-3)
    frames = gs.RGBDFrames(color, depth, K, torch.eye(4, dtype=D).expand(1, 1, 4, 4))
    truncations = torch.tensor([0.12 - 1e-9, 0.12, 0.12 + 1e-9], dtype=D)  # half of a block: two steps each way
    found = [gs.KinectFusion("ground-truth", voxel_size=0.03, truncation=t, factor=1)(frames)[0] for t in truncations]
    for other in found[1:]:
        torch.testing.assert_close(other.keys, found[0].keys)
