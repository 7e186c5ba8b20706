from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(monkeypatch) -> Callable[[str], ModuleType]:
    """Function (name) -> that module of the demos, such as "loop" or "research.disk_tracking.model", imported."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"demos.{name}")
