"""Camera paths: where a hand can be, how fast it moves, smooth, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradslam_ng.datasets.synthetic.paths import PATHS, Tour, camera_path
from gradslam_ng.datasets.synthetic.rooms import ROOMS, room

each_room = pytest.mark.parametrize("name", ROOMS)
each_path = pytest.mark.parametrize("path", PATHS)


def speeds(T_wc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Meters and degrees a second at 30 frames a second."""
    moved = (T_wc[1:, :3, 3] - T_wc[:-1, :3, 3]).norm(dim=-1)
    turn = (T_wc[:-1, :3, :3].mT @ T_wc[1:, :3, :3]).diagonal(dim1=-2, dim2=-1).sum(-1)
    return 30 * moved, 30 * torch.rad2deg(torch.arccos(((turn - 1) / 2).clamp(-1, 1)))


@each_room
@each_path
def test_poses_are_rigid_upright_clear_and_smooth(name, path):
    frames = 1500 if path == "loop" else 600
    times, T_wc = camera_path(path, room(name), frames)
    torch.testing.assert_close(times, torch.arange(frames, dtype=torch.float64) / 30)
    R_wc = T_wc[:, :3, :3]
    torch.testing.assert_close(R_wc.mT @ R_wc, torch.eye(3, dtype=torch.float64).expand(frames, 3, 3))
    assert (torch.linalg.det(R_wc) > 0).all()
    assert (R_wc[:, 2, 1] < -0.7).all()  # image down is world down
    assert room(name).clearance(T_wc[:, :3, 3]).min() > 0.4
    acceleration = T_wc[:, :3, 3].diff(n=2, dim=0).norm(dim=-1) * 30**2
    assert acceleration.max() < (25 if path == "fast" else 4)


@each_room
def test_human_speeds(name):
    meters, degrees = speeds(camera_path("handheld", room(name), 900)[1])
    assert 0.2 < meters.mean() < 0.5
    assert meters.max() < 0.8
    assert degrees.max() < 70
    fast_meters, fast_degrees = speeds(camera_path("fast", room(name), 900)[1])
    assert fast_meters.mean() > 2.5 * meters.mean()
    assert fast_degrees.mean() > 2 * degrees.mean()


def test_tremor_is_of_the_hand():
    """What a smooth curve through half a second leaves over is millimeters and tenths of a degree."""
    T_wc = camera_path("handheld", room("living_room"), 900)[1]
    position = T_wc[:, :3, 3].numpy()
    kernel = np.hanning(17) / np.hanning(17).sum()
    smooth = np.stack([np.convolve(position[:, i], kernel, "valid") for i in range(3)], -1)
    tremor = np.linalg.norm(position[8:-8] - smooth, axis=-1)
    assert 0.0005 < tremor.mean() < 0.01


def test_loop_goes_around_twice():
    for name in ("living_room", "corridor"):
        T_wc = camera_path("loop", room(name), 1500)[1]
        first, second = T_wc[:750], T_wc[750:]
        assert (first[:, :3, 3] - second[:, :3, 3]).norm(dim=-1).max() < 0.12  # but for the hand
        assert (first[:, :3, 2] * second[:, :3, 2]).sum(-1).min() > np.cos(np.radians(12))
        extent = first[:, :3, 3].amax(0) - first[:, :3, 3].amin(0)
        assert extent.max() > 1.5
        assert (first[375:, :3, 3] - first[:375, :3, 3]).norm(dim=-1).max() > 1.5


def test_orbit_closes_and_sees_all_sides():
    T_wc = camera_path("orbit", room("living_room"), 400)[1]
    step = speeds(T_wc)[0].max() / 30
    assert (T_wc[-1, :3, 3] - T_wc[0, :3, 3]).norm() < 1.5 * step
    heading = torch.atan2(T_wc[:, 1, 2], T_wc[:, 0, 2])
    assert torch.histc(heading, 8, -torch.pi, torch.pi).min() > 0


@each_room
def test_pure_rotation_stays_on_the_spot(name):
    T_wc = camera_path("pure_rotation", room(name), 300)[1]
    assert torch.equal(T_wc[:, :3, 3], T_wc[:1, :3, 3].expand(300, 3))
    degrees = speeds(T_wc)[1]
    assert degrees.mean() > 2
    assert degrees.max() < 70


def test_back_and_forth_comes_back():
    T_wc = camera_path("back_and_forth", room("living_room"), 1000)[1]
    position = T_wc[:, :3, 3]
    assert (position[0] - position[120]).norm() > 0.5
    assert (position[:-240] - position[240:]).norm(dim=-1).max() < 0.05


def test_seeds():
    living_room = room("living_room")
    first, again, other = (camera_path("handheld", living_room, 50, seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first[:, :3, 3] - other[:, :3, 3]).norm(dim=-1).min() > 0.1
    longer = camera_path("handheld", living_room, 80, 1)[1]
    assert torch.equal(longer[:50], first)


@each_room
def test_a_tour_is_closed_and_even(name):
    tour = Tour(room(name))
    s = np.linspace(0, tour.length, 400)
    position, sight = tour(s)
    np.testing.assert_allclose(position[0], position[-1], atol=1e-9)
    np.testing.assert_allclose(sight[0], sight[-1], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(sight, axis=-1), 1.0)
    assert np.linalg.norm(np.diff(position, axis=0), axis=-1).max() < 1.5 * tour.length / 399


def test_unknown_path_and_no_frames():
    with pytest.raises(ValueError, match=r"sideways.*handheld, orbit, loop"):
        camera_path("sideways", room("wall"), 10)
    with pytest.raises(ValueError, match="at least 1"):
        camera_path("orbit", room("wall"), 0)
