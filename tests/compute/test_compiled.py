"""Compiled functions against the plain ones."""

from __future__ import annotations

import shutil

import pytest
import torch

from gradslam_ng.compute.compiled import compilation, compiled, seconds_compiling

COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler for torch.compile")
def test_compiling_is_counted():
    before = seconds_compiling()
    doubled = compiled(lambda x: 2 * x, dynamic=("x",))
    with torch.no_grad(), compilation():
        assert doubled(torch.ones(2, 3)).sum() == 12
        after = seconds_compiling()
        assert doubled(torch.ones(2, 5)).sum() == 20 and doubled(torch.ones(2, 7)).sum() == 28
    assert after > before and seconds_compiling() == after  # a size that grows is compiled for once


def test_a_function_that_cannot_be_compiled_runs_plain_and_says_so(monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", lambda function, **options: broken)
    twice = compiled(lambda x: 2 * x)
    with torch.no_grad(), compilation():
        assert twice(torch.ones(())) == 2 and twice(torch.ones(())) == 2
    assert caplog.text.count("no compiler here") == 1


def test_plain_while_gradients_are_recorded(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: pytest.fail("compiled"))
    twice = compiled(lambda x: 2 * x)
    with compilation():
        x = torch.ones((), requires_grad=True)
        twice(x).backward()
    assert x.grad == 2
