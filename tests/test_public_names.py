"""What the package and its sub-packages export can be imported, and is documented."""

from __future__ import annotations

import ast
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


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_loads_nothing_that_is_not_asked_for():
    """Neither torch nor any of our packages; what is then asked for is there, and listed before."""
    code = """
import sys, gradslam_ng as gs
print(sorted({"torch", "numpy", "scipy"} & set(sys.modules)), [name for name in sys.modules if "gradslam_ng." in name])
print(set(gs.__all__) <= set(dir(gs)), gs.PointFusion is gs.slam.PointFusion, gs.geometry.se3.exp.__name__)
print("gradslam_ng.planning" in sys.modules or "gradslam_ng.viz" in sys.modules)
"""
    assert run_python(code).splitlines() == ["[] []", "True True exp", "False"]


def test_star_imports_all_and_pictures_are_at_the_top():
    code = "from gradslam_ng import *; import gradslam_ng as gs; print(PointFusion is gs.PointFusion, slam is gs.slam)"
    assert run_python(f"{code}; print(gs.viz.show.__name__)").splitlines() == ["True True", "show"]


def test_what_is_not_exported_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'gradslam_ng' has no attribute 'PointFusoin'"):
        _ = gs.PointFusoin


def test_type_checkers_see_what_is_imported_late():
    """The imports for type checking, and where names are looked for, are the same."""
    tree = ast.parse(inspect.getsource(gs))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert set(seen) == set(gs.__all__)
    for name, module in seen.items():
        value = getattr(gs, name)
        assert value is (getattr(importlib.import_module(module), name) if module != "gradslam_ng" else value)
        assert module != "gradslam_ng" or inspect.ismodule(value)


def test_importing_loads_no_plotting():
    code = "import sys, gradslam_ng; print(sorted({'matplotlib', 'plotly', 'tyro', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
