"""Discrete choices: functions whose results are constants of the gradient.

Which pixel meets which surfel, which is in front, which voxel exists: gradients are those of what follows from such
choices, at the choices made. Central differences agree with them only while every choice is held, so choices can be
intercepted: recorded at one input and replayed at inputs near it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from gradslam_ng.compute.transforms import transforms_active
from gradslam_ng.compute.tree import tree_map

TIE = 2.0**-10  # pixels, voxels or blocks, by which rounding never moves a point

P = ParamSpec("P")
R = TypeVar("R")

_interceptor: Callable[..., Any] | None = None  # no context variable: backward passes run in threads of their own


def discrete(function: Callable[P, R]) -> Callable[P, R]:
    """A function or method without gradient, whose calls `intercept_choices` sees. Goes above `compiled`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.no_grad():
            if torch.compiler.is_compiling():
                return function(*args, **kwargs)
            if transforms_active():  # forward mode does not heed no_grad
                return tree_map(Tensor.detach, function(*args, **kwargs))
            if _interceptor is None:
                return function(*args, **kwargs)
            return _interceptor(function, *args, **kwargs)

    return call


def steady_floor(x: Tensor) -> Tensor:
    """The cell of unit width in which x (...) lies: a constant of the gradient.

    Points lie on the border between two more often than by chance: a camera that has not moved sees a map's points at
    centers of pixels, and one at the world's origin sees planes of voxels edge on. There rounding would choose, by
    another thread or a change of the input by nothing, and values and slopes would jump. So what lies less than `TIE`
    before a border counts as beyond it.
    """
    return (x.detach() + TIE).floor()


@contextlib.contextmanager
def intercept_choices(interceptor: Callable[..., Any]) -> Iterator[None]:
    """Inside, interceptor(function, *args, **kwargs) answers for every discrete function that is called.

    Not those within compiled functions: leave `compilation()` off.
    """
    global _interceptor
    before, _interceptor = _interceptor, interceptor
    try:
        yield
    finally:
        _interceptor = before
