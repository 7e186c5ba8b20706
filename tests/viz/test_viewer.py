"""Open3D's viewer on a virtual display, and what it says where it cannot open."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import imageio.v3 as iio
import pytest
import torch

from gradslam_ng.io.ply import write_ply
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.viz import view
from gradslam_ng.viz.viewer import _discs


def wall(path, color=(1.0, 0.0, 0.0), side: float = 1.0) -> None:
    """A square two meters ahead that faces the camera, as the PLY file of a map."""
    steps = torch.arange(-side, side, 0.05)
    x, y = (value.reshape(1, -1) for value in torch.meshgrid(steps, steps, indexing="ij"))
    n = x.shape[1]
    number = torch.zeros(1, n, dtype=torch.int64)
    points = torch.stack([x, y, torch.full_like(x, 2.0)], -1)
    normals = torch.tensor([0.0, 0, -1]).expand(1, n, 3)
    colors = torch.tensor(color).expand(1, n, 3)
    ones = torch.ones(1, n)
    SurfelMap(points, normals, colors, 0.04 * ones, ones, number, number, torch.tensor([n])).save(path)


def screenshot(map_path, out, *trajectory) -> subprocess.CompletedProcess:
    """The command on a virtual display, in a process of its own: OpenGL takes what it finds down with it."""
    if shutil.which("xvfb-run") is None:
        pytest.skip("xvfb-run is not installed (Debian, Ubuntu: apt-get install xvfb)")
    pytest.importorskip("open3d")
    call = "import sys; from gradslam_ng.cli import main; sys.exit(main(sys.argv[1:]))"
    files = [str(path) for path in (map_path, *trajectory)]
    command = ["xvfb-run", "-a", sys.executable, "-c", call, "view", *files, "--screenshot", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_screenshot_of_a_map_with_its_cameras(tmp_path):
    wall(tmp_path / "map.ply")
    poses = torch.eye(4).repeat(5, 1, 1)
    poses[:, 0, 3] = torch.linspace(-0.4, 0.4, 5)
    Trajectory(torch.arange(5), poses).save(tmp_path / "trajectory.txt")
    done = screenshot(tmp_path / "map.ply", tmp_path / "shot.png", tmp_path / "trajectory.txt")
    assert (done.returncode, done.stderr) == (0, "")  # no lines of others
    image = iio.imread(tmp_path / "shot.png")[..., :3].astype(int)
    red = (image[..., 0] > 200) & (image[..., 1:] < 60).all(-1)
    white = (image > 250).all(-1)
    assert red.mean() > 0.05  # the wall, seen from its front
    assert white.mean() > 0.2
    assert (~red & ~white).mean() > 0.0005  # the cameras


def test_screenshot_of_a_mesh(tmp_path):
    corners = torch.tensor([[-1.0, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]])
    columns = dict(zip("xyz", corners.T, strict=True))
    write_ply(tmp_path / "mesh.ply", columns, torch.tensor([[0, 2, 1], [0, 3, 2]]))
    done = screenshot(tmp_path / "mesh.ply", tmp_path / "shot.png")
    assert done.returncode == 0, done.stderr
    image = iio.imread(tmp_path / "shot.png")[..., :3]
    assert (image < 240).all(-1).mean() > 0.05


def test_discs_face_where_their_normals_point():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(50, 3, generator=generator, dtype=torch.float64)
    normals = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator, dtype=torch.float64), dim=-1)
    normals[0] = torch.tensor([0.0, 1, 0])
    radii = torch.rand(50, generator=generator, dtype=torch.float64) + 0.1
    corners, _, _, faces = _discs(points, normals, points, radii)
    a, b, c = corners[faces].unbind(1)
    across = torch.linalg.cross(b - a, c - a)
    area = across.norm(dim=-1).reshape(50, 2) / 2
    assert torch.allclose(area.sum(-1), torch.pi * radii**2)
    assert torch.allclose(across / across.norm(dim=-1, keepdim=True), normals.repeat_interleave(2, 0))


class TestHostile:
    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"map\.ply"):
            view(tmp_path / "map.ply")

    def test_not_a_ply_file(self, tmp_path):
        (tmp_path / "map.ply").write_text("nothing of the kind")
        with pytest.raises(ValueError, match="not a PLY file"):
            view(tmp_path / "map.ply")

    def test_no_points(self, tmp_path):
        write_ply(tmp_path / "map.ply", {name: torch.zeros(0) for name in "xyz"})
        with pytest.raises(ValueError, match="expected vertices with columns x, y and z, found none"):
            view(tmp_path / "map.ply")

    def test_open3d_missing(self, tmp_path, monkeypatch):
        wall(tmp_path / "map.ply")
        monkeypatch.setitem(sys.modules, "open3d", None)
        with pytest.raises(ImportError, match=r"pip install open3d.*libusb-1.0-0 libgl1 libegl1 libgomp1"):
            view(tmp_path / "map.ply")

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells by its environment")
    def test_no_display(self, tmp_path, monkeypatch):
        pytest.importorskip("open3d")
        wall(tmp_path / "map.ply")
        for name in {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            monkeypatch.delenv(name)
        with pytest.raises(OSError, match="no display to open a window on"):
            view(tmp_path / "map.ply")
