"""The package as others install it: a wheel, in an environment that knows nothing of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]


def call(*command: str | Path, cwd: Path) -> str:
    """What a command prints, run without the checkout on its path."""
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools would leave its traces in the checkout, and find those of builds before."""
    pytest.importorskip("build", reason="build comes with the extra `dev`")
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "gradslam_ng", source / "gradslam_ng", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source, cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gradslam_ng").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "gradslam_ng/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"gradslam_ng"}
    assert "License-Expression: MIT" in metadata and "Author: gradslam_ng contributors" in metadata


@pytest.mark.slow
def test_the_installed_wheel_runs_slam_outside_the_checkout(wheel, tmp_path):
    """In a virtual environment of its own, which borrows torch and the other dependencies from this one."""
    environment, out = tmp_path / "environment", tmp_path / "out"
    call(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    installed = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (installed / "borrowed.pth").write_text("\n".join(borrowed))  # searched last; editable installs there are not seen
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    where = call(python, "-c", "import gradslam_ng; print(gradslam_ng.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)
    sequence = ROOT / "datasets" / "living_room"
    call(scripts / "gradslam-ng", "run", sequence, "--out", out, "--frames", "0:5", cwd=tmp_path)
    assert len((out / "trajectory.txt").read_text().splitlines()) >= 5
    assert {"map.ply", "metrics.json", "trajectory.png"} <= {path.name for path in out.iterdir()}
