"""What a camera is shown may mislead it: no frame that is called tracked is wrong, and what a lost camera costs is
bounded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.places import SearchTurns, in_turn
from gradslam_ng.structures import RGBDFrames
from tests.slam.test_recovery import texture, walk
from tests.slam.test_submaps import ELSEWHERE, THERE, clip

SIZE = (120, 160)


def silently_wrong(result, T_wc: Tensor) -> list[int]:
    """Frames called tracked that moved by more than 5 cm or 5 degrees other than the truth since the last with a
    pose."""
    wrong, before = [], None
    for i, status in enumerate(result.statuses.tolist()):
        if before is not None and status == TrackingStatus.TRACKED:
            moved, truth = (se3.inverse(T[before]) @ T[i] for T in (result.trajectory.T_wc, T_wc.double()))
            meters, radians = se3.distance(moved, truth)
            if meters > 0.05 or radians > math.radians(5):
                wrong.append(i)
        before = i if result.tracked[i] else before
    return wrong


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("speed", [0.1, 1.0])
def test_all_of_one_color(room, value, speed):
    frames = walk(room, speed)
    result = gs.PointFusion().run(room.InMemory(replace(frames, color=torch.full_like(frames.color, value))))
    assert not silently_wrong(result, frames.T_wc)
    assert speed == 1.0 or result.tracked.all()


def patch_at(frames: RGBDFrames, column: int, i: int, generator: torch.Generator) -> None:
    """Something textured, 0.7 m away, over a third of the image from that column on."""
    pattern = torch.rand(SIZE[0] // 2, 14, 3, generator=generator).repeat_interleave(2, 0).repeat_interleave(4, 1)
    frames.color[i, :, column : column + 56], frames.depth[i, :, column : column + 56] = pattern, 0.7


def test_features_on_a_moving_object_alone(room):
    """All else is gray, and the camera stands still: matches, and brightness, say that it moves with the object."""
    frames = walk(room, 0.0)
    frames = replace(frames, color=torch.full_like(frames.color, 0.5), depth=frames.depth.clone())
    for i in range(len(frames.depth)):
        patch_at(frames, 10 + 12 * i, i, torch.Generator().manual_seed(0))
    assert not silently_wrong(gs.PointFusion().run(room.InMemory(frames)), frames.T_wc)


def test_a_mirror(room):
    """The left half shows, and measures, the right half the other way around."""
    frames = walk(room, 0.3)
    half = SIZE[1] // 2
    for image in (frames.color, frames.depth):
        image[:, :, :half] = image[:, :, half:].flip(2)
    assert not silently_wrong(gs.PointFusion().run(room.InMemory(frames)), frames.T_wc)


def test_a_recording_that_starts_with_noise(room):
    """The map begins with what is no room; what comes after gets a pose in it, or in a map of its own."""
    frames = walk(room, 0.3)
    color, depth = (
        torch.rand(3, *x.shape[1:], generator=torch.Generator().manual_seed(1)) for x in (frames.color, frames.depth)
    )
    parts = (color, frames.color), (1 + depth, frames.depth), (frames.K[:3], frames.K), (frames.T_wc[:3], frames.T_wc)
    noisy = RGBDFrames(*(torch.cat(pair) for pair in parts))
    result = gs.PointFusion().run(room.InMemory(noisy))
    assert not [i for i in silently_wrong(result, noisy.T_wc) if i > 3]


def test_texture_that_repeats(room):
    """The same every 20 cm: wide steps have many ways to fit."""
    frames = walk(room, 1.0)
    points = se3.transform(
        frames.T_wc[:, None], gs.geometry.camera.unproject(frames.depth, frames.K).flatten(1, 2)[:, None]
    )[:, 0]
    color = 0.5 + 0.4 * torch.sin(points * 2 * math.pi / 0.2).prod(-1, keepdim=True).expand(-1, -1, 3)
    frames = replace(frames, color=color.reshape(frames.color.shape).float())
    assert not silently_wrong(gs.PointFusion().run(room.InMemory(frames)), frames.T_wc)


def test_every_pose_has_a_covariance(room):
    frames = texture(room.view(room.walk(6), SIZE))
    frames.depth[3] = 0.0
    result = gs.PointFusion().run(room.InMemory(frames))
    known = result.covariances.isfinite().flatten(1).all(-1)
    assert torch.equal(known, result.tracked) and known.tolist() == [True] * 3 + [False] + [True] * 2
    assert (torch.linalg.eigvalsh(result.covariances[[1, 2, 4, 5]]) > 0).all() and not result.covariances[0].any()


def test_those_most_similar_take_turns():
    assert [in_turn([5, 3, 1], frame) for frame in range(4)] == [[5, 3], [5, 1], [5, 3], [5, 1]]
    assert in_turn([], 1) == [] and in_turn([4], 1) == [4] and in_turn([4, 2], 7) == [4, 2]


def test_of_lost_frames_that_show_the_same_every_second_is_looked_for():
    turns, same, other = SearchTurns(), torch.tensor([[0.8, 0.6], [0.0, 1.0]]), torch.tensor([[0.6, -0.8]])
    assert [turns.is_due(same) for _ in range(4)] == [True, False, True, False]
    assert turns.is_due(same) and turns.is_due(other), "what was looked for in vain is another view"
    turns.found()
    assert turns.is_due(other), "the camera was found in between"
    tried = SearchTurns()
    chosen = [tried.choose([5, 3, 1]) for _ in range(8) if tried.is_due(same)]
    assert [one[0] for one in chosen] == [5] * 4 and {one[1] for one in chosen} == {3, 1}, "all others have their turn"


def test_what_a_lost_camera_costs_does_not_grow_with_places(room, monkeypatch):
    """Two comparisons of features a frame, whatever the number of keyframes and submaps."""
    compared = []
    monkeypatch.setattr("gradslam_ng.places.relocalization.locate", lambda *_: compared.append(1))
    degrees = torch.cat([THERE, torch.full((10,), 40), ELSEWHERE, torch.full((4,), 300)])
    frames = clip(room, degrees, slice(10, 20))
    result = gs.PointFusion().run(room.InMemory(frames), relocalizer=gs.Relocalizer(spacing=(0.01, 1.0)))
    lost = int((~result.tracked & (frames.depth > 0).flatten(1).any(-1)).sum())
    assert 4 <= len(compared) <= 2 * lost
