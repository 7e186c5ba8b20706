"""A small recording, the command run on it, and what it said and left."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gradslam_ng.cli import main
from gradslam_ng.datasets.export import write_tum
from gradslam_ng.structures import SurfelMap, Trajectory

FILES = {
    "run.log",
    "report.html",
    "trajectory.txt",
    "covariance.txt",
    "frames.csv",
    "map.ply",
    "metrics.json",
    "trajectory.png",
    "map.png",
}


@pytest.fixture(scope="package")
def recording(room, tmp_path_factory) -> Path:
    """Six clean frames of 80x60 in the TUM layout."""
    return write_tum(room.InMemory(room.view(room.walk(6))), tmp_path_factory.mktemp("tum") / "room", mesh=False)


@pytest.fixture
def copy(recording, tmp_path) -> Path:
    """The recording, to be spoilt."""
    folder = tmp_path / "room"
    for path in recording.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(recording)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(recording)).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """Pictures take seconds: where no test looks at them, their files are left empty."""
    for module, name in (("plots", "plot_trajectory"), ("snapshot", "snapshot")):
        module = importlib.import_module(f"gradslam_ng.viz.{module}")
        monkeypatch.setattr(module, name, lambda path, *_, **__: path.write_bytes(b""))


@pytest.fixture(scope="package")
def run() -> Callable[..., int]:
    """Function (source, out, *options) -> exit status of `gradslam-ng run`."""
    return lambda source, out, *options: main(["run", str(source), "--out", str(out), *options])


@pytest.fixture(scope="package")
def results() -> Callable[[Path], tuple[dict, Trajectory, SurfelMap]]:
    """Function (out) -> metrics, trajectory and map that a run left there, and nothing missing."""

    def read(out: Path) -> tuple[dict, Trajectory, SurfelMap]:
        names = {path.name for path in out.iterdir()}
        assert names - {"state.safetensors"} == FILES  # which one that was interrupted may lack
        metrics = json.loads((out / "metrics.json").read_text())
        return metrics, Trajectory.load(out / "trajectory.txt"), SurfelMap.load(out / "map.ply")

    return read


@pytest.fixture
def says(capsys) -> Callable[[], str]:
    """Function () -> what went to the error stream, in one line."""
    return lambda: " ".join(capsys.readouterr().err.split())


@pytest.fixture
def prints(capsys) -> Callable[[], str]:
    """Function () -> what was printed, in one line."""
    return lambda: " ".join(capsys.readouterr().out.split())
