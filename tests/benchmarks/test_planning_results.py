"""Figures of planning are of one thread: with two on a busy machine small problems take many times as long."""

from __future__ import annotations

import json

import pytest

from benchmarks.report import RESULTS

FILES = sorted(RESULTS.glob("planning_*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_they_were_measured_on_one_thread(path):
    assert json.loads(path.read_text())["machine"]["threads"] == 1
