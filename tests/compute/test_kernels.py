"""Every compiled function of the package against the plain one: values on whole runs, and gradients."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pkgutil
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.compute.compiled import CompiledFunction, compilation, compilation_enabled, compiled_functions
from gradslam_ng.compute.kernel_library import library
from gradslam_ng.compute.tree import tree_leaves
from gradslam_ng.rendering.index_map import index_map
from gradslam_ng.structures import VoxelGrid

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler"),
]
SIZE = (116, 154)  # no square
BACKWARD: set[str] = set()  # backward passes compared so far, or made ready by other tests


def name(function: CompiledFunction) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def made_ready() -> set[str]:
    """Names of all compiled backward passes that there are."""
    return {name(f) for f in compiled_functions() if name(f).endswith(".backward")}


def kernels() -> set[str]:
    """Names of all compiled functions of the package."""
    for module in pkgutil.walk_packages(gs.__path__, "gradslam_ng."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    names = {name(function) for function in compiled_functions()}
    return {name for name in names if name.startswith("gradslam_ng.") and not name.endswith(".backward")}


@pytest.fixture
def compared(monkeypatch) -> Iterator[set[str]]:
    """Names of the compiled functions that were called and gave what the plain ones do; any other fails the test."""
    found_same = set()
    run = CompiledFunction.__call__

    def call(self, *args, **kwargs):
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not compilation_enabled():
            return run(self, *args, **kwargs)
        with compilation(False):
            expected = self.plain(*fresh(args), **kwargs)  # it may write to a map
        found = run(self, *args, **kwargs)
        check(name(self), list(tree_leaves(found)), list(tree_leaves(expected)))
        found_same.add(name(self))
        return found

    BACKWARD.update(made_ready())  # by tests before
    monkeypatch.setattr(CompiledFunction, "__call__", call)
    monkeypatch.delenv("GRADSLAM_NG_KERNELS")  # the user's own folder: what has not changed is compiled once for all
    yield found_same
    assert library().failed == {} and library().count()[1] == 0


def fresh(value: Any) -> Any:
    """The value with copies of its tensors."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, tuple):
        parts = [fresh(part) for part in value]
        return tuple(parts) if type(value) is tuple else type(value)(*parts)
    if dataclasses.is_dataclass(value):
        value = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(value, field.name, fresh(getattr(value, field.name)))
    return value


