"""`gradslam-ng compile`: what a run would compile, beforehand."""

from __future__ import annotations

import pytest

from gradslam_ng.cli import main
from gradslam_ng.compute.kernel_library import KernelLibrary, library


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADSLAM_NG_KERNELS", str(tmp_path / "kernels"))


def test_asks_for_every_function_of_a_run(recording, monkeypatch, capsys):
    """By the compiler process that a test need not wait for."""
    asked = []

    def compile_now(self, wanted):
        asked.append(wanted.request)
        self.answered.add(wanted.request.digest)
        return False

    monkeypatch.setattr("gradslam_ng.commands.compile.compiler_missing", lambda folder: "")
    monkeypatch.setattr(KernelLibrary, "_compile_now", compile_now)
    assert main(["compile", str(recording), "--preset", "fast"]) == 0
    names = {request.function.__qualname__ for request in asked}
    assert {"measure_images", "splat", "linearize_point_to_plane", "_propose", "match", "merge"} <= names
    assert len({request.digest for request in asked}) == len(asked)  # none twice
    assert not library().process
    assert f"of {len(asked)} functions compiled" in capsys.readouterr().out.replace("\n", " ")


def test_without_a_compiler_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["compile"]) == 1
    assert capsys.readouterr().err.strip() == "error: compile: there is no C++ compiler (no-such-compiler)"
