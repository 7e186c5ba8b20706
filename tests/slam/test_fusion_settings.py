"""What of fusion can be learned: what is in `parameters()` is what is used, and its gradient is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gradslam_ng as gs
from gradslam_ng.mapping import PointFuser, TSDFFuser

SIZE = (24, 32)


def point_fusion(sigma: float | Tensor = 0.6, stable_confidence: float | Tensor = 1.0) -> gs.PointFusion:
    return gs.PointFusion(mapper=PointFuser(sigma, stable_confidence=stable_confidence), factor=1)


def kinect_fusion(truncation: float | Tensor = 0.2) -> gs.KinectFusion:
    return gs.KinectFusion(voxel_size=0.047, truncation=truncation, factor=1)


SETTINGS = {"sigma": (point_fusion, 0.6, "mapper."), "stable_confidence": (point_fusion, 1.0, "mapper.")}
SETTINGS |= {"truncation": (kinect_fusion, 0.2, "")}


@pytest.fixture(scope="module")
def frames(room) -> gs.RGBDFrames:
    clip = room.view(room.walk(9)[::3], SIZE, torch.float64)
    noise = torch.randn(clip.depth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return gs.RGBDFrames(clip.color, clip.depth + 0.003 * noise, clip.K)


def summary(output: tuple[gs.SurfelMap | gs.VoxelGrid, Tensor]) -> Tensor:
    """A number that depends on map and poses."""
    map_, T_wc = output
    if isinstance(map_, gs.VoxelGrid):
        return map_.sdf[map_.slots].square().mean() + T_wc[..., :3, 3].square().sum()
    return map_.points[map_.mask].square().mean() + 100 * T_wc[..., :3, 3].square().sum()


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_parameter_is_used_however_it_came(name: str, frames):
    make, value, prefix = SETTINGS[name]
    other = scalar(1.3 * value)
    with torch.no_grad():
        expected = summary(make(**{name: 1.3 * value})(frames))
        assert expected != summary(make()(frames))
        slam = make(**{name: nn.Parameter(scalar(value))})
        assert [key for key, _ in slam.named_parameters() if key.endswith(name)] == [prefix + name]
        found = [summary(torch.func.functional_call(slam, {prefix + name: other}, (frames,)))]
        slam.load_state_dict({prefix + name: other}, strict=False, assign=True)
        found.append(summary(slam(frames)))
        slam = make()
        setattr(slam.mapper if prefix else slam, name, nn.Parameter(other))
        assert prefix + name in dict(slam.named_parameters())
        found.append(summary(slam(frames)))
    assert all(torch.allclose(x, expected, rtol=1e-10) for x in found)


@pytest.mark.parametrize("name", SETTINGS)
def test_its_gradient_is_that_of_central_differences(name: str, frames, differences: Callable):
    make, value, _ = SETTINGS[name]

    def run(setting: Tensor) -> dict[str, Tensor]:
        return {"summary": summary(make(**{name: setting})(frames))}

    errors = differences(run, {"setting": scalar(value)}, {"setting": 1e-6})
    assert errors["summary", "setting"] <= 1e-4


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: gs.KinectFusion(voxel_size=p), "voxel_size"),
        (lambda p: gs.VoxelGrid.empty(1, p, 1.0), "voxel_size"),
        (lambda p: PointFuser(depth_gate=p), "depth_gate"),
        (lambda p: PointFuser(max_angle=p), "max_angle"),
        (lambda p: TSDFFuser().register_parameter("stable_confidence", p), "stable_confidence"),
        (lambda p: TSDFFuser().register_parameter("weight", p), "weight"),
    ],
)
def test_what_has_no_gradient_is_refused(make: Callable, name: str):
    with pytest.raises(TypeError, match=name):
        make(nn.Parameter(torch.tensor(0.02)))
