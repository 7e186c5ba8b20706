"""Compiled functions against the plain ones."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import sys

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.compute.compiled import CompiledFunction, compilation, compiled, seconds_compiling
from gradslam_ng.compute.tree import tree_leaves

COMPILER = shutil.which("g++") or shutil.which("clang++")


def compiled_functions() -> dict[str, list[tuple[object, str]]]:
    """Every hot function of the package by name, and where it is looked up: modules and classes."""
    modules = [module for name, module in sys.modules.items() if name.startswith("gradslam_ng")]
    owners = modules + [x for module in modules for x in vars(module).values() if isinstance(x, type)]
    found = {}
    for owner in owners:
        for attribute, value in list(vars(owner).items()):
            if isinstance(value, CompiledFunction):
                found.setdefault(value.__qualname__, []).append((owner, attribute))
    return found


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler for torch.compile")
def test_every_twin_agrees_with_the_plain_function(room, monkeypatch):
    """On all calls of a run over frames with noise and holes, and on no square images."""
    checked = set()

    def comparing(function):
        def call(*args, **kwargs):
            if torch.compiler.is_compiling():
                return function.plain(*args, **kwargs)
            expected = function.plain(*copy.deepcopy(args), **kwargs)
            found = function(*args, **kwargs)
            for value, truth in zip(tree_leaves(found), tree_leaves(expected), strict=True):
                if value.is_floating_point():
                    close = torch.isclose(value, truth, rtol=1e-4, atol=1e-4)
                else:
                    close = value == truth
                # where rounding decides, one pixel in a thousand may fall on the other side
                assert (~close).float().mean() <= 1e-3, function.__qualname__
            checked.add(function.__qualname__)
            return found

        return call

    functions = compiled_functions()
    for places in functions.values():
        twin = comparing(getattr(*places[0]))
        for owner, attribute in places:
            monkeypatch.setattr(owner, attribute, twin)
    clip = room.view(room.walk(4), size=(116, 154))
    generator = torch.Generator().manual_seed(0)
    noise = 1 + 0.004 * torch.randn(clip.depth.shape, generator=generator)
    holes = torch.rand(clip.depth.shape, generator=generator) < 0.05
    clip = gs.RGBDFrames(clip.color, torch.where(holes, 0, clip.depth * noise), clip.K)
    with torch.no_grad(), compilation():
        gs.PointFusion(factor=2)(clip)
    assert checked >= {"match", "merge", "dilate_at", "grow_regions"}  # mapping
    assert checked >= {
        "splat",
        "linearize_point_to_plane",
        "measure_images",
        "linearize_photometric",
        "_propose",
        "_accept",
    }


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


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler for torch.compile")
def test_compiled_gradients_are_the_plain_ones(room):
    """Of a rendering, to all that it depends on; one output is not asked for, one input is fixed."""
    frames = room.view(room.walk(2), (45, 60))
    with torch.no_grad():
        map_ = gs.ICPSLAM("ground-truth", factor=1)(frames)[0]
    names = ("points", "colors", "radii", "confidences")
    found = []
    for on in (False, True):
        leaves = {name: getattr(map_, name).clone().requires_grad_() for name in names}
        T_wc, K = (x[:1].clone().requires_grad_() for x in (frames.T_wc, frames.K))
        with compilation(on):
            seen = gs.render(dataclasses.replace(map_, **leaves), T_wc, K, frames.size)
            (seen.color.square().sum() + seen.depth.sum()).backward()
        found.append([x.grad for x in (*leaves.values(), T_wc, K)])
    for mine, theirs in zip(*found, strict=True):
        assert theirs.abs().sum() > 0 and (mine - theirs).norm() <= 1e-4 * theirs.norm()
