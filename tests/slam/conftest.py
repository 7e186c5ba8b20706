"""Short clips of the closed-form room, and a system that needs little time for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.slam.system import System
from gradslam_ng.structures import RGBDFrames, SurfelMap


@pytest.fixture(scope="package")
def clip(room) -> RGBDFrames:
    """Eight frames of 80x60, without a leading batch axis."""
    return room.view(room.walk(8))


@pytest.fixture(scope="package")
def other(room) -> RGBDFrames:
    """As many of another walk."""
    return room.view(room.walk(8, seed=7))


@pytest.fixture(scope="package")
def quick() -> Callable[..., System]:
    """Function (system class) -> system of fewer iterations: the steps between frames are small."""
    return lambda system=gs.PointFusion: system(ProjectiveICP(iterations=(3, 2, 2)))


@pytest.fixture(scope="package")
def blanked() -> Callable[[RGBDFrames, int, float], RGBDFrames]:
    """Function (clip, index, value) -> clip, the depth of one frame all of that value."""

    def blank(clip: RGBDFrames, index: int, value: float) -> RGBDFrames:
        depth = clip.depth.clone()
        depth[index] = value
        return RGBDFrames(clip.color, depth, clip.K, clip.T_wc)

    return blank


@pytest.fixture(scope="package")
def same_maps() -> Callable[..., None]:
    """Function (first, second, atol) that asserts that two maps hold the same surfels."""

    def compare(first: SurfelMap, second: SurfelMap, atol: float = 0.0) -> None:
        assert first.count.tolist() == second.count.tolist()
        for b in range(first.batch):
            for name, value in first[b].attributes().items():
                assert torch.allclose(value, getattr(second[b], name), rtol=0, atol=atol), name

    return compare
