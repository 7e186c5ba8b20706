"""Result files say what they were measured on."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import torch

from benchmarks import report


def test_a_result_says_what_it_was_measured_on(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    written = json.loads(report.save("a", {"rows": {}}, images="640x480", tracked="320x240").read_text())
    machine = written["machine"]
    assert machine.keys() >= {"cpu", "cores", "gpu", "torch", "python", "threads", "size", "working_size"}
    assert (machine["size"], machine["working_size"]) == ("640x480", "320x240")
    assert machine["threads"] == torch.get_num_threads() and machine["torch"] == torch.__version__
    assert written["rows"] == {}
    machine = json.loads(report.save("b", {}, images="640x480", threads=3).read_text())["machine"]
    assert (machine["working_size"], machine["threads"]) == ("640x480", 3)


def test_every_benchmark_says_the_size_of_its_images():
    calls = [
        node
        for path in Path(report.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("save", "record")
    ]
    assert len(calls) > 10
    assert all("images" in [keyword.arg for keyword in call.keywords] for call in calls)
