"""How the documentation is built: `python -m sphinx -W -b html docs docs/_build/html`. Needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import gradslam_ng  # noqa: E402

project = "gradslam_ng"
author = "the gradslam_ng authors"
copyright = author
release = version = gradslam_ng.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "api_pages",
    "command_help",
    "docstrings",
    "root_pages",
]
exclude_patterns = ["_build", "jupyter_execute"]  # what a build leaves, beside its folder in the second case
default_role = "code"  # docstrings write `name` for code
nb_execution_mode = "auto"  # the tutorials
nb_execution_timeout = 300  # seconds a cell, on a busy machine
nb_execution_raise_on_error = True
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"gradslam_ng {release}"
html_static_path = []
