"""Scenes from the folder of a run and from files."""

from __future__ import annotations

import json

import pytest
import torch

from gradslam_ng.io.ply import write_ply
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.structures.mesh import Mesh
from gradslam_ng.viz.scene import LOST, TRACKED, UNCERTAIN
from gradslam_ng.viz.scene_files import Frames, read_glb, read_path, read_scene

TRIANGLE = torch.tensor([[0.0, 0, 2], [1, 0, 2], [0, 1, 2]])


def mesh(origin: torch.Tensor | None = None) -> Mesh:
    colors = torch.tensor([[0.2, 0.5, 0.9]]).expand(3, 3)
    return Mesh(TRIANGLE, torch.tensor([[0, 1, 2]]), torch.zeros(3, 3), colors, torch.ones(3), origin)


@pytest.fixture
def folder(tmp_path):
    """A run of five frames, the third lost, with a loop, a map and a mesh, 160 m from the world's origin."""
    origin = torch.tensor([160.0, 0, 0], dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    poses[:, 0, 3] = origin[0] + torch.tensor([0.0, 1, 3, 4])
    Trajectory(torch.tensor([0.0, 1, 3, 4]), poses).save(tmp_path / "trajectory.txt")
    statuses = torch.tensor([0, 0, TrackingStatus.NO_OVERLAP, TrackingStatus.DEGENERATE, 0])
    Frames(torch.arange(5).double(), statuses).save(tmp_path / "frames.csv")
    columns = {"x": torch.tensor([160.5]).double(), "y": torch.zeros(1), "z": torch.ones(1)}
    write_ply(tmp_path / "map.ply", columns)
    mesh(origin).save(tmp_path / "mesh.ply")
    metrics = {"map": {"origin": origin.tolist()}, "loop_frames": [[0, 4], [0, 9]], "submaps": [5]}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def test_the_folder_of_a_run(folder):
    scene = read_scene(folder)
    assert scene.outcomes.tolist() == [TRACKED, TRACKED, LOST, UNCERTAIN, TRACKED]
    assert scene.T_wc[:, 0, 3].tolist() == [0, 1, 1, 3, 4]  # relative to the map's origin; lost: as left
    assert scene.cloud.points.tolist() == [[0.5, 0, 1]] and scene.loops == ((0, 4),)
    assert torch.equal(scene.mesh.vertices, TRIANGLE) and scene.seconds.tolist() == [0, 1, 2, 3, 4]


def test_cameras_of_a_submap_stand_in_it(folder):
    """A frame that is tracked in a submap of its own is drawn there, beside the map."""
    number, one = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1)
    point, up = torch.tensor([[[0.0, 0, 2]]]), torch.tensor([[[0.0, -1, 0]]])
    SurfelMap(point, up, up.abs(), one, one, number, number, torch.tensor([1])).save(folder / "map_1.ply")
    pose = torch.eye(4, dtype=torch.float64)[None].clone()
    pose[0, 0, 3] = 0.25
    Trajectory(torch.tensor([2.0]), pose).save(folder / "trajectory_1.txt")
    metrics = json.loads((folder / "metrics.json").read_text()) | {"submaps": [4, 1]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    scene = read_scene(folder)
    seen = scene.cloud.points[scene.cloud.submaps == 1][0] - scene.T_wc[2, :3, 3].float()
    assert torch.allclose(seen, torch.tensor([-0.25, 0, 2])) and scene.T_wc[2, 0, 3] > 1
    assert scene.outcomes.tolist() == [TRACKED, TRACKED, TRACKED, UNCERTAIN, TRACKED]
    segments, _ = scene.path()  # from frame 0 to 1 and from 3 to 4: none leads to the submap and back
    assert torch.equal(segments, scene.T_wc[:, :3, 3].float()[torch.tensor([[0, 1], [3, 4]])])


def test_a_file_of_a_run_alone_stands_as_in_the_run(folder):
    """Its cameras, which are not shown, tell what is up; of a file elsewhere nothing does."""
    lying = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    lying[:, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z of the world is up
    lying[:, 0, 3] = torch.tensor([160.0, 161, 163, 164])
    Trajectory(torch.tensor([0.0, 1, 3, 4]), lying).save(folder / "trajectory.txt")
    up = read_scene(folder).up
    assert up.tolist() == [0, 0, 1]
    for name in ("map.ply", "mesh.ply"):
        scene = read_scene(folder / name)
        assert torch.equal(scene.up, up) and not len(scene.T_wc)
    assert scene.cameras[:, 0, 3].tolist() == [0, 1, 3, 4]  # relative to the origin that the mesh tells
    (folder / "map.ply").rename(folder / "map_1.ply")
    assert read_scene(folder / "map_1.ply").up.tolist() == [0, -1, 0]  # a submap's axes are its own
    Trajectory(torch.tensor([3.0]), lying[:1]).save(folder / "trajectory_1.txt")
    assert torch.equal(read_scene(folder / "map_1.ply").up, up)
    (folder / "metrics.json").unlink()
    assert read_scene(folder / "mesh.ply").up.tolist() == [0, -1, 0]


def test_points_without_colors_are_told_apart_by_their_height(tmp_path):
    """Of one color alone their shape could not be seen."""
    y = torch.tensor([1.0, 0, -1])  # the last one is the highest
    write_ply(tmp_path / "points.ply", {"x": torch.zeros(3), "y": y, "z": torch.ones(3)})
    light = read_scene(tmp_path / "points.ply").cloud.colors.float().sum(-1)
    assert light.diff().min() > 100
    write_ply(tmp_path / "points.ply", {"x": torch.zeros(3), "y": torch.ones(3), "z": torch.ones(3)})
    assert len(read_scene(tmp_path / "points.ply").cloud) == 3


def test_a_run_of_an_earlier_version_has_tracked_frames_alone(folder):
    (folder / "frames.csv").unlink()
    scene = read_scene(folder)
    assert scene.outcomes.tolist() == [TRACKED] * 4 and len(scene.T_wc) == 4


def test_files_of_two_runs_are_not_mixed(folder):
    Frames(torch.arange(9).double(), torch.zeros(9).long()).save(folder / "frames.csv")
    T_wc, frames = read_path(folder, torch.zeros(3, dtype=torch.float64))
    assert len(T_wc) == len(frames.statuses) == 4


def test_frames_come_back(tmp_path):
    seconds = torch.tensor([1305031102.175304, 1305031102.2], dtype=torch.float64)
    Frames(seconds, torch.tensor([0, int(TrackingStatus.JUMP)])).save(tmp_path / "frames.csv")
    assert (tmp_path / "frames.csv").read_text().splitlines()[2] == "1,1305031102.2,jump"
    back = Frames.load(tmp_path / "frames.csv")
    assert torch.equal(back.seconds, seconds) and back.statuses.tolist() == [0, 3]


def test_the_box_of_a_glb_in_the_axes_of_a_camera(tmp_path):
    pytest.importorskip("trimesh", reason="trimesh comes with the extra `view`")
    mesh().save(tmp_path / "mesh.glb")
    found = read_glb(tmp_path / "mesh.glb")
    corners = found.corners
    assert found.triangles == 1
    assert torch.allclose(corners.amin(0), TRIANGLE.amin(0)) and torch.allclose(corners.amax(0), TRIANGLE.amax(0))
    seen, _ = read_scene(tmp_path / "mesh.glb").extent  # what the first view takes in: all of the box
    assert len(seen) == 8 and torch.equal(torch.stack([seen.amin(0), seen.amax(0)]), corners.sort(0).values)


class TestHostile:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("frames.csv", "frame,seconds,status\n0,1.0,flying\n", r"frames\.csv: expected lines"),
            ("frames.csv", "frame,seconds,status\n0,1.0\n", r"frames\.csv: expected lines"),
            ("metrics.json", "[1]", r"metrics\.json: expected the metrics"),
            ("metrics.json", "{", r"metrics\.json"),
            ("map.ply", "nothing", "not a PLY file"),
        ],
    )
    def test_broken_files_are_named(self, folder, name, content, message):
        (folder / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            read_scene(folder)

    def test_a_folder_without_a_run(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"expected the folder of a run, which has metrics\.json"):
            read_scene(tmp_path)

    def test_other_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file"):
            read_scene(tmp_path / "map.ply")
        (tmp_path / "notes.txt").touch()
        with pytest.raises(ValueError, match=r"expected the folder of a run, or a \.ply, \.glb or \.npz file"):
            read_scene(tmp_path / "notes.txt")

    def test_no_glb(self, tmp_path):
        pytest.importorskip("trimesh")
        (tmp_path / "mesh.glb").write_bytes(b"glTF and nothing else")
        with pytest.raises(ValueError, match="not a binary glTF file"):
            read_glb(tmp_path / "mesh.glb")
