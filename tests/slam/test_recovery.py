"""Wide steps: frames that alignment alone would find wrongly, or not at all, are found by local features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng import evaluation
from gradslam_ng.datasets import load
from gradslam_ng.geometry import camera, se3
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import RGBDFrames

SIZE = (120, 160)


def texture(frames: RGBDFrames, seed: int = 3) -> RGBDFrames:
    """The same room papered with noise that has detail at every scale."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.randn(48, 3, generator=generator) * torch.logspace(0.6, 1.7, 48)[:, None]
    phases = 6.3 * torch.rand(48, 3, generator=generator)
    points = se3.transform(frames.T_wc[:, None], camera.unproject(frames.depth, frames.K).flatten(1, 2)[:, None])[:, 0]
    noise = torch.sin((points @ waves.T)[..., None] + phases).mean(-2)
    return RGBDFrames((0.5 + noise).clamp(0, 1).reshape(frames.color.shape), frames.depth, frames.K, frames.T_wc)


def walk(room, step: float, count: int = 8) -> RGBDFrames:
    """A camera that moves by some 12 cm and 6 degrees a frame, times `step`, to and fro."""
    s = step * torch.tensor([0.0, 1, 2, 3, 2.4, 1.2, 0.2, 1.1], dtype=torch.float64)[:count, None]
    twist = s * torch.tensor([0.08, -0.02, 0.08, 0.02, 0.1, 0.02], dtype=torch.float64)
    return texture(room.view(room.walk(1) @ se3.exp(twist), SIZE))


def errors(result, frames: RGBDFrames) -> tuple[Tensor, Tensor]:
    """Meters and radians (L,)."""
    xi = se3.log(se3.inverse(frames.T_wc.double()) @ result.trajectory.T_wc)
    return xi[:, :3].norm(dim=-1), xi[:, 3:].norm(dim=-1)


SYSTEMS = {
    "PointFusion": lambda: gs.PointFusion(),
    "KinectFusion": lambda: gs.KinectFusion(voxel_size=0.04, truncation=0.12),
    "ICPOdometry": lambda: gs.ICPOdometry(),
    "ICPSLAM": lambda: gs.ICPSLAM(),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_wide_steps_are_tracked(room, system):
    frames = walk(room, 1.0)
    result = SYSTEMS[system]().run(room.InMemory(frames))
    meters, radians = errors(result, frames)
    assert (result.statuses == TrackingStatus.TRACKED).all() and not result.relocalized
    assert meters.max() < 0.01 and radians.max() < 0.01


def test_a_step_alone_does_not_find_them(room):
    """What is tested above is wide: frame by frame, without features, the same camera is lost or wrong."""
    frames = walk(room, 1.0)
    with torch.no_grad():
        _, T_wc = gs.PointFusion()(frames)
    xi = se3.log(se3.inverse(frames.T_wc.double()) @ T_wc[0].double())
    assert xi[:, :3].norm(dim=-1).max() > 0.05


def test_steps_that_are_not_wide_ask_for_no_features(room, monkeypatch):
    asked = []
    monkeypatch.setattr("gradslam_ng.slam.submap_tracking.sift", lambda image: asked.append(image))
    frames = texture(room.view(room.walk(12), SIZE))
    result = gs.PointFusion().run(room.InMemory(frames))
    assert result.tracked.all() and not asked


def test_a_wide_step_that_nothing_confirms_is_uncertain_or_lost(room):
    """Without texture only shape is left, which may be right or not: it is not called tracked."""
    bare = walk(room, 1.0)
    bare = RGBDFrames(torch.full_like(bare.color, 0.5), bare.depth, bare.K, bare.T_wc)
    result = gs.PointFusion().run(room.InMemory(bare))
    meters, _ = errors(result, bare)
    assert (meters[result.statuses == TrackingStatus.TRACKED] < 0.05).all()


def test_features_are_those_of_the_last_tracked_frame(room):
    """After a frame that was lost, wide steps are found from the one tracked since."""
    twist = torch.tensor([[0.0, 0], [0, 2.5], [0.01, 0.01], [0.15, 0.12]], dtype=torch.float64)
    twist = torch.cat([twist[:, :1], torch.zeros(4, 3), twist[:, 1:], torch.zeros(4, 1)], -1)
    frames = texture(room.view(room.walk(1) @ se3.exp(twist), SIZE))
    result = gs.ICPOdometry().run(room.InMemory(frames))
    assert result.tracked.tolist() == [True, False, True, True]
    assert errors(result, frames)[0][[0, 2, 3]].max() < 0.01


def test_a_frame_is_fused_where_features_found_it(room):
    frames = walk(room, 1.0)
    result = gs.PointFusion().run(room.InMemory(frames))
    created = result.map.created[result.map.mask].unique().tolist()
    assert created == list(range(len(frames)))
    mesh_of = result.map.points[result.map.mask].double()
    walls = torch.cat([(mesh_of - room.corners[0]).abs(), (mesh_of - room.corners[1]).abs()], -1).amin(-1)
    crate = torch.cat([(mesh_of - room.crate[0]).abs(), (mesh_of - room.crate[1]).abs()], -1).amin(-1)
    assert torch.minimum(walls, crate).quantile(0.95) < 0.01


@pytest.mark.parametrize("blank", ["depth", "color", "both"])
def test_a_second_without_images(room, blank):
    """Covered for a while, the camera goes on where it is seen again; nothing covered is called tracked."""
    frames = walk(room, 0.15)
    frames = RGBDFrames(
        *(torch.cat([x, x[-1:].expand(6, *x.shape[1:]), x[-1:]]) for x in vars(frames).values() if x is not None)
    )
    color, depth = frames.color.clone(), frames.depth.clone()
    if blank != "depth":
        color[8:14] = 0.0
    if blank != "color":
        depth[8:14] = 0.0
    frames = RGBDFrames(color, depth, frames.K, frames.T_wc)
    result = gs.PointFusion().run(room.InMemory(frames))
    meters, _ = errors(result, frames)
    assert result.tracked[:8].all() and result.tracked[-1] and meters[result.tracked].max() < 0.01
    assert blank == "color" or not result.tracked[8:14].any()


def test_a_recording_that_starts_without_depth(room):
    frames = walk(room, 1.0)
    depth = frames.depth.clone()
    depth[:3] = 0.0
    frames = RGBDFrames(frames.color, depth, frames.K, frames.T_wc)
    result = gs.PointFusion().run(room.InMemory(frames))
    assert result.tracked.tolist() == [False] * 3 + [True] * 5
    meters, _ = errors(result, frames)
    assert meters[3:].max() < 0.01


def test_identical_frames_stay(room):
    frames = texture(room.view(room.walk(1).expand(4, 4, 4), SIZE))
    result = gs.PointFusion().run(room.InMemory(frames))
    assert (result.statuses == TrackingStatus.TRACKED).all() and errors(result, frames)[0].max() < 1e-4


def test_a_walk_through_an_office(shared_data):
    """A person with a HoloLens: 8 cm and 5 degrees a frame; its first 24 frames."""
    sequence = load(str(shared_data / "hololens" / "office_walk"))[:24]
    result = gs.PointFusion().run(sequence)
    assert result.tracked.all()
    assert evaluation.ate(sequence.ground_truth, result.trajectory).rmse < 0.025
