"""`gradslam-ng view`: one clear line for what cannot be shown (what can, tests/viz/test_viewer.py shows)."""

from __future__ import annotations

from gradslam_ng.cli import main


def test_missing_map(tmp_path, capsys):
    assert main(["view", str(tmp_path / "map.ply")]) == 1
    assert " ".join(capsys.readouterr().err.split()) == f"error: no such file: {tmp_path / 'map.ply'}"


def test_missing_trajectory(tmp_path, capsys):
    (tmp_path / "map.ply").write_text("ply\n")
    assert main(["view", str(tmp_path / "map.ply"), str(tmp_path / "trajectory.txt")]) == 1
    assert "trajectory.txt" in capsys.readouterr().err
