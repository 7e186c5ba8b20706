"""Fixtures for the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real benchmark sequences beside the checkout, or named by GRADSLAM_NG_DATA; skips where there is none."""
    folder = Path(os.environ.get("GRADSLAM_NG_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no benchmark sequences at {folder}; set GRADSLAM_NG_DATA to their folder")
    return folder
