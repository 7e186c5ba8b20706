"""The tutorials run, by themselves and with public names alone, and show pictures."""

from __future__ import annotations

import ast
import base64
import importlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
TUTORIALS = sorted(path for path in FOLDER.glob("*.md") if path.stem != "index")
SECONDS = 300  # a cell at most, on a busy machine


@pytest.fixture(scope="module", params=TUTORIALS, ids=[path.stem for path in TUTORIALS])
def tutorial(request) -> Path:
    return request.param


def code_of(path: Path) -> str:
    return "\n".join(re.findall(r"^```\{code-cell\} python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE))


def test_there_are_six_and_all_are_listed():
    listed = (FOLDER / "index.md").read_text()
    assert len(TUTORIALS) == 6 and all(f"\n{path.stem}\n" in listed for path in TUTORIALS)


def test_only_public_names(tutorial):
    """Packages of gradslam_ng, and of them what their `__all__` has."""
    private = []
    for node in ast.walk(ast.parse(code_of(tutorial))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("gradslam_ng"):
            private += [] if node.module == "gradslam_ng" else [node.module] * (node.module.count(".") > 1)
        elif isinstance(node, ast.Attribute) and re.match(r"gs\.\w+(\.\w+)*$", name := ast.unparse(node)):
            module = importlib.import_module("gradslam_ng")
            for part in name.split(".")[1:]:
                if not isinstance(module, type(ast)):
                    break
                exported = vars(module).get("__all__", [each for each in dir(module) if each[0] != "_"])
                private += [] if part in exported else [name]
                module = getattr(module, part)
    assert not private


@pytest.mark.slow
def test_it_runs_and_shows_pictures(tutorial):
    """Each from top to bottom in a kernel of its own; no picture is blank."""
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("rosbags")
    notebook = jupytext.read(tutorial)
    where = {"metadata": {"path": str(FOLDER)}}
    nbclient.NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    for picture in pictures:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"))
        assert pixels.std() > 5
    assert not [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
