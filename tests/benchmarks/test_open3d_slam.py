"""The comparison with Open3D runs: its trajectory of a few rendered frames is a good one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_tracks_a_rendered_room():
    pytest.importorskip("open3d")
    command = [sys.executable, "-m", "benchmarks.open3d_slam", "synthetic:living_room", "--frames", "4"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "4 frames" in done.stdout and "0 lost" in done.stdout
    assert float(re.search(r"ATE RMSE ([\d.]+) cm over 4 poses", done.stdout)[1]) < 1
