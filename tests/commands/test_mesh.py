"""`gradslam-ng run --system kinectfusion` and `gradslam-ng mesh`."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.cli import main
from gradslam_ng.io.ply import read_ply


@pytest.fixture(scope="module")
def left(recording, tmp_path_factory) -> Path:
    """The folder of a run, in coarse voxels."""
    out = tmp_path_factory.mktemp("volume")
    (out / "settings.toml").write_text("[mapping]\nvoxel_size = 0.04\ntruncation = 0.16\n")
    options = ["--system", "kinectfusion", "--config", str(out / "settings.toml")]
    with pytest.MonkeyPatch.context() as patch:  # pictures take seconds
        for module, name in (("plots", "plot_trajectory"), ("snapshot", "snapshot")):
            module = importlib.import_module(f"gradslam_ng.viz.{module}")
            patch.setattr(module, name, lambda path, *_, **__: path.write_bytes(b""))
        assert main(["run", str(recording), "--out", str(out), *options]) == 0
    return out


def test_a_run_leaves_a_volume_and_its_mesh_beside_the_rest(left):
    names = {
        "trajectory.txt",
        "covariance.txt",
        "map.ply",
        "metrics.json",
        "trajectory.png",
        "map.png",
        "volume.npz",
        "mesh.ply",
        "mesh.glb",
        "report.html",
        "frames.csv",
        "run.log",
        "state.safetensors",
    }
    assert {path.name for path in left.iterdir()} == names | {"settings.toml"}
    columns, faces = read_ply(left / "mesh.ply")
    assert len(faces) > 500 and {"nx", "ny", "nz", "red", "green", "blue"} <= columns.keys()
    volume = gs.VoxelGrid.load(left / "volume.npz")
    assert volume.voxel_size == 0.04
    sizes = json.loads((left / "metrics.json").read_text())["map"]
    assert sizes["blocks"] == len(volume.keys) and sizes["triangles"] == len(faces)
    assert int(gs.SurfelMap.load(left / "map.ply").count[0]) == len(columns["x"])


def test_either_kind_of_map_becomes_a_mesh(left, tmp_path):
    assert main(["mesh", str(left / "volume.npz"), "--out", str(tmp_path / "a.ply")]) == 0
    assert main(["mesh", str(left / "map.ply"), "--out", str(tmp_path / "new" / "b.ply"), "--voxel-size", "0.04"]) == 0
    assert main(["mesh", str(left / "map.ply"), "--out", str(tmp_path / "b.glb"), "--voxel-size", "0.04"]) == 0
    (a, faces_a), (b, faces_b) = read_ply(tmp_path / "a.ply"), read_ply(tmp_path / "new" / "b.ply")
    assert faces_a.equal(read_ply(left / "mesh.ply")[1])
    assert 0.7 < len(faces_b) / len(faces_a) < 2
    a, b = (torch.stack([columns[axis] for axis in "xyz"], -1) for columns in (a, b))
    for one, other, most in ((a, b, 0.04), (b, a, 0.1)):  # surfels reach a little beyond the rim
        away = torch.cdist(one[::7], other).amin(-1)
        assert away.median() < 0.02 and away.quantile(0.9) < most


def test_a_mesh_is_made_smaller(left, tmp_path, capsys):
    pytest.importorskip("open3d")
    options = ["--out", str(tmp_path / "small.obj"), "--min-component", "50", "--decimate", "300"]
    assert main(["mesh", str(left / "volume.npz"), *options]) == 0
    printed, told = capsys.readouterr()
    assert "triangles" in printed and told.startswith("surface\n") and told.endswith(" triangles\n")
    assert 0 < sum(line.startswith("f ") for line in (tmp_path / "small.obj").read_text().splitlines()) <= 300


def test_colors_in_a_texture(left, tmp_path, capsys):
    pytest.importorskip("open3d")
    options = ["--decimate", "300", "--texture", "--voxel-size", "0.04"]
    assert main(["mesh", str(left / "volume.npz"), "--out", str(tmp_path / "a.obj"), *options]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.obj", "a.mtl", "a_0.png"}
    assert iio.imread(tmp_path / "a_0.png")[..., :3].std() > 20
    assert main(["mesh", str(left / "map.ply"), "--out", str(tmp_path / "b.glb"), *options]) == 0
    assert b"baseColorTexture" in (tmp_path / "b.glb").read_bytes()
    assert main(["mesh", str(left / "map.ply"), "--out", str(tmp_path / "b.ply"), *options]) == 2
    assert "expected an --out that ends in .glb or .obj" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing.npz"], "no such file"), (["settings.toml"], "expected the folder of a run"),
        (["volume.npz", "--out", "x.off"], ".glb"),
        (["mesh.ply"], "surfel map"), (["map.ply", "--out", "./map.ply"], "another file than the map itself"),
        (["map.ply", "--voxel-size", "0"], "voxel_size"), (["volume.npz", "--decimate", "0"], "decimate"),
        (["volume.npz", "--min-component", "-1"], "min_component"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_a_mesh_is_said(left, capsys, monkeypatch, args, message):
    monkeypatch.chdir(left)
    assert main(["mesh", *args]) in (1, 2)
    assert message in capsys.readouterr().err


def test_settings_of_the_volume_are_checked(left, recording, capsys, tmp_path):
    for text, message in (
        ("voxel_size = 0.1", "truncation"),
        ("odometry = 'icp'", "no setting"),
        ("cells = 1", "no setting"),
    ):
        (tmp_path / "bad.toml").write_text(f"[mapping]\n{text}\n")
        options = ["--system", "kinectfusion", "--config", str(tmp_path / "bad.toml")]
        assert main(["run", str(recording), "--out", str(tmp_path / "out"), *options]) == 1
        assert message in capsys.readouterr().err
