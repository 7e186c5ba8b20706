"""The picture of a map: what it shows, and from where."""

from __future__ import annotations

import math

import imageio.v3 as iio
import pytest
import torch

from gradslam_ng.geometry import camera, se3
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.viz import snapshot
from gradslam_ng.viz.snapshot import choose_view, draw, upright

WALLS = {  # of a box 4 x 2 x 4 m, y down: center, inward normal, color
    "far": ((0.0, 0, 2), (0.0, 0, -1), (1.0, 0, 0)),
    "near": ((0.0, 0, -2), (0.0, 0, 1), (0.0, 1, 0)),
    "floor": ((0.0, 1, 0), (0.0, -1, 0), (0.0, 0, 1)),
    "ceiling": ((0.0, -1, 0), (0.0, 1, 0), (1.0, 1, 0)),
}


def room(spacing: float = 0.04) -> SurfelMap:
    """The walls of a box seen from inside."""
    steps = torch.arange(-2 + spacing / 2, 2, spacing)
    points, normals, colors = [], [], []
    for center, normal, color in WALLS.values():
        n = torch.tensor(normal)
        a, b = torch.meshgrid(steps, steps / 2 if abs(normal[2]) else steps, indexing="ij")
        a, b = a.reshape(-1), b.reshape(-1)
        wall = torch.stack([a, b, 0 * a], -1) if abs(normal[2]) else torch.stack([a, 0 * a, b], -1)
        points.append(wall + torch.tensor(center))
        normals.append(n.expand_as(wall))
        colors.append(torch.tensor(color).expand_as(wall))
    points = torch.cat(points)[None]
    number = torch.zeros(points.shape[:2], dtype=torch.int64)
    return SurfelMap(
        points, torch.cat(normals)[None], torch.cat(colors)[None], torch.full(points.shape[:2], spacing),
        torch.ones(points.shape[:2]), number, number, torch.tensor([points.shape[1]]),
    )  # fmt: skip


def path(n: int = 20) -> Trajectory:
    """A camera in the room that looks ahead, along z, and moves sideways."""
    poses = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
    poses[:, 0, 3] = torch.linspace(-0.5, 0.5, n)
    return Trajectory(torch.arange(n) / 30, poses)


def view_of(map_: SurfelMap, trajectory: Trajectory, size=(90, 120)):
    return choose_view(map_.points[0], map_.normals[0], trajectory.T_wc.float(), size)


def test_the_view_is_from_above_and_behind_and_takes_in_all():
    T_wv, K = view_of(room(), path())
    assert se3.is_rigid(T_wv)
    assert T_wv[1, 3] < -1.5  # above the ceiling
    assert T_wv[2, 3] < -2  # behind the near wall
    assert T_wv[2, 2] > 0.5  # looking ahead
    everything = torch.cat([room().points[0], path().T_wc[:, :3, 3].float()])
    uv, z = camera.project(se3.transform(se3.inverse(T_wv), everything), K)
    inside = (z > 0) & (uv >= 0).all(-1) & (uv <= torch.tensor([119, 89])).all(-1)
    assert inside.float().mean() > 0.97


def test_walls_between_us_and_the_room_are_not_drawn():
    T_wv, K = view_of(room(), path())
    image = draw(room(), T_wv, K, (90, 120))
    seen = {
        name: ((image - torch.tensor(color) * image.amax(-1, keepdim=True)).abs().amax(-1) < 0.05).float().mean().item()
        for name, (_, _, color) in WALLS.items()
    }
    assert seen["far"] > 0.05 and seen["floor"] > 0.05
    assert seen["near"] == seen["ceiling"] == 0
    assert (image[0] == 1).all()  # white beyond


def test_leaning_cameras_are_put_upright():
    lean = torch.nn.functional.normalize(torch.tensor([0.0, -1.0, -0.5]), dim=0)
    assert torch.allclose(upright(room().normals[0], lean), torch.tensor([0.0, -1.0, 0.0]), atol=1e-4)


@pytest.mark.parametrize("turn", ["all around", "straight down"])
def test_any_cameras_give_a_view(turn):
    angle = torch.linspace(0, 2 * math.pi, 13)[:12] if turn == "all around" else torch.full((12,), math.pi / 2)
    axis = torch.tensor([0.0, 1, 0]) if turn == "all around" else torch.tensor([-1.0, 0, 0])
    T_wc = se3.exp(torch.cat([torch.zeros(12, 3), angle[:, None] * axis], -1).double())
    T_wv, _ = view_of(room(), Trajectory(torch.arange(12), T_wc))
    assert se3.is_rigid(T_wv)


def test_the_picture_shows_map_and_path(tmp_path):
    snapshot(tmp_path / "with.png", room(), path(), size=(300, 400))
    image = iio.imread(tmp_path / "with.png")[..., :3] / 255.0
    T_wv, K = view_of(room(), path(), (300, 400))
    without = draw(room(), T_wv, K, (300, 400)).numpy()
    assert image.shape == without.shape
    changed = abs(image - without).max(-1) > 0.1
    assert 0.001 < changed.mean() < 0.05  # the path, and it alone


def test_an_empty_map_shows_the_path(tmp_path):
    snapshot(tmp_path / "a.png", SurfelMap.empty(), path(), size=(150, 200))
    assert (iio.imread(tmp_path / "a.png")[..., :3] < 200).any()


def test_one_pose(tmp_path):
    snapshot(tmp_path / "a.png", room(), path(1), size=(150, 200))
    assert iio.imread(tmp_path / "a.png").shape[:2] == (150, 200)


def test_no_known_pose(tmp_path):
    nowhere = Trajectory(torch.zeros(1), torch.full((1, 4, 4), math.nan))
    with pytest.raises(ValueError, match="at least one known pose"):
        snapshot(tmp_path / "a.png", room(), nowhere)
