"""What the package and its sub-packages export can be imported, and is documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import gradslam_ng as gs

PACKAGES = sorted(module.name for module in pkgutil.iter_modules(gs.__path__) if module.ispkg)
NOT_EXPORTED = {"commands", "viz"}  # the program, and pictures, for which libraries are loaded that take long


@pytest.mark.parametrize("package", ["gradslam_ng", *(f"gradslam_ng.{name}" for name in PACKAGES)])
def test_exported_names_exist_and_are_documented(package):
    module = importlib.import_module(package)
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    assert module.__doc__
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value):
            assert inspect.getdoc(value), f"{package}.{name} has no docstring"


def test_all_packages_are_exported_alike():
    assert set(PACKAGES) - NOT_EXPORTED == {name for name in gs.__all__ if inspect.ismodule(getattr(gs, name))}


@pytest.mark.parametrize(
    "name",
    ["PointFusion", "KinectFusion", "ICPSLAM", "ICPOdometry", "Settings", "ProjectiveICP", "ICPSettings", "PointFuser",
     "TSDFFuser", "LoopCloser", "VolumeLoopCloser", "Relocalizer", "RayCast", "Rendering", "FactorGraph", "Smoother"],
)  # fmt: skip
def test_what_systems_are_built_of_is_at_the_top(name):
    assert name in gs.__all__


def test_residuals_are_public():
    assert gs.graph.residuals.__name__ == "gradslam_ng.graph.residuals" and "residuals" in gs.graph.__all__


def test_importing_loads_no_plotting():
    code = "import sys, gradslam_ng; print(sorted({'matplotlib', 'plotly', 'tyro', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