def check(name: str, found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(found) == len(expected), name
    for value, truth in zip(found, expected, strict=True):
        if name.endswith(".backward"):  # numbers of any size
            assert (value - truth).norm() <= 1e-3 * truth.norm(), name
            continue
        if value.is_floating_point():
            close = torch.isclose(value, truth, rtol=1e-4, atol=1e-4, equal_nan=True)
        else:
            close = value == truth
        # where rounding decides, one pixel in a thousand may fall on the other side
        assert not close.numel() or (~close).float().mean() <= 1e-3, name


@pytest.fixture
def clip(room) -> gs.RGBDFrames:
    """Frames with noise and holes."""
    clip = room.view(room.walk(3), size=SIZE)
    generator = torch.Generator().manual_seed(0)
    noise = 1 + 0.004 * torch.randn(clip.depth.shape, generator=generator)
    holes = torch.rand(clip.depth.shape, generator=generator) < 0.05
    return gs.RGBDFrames(clip.color, torch.where(holes, 0, clip.depth * noise), clip.K, clip.T_wc)


def volume(**settings) -> gs.KinectFusion:
    return gs.KinectFusion(voxel_size=0.04, truncation=0.16, **settings)


def frames_of_surfels(clip: gs.RGBDFrames) -> None:
    gs.PointFusion(factor=2)(clip)


def frames_of_a_volume(clip: gs.RGBDFrames) -> None:
    volume(factor=2)(clip)


def images_of_surfels(clip: gs.RGBDFrames) -> None:
    with compilation(False):
        map_, _ = gs.PointFusion("ground-truth", factor=2)(clip)
    gs.render(map_, clip.T_wc[:1], clip.K[:1], SIZE)
    index_map(map_.points, map_.mask, clip.T_wc[:1], clip.K[:1], SIZE)  # in the above it is part of others


def images_of_a_volume(clip: gs.RGBDFrames) -> None:
    with compilation(False):
        grid, _ = volume(odometry="ground-truth", factor=2)(clip)
    gs.raycast(grid, clip.T_wc[:1], clip.K[:1], SIZE)
    with torch.enable_grad():  # to refine where rays end
        gs.raycast(grid, clip.T_wc[:1], clip.K[:1], SIZE)


def steps_of_training(clip: gs.RGBDFrames) -> None:
    """The first backward pass is plain, to see what it reaches."""
    found = []
    for enabled in (False, True, True):
        depth = clip.depth.clone().requires_grad_()
        with torch.enable_grad(), compilation(enabled, wait=True):
            odometry = gs.ProjectiveICP(iterations=(2,), rotation_iterations=0)  # fewer kinds to compile
            map_, T_wc = gs.PointFusion(odometry, factor=2)(gs.RGBDFrames(clip.color, depth, clip.K))
            (T_wc.square().sum() + map_.points.square().mean()).backward()
        found.append([depth.grad])
    same_gradients(found[0], found[2], tolerance=1e-2)  # where rounding decides, pairs may be others


PREPROCESSING = {"preprocessing.surface": {"measure_images", "limit_noise"}}
ODOMETRY = {
    "preprocessing.pyramid": {"subsample"},
    "odometry.point_to_plane": {"linearize_point_to_plane", "evaluate_point_to_plane"},
    "odometry.photometric": {"estimate_exposure", "linearize_photometric", "evaluate_photometric"},
    "odometry.motion_blur": {"blur_length"},
    "odometry.degeneracy": {"remap_solution"},
    "optim.solve": {"_propose", "_accept"},
}
SPLATTING = {"rendering.prediction": {"splat"}}
FUSION = {"mapping.point_fusion": {"match", "merge"}, "mapping.dynamics": {"dilate_at", "grow_regions"}}
RAY_CASTING = {
    "rendering.rays": {"ray_directions"},
    "rendering.tile_bounds": {"project_spheres", "tile_depth_ranges"},
    "rendering.raycast": {"has_surface", "march", "step_to_surface", "search_surface", "intersect_surface"},
}
INTEGRATION = {"mapping.tsdf": {"pack_tangent_planes", "block_cells", "in_free_space", "fuse"}}
TRAINING = {"rendering.prediction": {"show"}, "rendering.index_map": {"index_map"}}
TRAINING |= {"mapping.point_fusion": {"match", "average"}, "mapping.dynamics": {"dilate_at", "grow_regions"}}
RUNS = {
    frames_of_surfels: PREPROCESSING | ODOMETRY | SPLATTING | FUSION,
    frames_of_a_volume: PREPROCESSING | ODOMETRY | RAY_CASTING | INTEGRATION,
    images_of_surfels: {"rendering.surfels": {"disc_map", "shade"}, "rendering.index_map": {"index_map"}},
    images_of_a_volume: RAY_CASTING,
    steps_of_training: PREPROCESSING | {name: ODOMETRY[name] for name in ODOMETRY if "pyramid" not in name} | TRAINING,
}


def names(functions: dict[str, set[str]]) -> set[str]:
    return {f"gradslam_ng.{module}.{each}" for module, several in functions.items() for each in several}


@pytest.mark.parametrize("run", RUNS)
def test_compiled_functions_give_what_the_plain_ones_do(clip, compared, run):
    with torch.no_grad(), compilation(wait=True):
        run(clip)
    assert {name for name in compared if not name.endswith(".backward")} == names(RUNS[run])
    compared_backward(compared)


def test_every_compiled_function_is_compared():
    assert set().union(*map(names, RUNS.values())) == kernels()


def render_of(map_: gs.SurfelMap | VoxelGrid, T_wc: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    seen = (gs.render if isinstance(map_, gs.SurfelMap) else gs.raycast)(map_, T_wc, K, (45, 60))
    return seen.color.square().sum() + seen.depth.sum()


@pytest.mark.parametrize(("system", "names", "tolerance"), [
    (gs.ICPSLAM, ("points", "colors", "radii", "confidences"), 1e-4),
    (volume, ("sdf", "color"), 5e-2),  # where rounding decides, a ray may end between other voxels
])  # fmt: skip
def test_gradients_of_images_are_those_of_the_plain_functions(room, compared, system, names, tolerance):
    """Of a rendering, to all that it depends on; one output is not asked for, the rest of the map is fixed."""
    frames = room.view(room.walk(2), (45, 60))
    with torch.no_grad():
        map_ = system(odometry="ground-truth", factor=1)(frames)[0]
    found = []
    for enabled in (False, True):
        leaves = {name: getattr(map_, name).clone().requires_grad_() for name in names}
        T_wc, K = (x[:1].clone().requires_grad_() for x in (frames.T_wc, frames.K))
        with compilation(enabled, wait=True):
            render_of(dataclasses.replace(map_, **leaves), T_wc, K).backward()
        found.append([x.grad for x in (*leaves.values(), T_wc, K)])
    same_gradients(*found, tolerance=tolerance)
    compared_backward(compared)


def same_gradients(plain: list[torch.Tensor], compiled: list[torch.Tensor], tolerance: float) -> None:
    for mine, theirs in zip(compiled, plain, strict=True):
        assert theirs.abs().sum() > 0 and (mine - theirs).norm() <= tolerance * theirs.norm()


def compared_backward(compared: set[str]) -> None:
    """Every compiled backward pass that has been made ready is among those compared."""
    assert made_ready() <= BACKWARD | compared
    BACKWARD.update(compared)
