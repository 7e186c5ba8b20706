from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(monkeypatch) -> Callable[[str], ModuleType]:
    """Function (name) -> that demo, imported."""
    for folder in (ROOT / "demos", ROOT):  # beside each other, and beside the benchmarks
        monkeypatch.syspath_prepend(folder)
    return lambda name: importlib.import_module(f"demos.{name}")
