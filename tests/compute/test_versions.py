"""A version takes every call of its kind: calls that share a file on disk share the sizes that it leaves open."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.compute.kernel_compiler import decompositions, trace
from gradslam_ng.compute.kernel_files import Generated, Version
from gradslam_ng.compute.kernel_library import Call, KernelLibrary


def version_of(call: Call) -> Version:
    """Without code."""
    request = call.request()
    table = decompositions(small_products=not request.function.fuse_reductions)
    traced = trace(request.function.plain, request.structure, request.specs, table)
    return Version(Generated("", {}, traced.guard, len(traced.inputs), traced.aliases, traced.structure), run=list)


@pytest.fixture
def kinds(monkeypatch) -> dict[str, list[Call]]:
    """Calls of compiled functions, which run plain, by the file that their version would be in."""
    found: dict[str, list[Call]] = {}

    def provide(self, call: Call, wait: bool) -> None:
        found.setdefault(call.request().digest, []).append(call)

    monkeypatch.setattr(KernelLibrary, "find", lambda *_: None)
    monkeypatch.setattr(KernelLibrary, "provide", provide)
    return found


def assert_shared(kinds: dict[str, list[Call]], functions: set[str]) -> None:
    """Calls of these functions that differ in sizes are all taken by the version for the first."""
    for calls in kinds.values():
        name = calls[0].function.name.split(".")[-1]
        if name in functions and differ(calls):
            version = version_of(calls[0])
            assert all(version.accepts(*call.tensors) for call in calls), name
            functions = functions - {name}
    assert not functions


def differ(calls: list[Call]) -> bool:
    return len({tuple(x.shape for x in call.tensors) for call in calls}) > 1


@torch.no_grad()
def test_a_volume_that_grows(room, kinds):
    clip = room.view(room.walk(3), (24, 32))
    with compilation():
        for width in (8, 32):
            depth = torch.where(torch.arange(32)[:, None] < width, clip.depth, 0)
            frames = gs.RGBDFrames(clip.color, depth, clip.K, clip.T_wc)
            grid, _ = gs.KinectFusion("ground-truth", voxel_size=0.08, truncation=0.16, factor=1)(frames)
            gs.raycast(grid, clip.T_wc[:1], clip.K[:1], clip.size)
    assert_shared(kinds, {"fuse", "has_surface", "march"})
    names = [calls[0].function.name.split(".")[-1] for calls in kinds.values()]
    assert names.count("intersect_surface") == 2  # with offsets of rays and without, whatever box the blocks fill


@torch.no_grad()
def test_batches_of_any_size(room, kinds):
    """Images and maps are worked on by the versions for one sequence, whatever their size."""
    clip = room.view(room.walk(2), (24, 32))
    odometry = gs.ProjectiveICP(iterations=(1, 1), rotation_iterations=0)
    ones: set[str] = set()
    with compilation():
        for batch in (1, 2, 3):
            images = (x[None].repeat(batch, *[1] * x.ndim) for x in (clip.color, clip.depth, clip.K))
            gs.PointFusion(odometry, factor=1)(gs.RGBDFrames(*images))
            ones = ones or set(kinds)
    assert_shared(kinds, {"linearize_point_to_plane", "linearize_photometric"})
    more = {calls[0].function.name.split(".")[-1] for name, calls in kinds.items() if name not in ones}
    assert more == {"_propose", "_accept", "remap_solution"}
