"""`calibrate`: options that mean nothing, a recording that tells nothing, and a file that `run` can read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gradslam_ng.calibration import Calibration, CameraPair, Scale
from gradslam_ng.calibration.cameras import NAMES
from gradslam_ng.cli import main
from gradslam_ng.commands import calibrate as command
from gradslam_ng.datasets.camera_files import read_camera
from gradslam_ng.datasets.export import write_tum
from gradslam_ng.datasets.synthetic import Synthetic

SOURCE = "synthetic:wall"


def result(better: bool, scale: Scale | None = None) -> Calibration:
    told = CameraPair.registered(torch.tensor([[525.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]]))
    found = told.retract(0.01 * torch.ones(len(NAMES), dtype=torch.float64))
    sigma = torch.full((len(NAMES),), 0.001, dtype=torch.float64)
    sigma[2] = torch.inf
    misfit = {"surfaces": (1.0, 0.5 if better else 1.5), "brightness": (0.0, 0.0)}
    return Calibration(told, found, sigma, 8, 20, misfit, (480, 640), scale, 5.0 if better else -5.0)


@pytest.fixture
def without_work(monkeypatch):
    """Nothing is run; what was found is as asked for."""

    def use(better: bool, scale: Scale | None = None) -> None:
        monkeypatch.setattr(command, "calibrate_sequence", lambda *_, **__: result(better, scale))

    return use


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "camera.txt"], "out: expected a file that ends in .json"),
        (["--out", "camera.json", "--keyframes", "3"], "keyframes: expected 6 to 60, got 3"),
    ],
)
def test_options_that_mean_nothing(options, message, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", SOURCE, *options]) == 2
    assert message in capsys.readouterr().err


def test_too_few_frames(tmp_path: Path, capsys) -> None:
    """One line, status 1, and no file."""
    assert main(["calibrate", SOURCE, "--frames", "0:2", "--out", str(tmp_path / "camera.json")]) == 1
    assert "nothing of the camera can be told" in capsys.readouterr().err
    assert not (tmp_path / "camera.json").exists()


def test_file_and_summary(tmp_path: Path, capsys, without_work) -> None:
    """What is not determined is said so; the file is one that `run --camera` reads without complaint."""
    without_work(better=True)
    path = tmp_path / "camera.json"
    assert main(["calibrate", SOURCE, "--out", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("not determined") == 2 and "written, for run --camera" in printed
    assert "images do not tell it" in printed and "--prior FILE" in printed
    camera = read_camera(path)
    assert not camera.findings and camera.color is not None and camera.depth_distortion == (0.01, 0.01)
    assert "depth_scale" not in json.loads(path.read_text())


def test_nothing_better_is_not_written(tmp_path: Path, capsys, without_work) -> None:
    without_work(better=False)
    path = tmp_path / "camera.json"
    assert main(["calibrate", SOURCE, "--out", str(path)]) == 3
    assert "fit no better" in capsys.readouterr().err and not path.exists()


def test_nothing_to_change_is_not_written(tmp_path: Path, capsys, monkeypatch) -> None:
    """A camera that is right already, or a recording whose halves tell different ones."""
    as_told = replace(result(True), cameras=result(True).told)
    monkeypatch.setattr(command, "calibrate_sequence", lambda *_, **__: as_told)
    path = tmp_path / "camera.json"
    assert main(["calibrate", SOURCE, "--out", str(path)]) == 3
    assert "nothing to change" in capsys.readouterr().err and not path.exists()


def test_benefit_within_chance_is_none() -> None:
    assert result(True).is_better and not replace(result(True), certainty=1.0).is_better


def test_scale_is_written_in_the_units_of_depth(tmp_path: Path, capsys, without_work) -> None:
    """Depth 2% too long: more units in a meter, the cameras nearer together, distortion in meters that are right."""
    without_work(better=True, scale=Scale(1 / 1.02, 0.0005))
    folder = tmp_path / "room"
    write_tum(Synthetic("wall", frames=2, size=(48, 64)), folder)
    path = tmp_path / "camera.json"
    assert main(["calibrate", str(folder), "--out", str(path)]) == 0
    assert "5100 units in a meter" in capsys.readouterr().out
    camera, cameras = read_camera(path), result(True).cameras
    assert camera.depth_scale == pytest.approx(5100)
    torch.testing.assert_close(camera.color.T_color_depth[:3, 3], cameras.T_color_depth[:3, 3] / 1.02)
    torch.testing.assert_close(camera.color.T_color_depth[:3, :3], cameras.T_color_depth[:3, :3])
    assert camera.depth_distortion == pytest.approx((0.0102, 0.0102))
