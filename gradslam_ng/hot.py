"""Hot functions: one source, with a compiled twin where it pays."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch

log = logging.getLogger("gradslam_ng")
warnings.filterwarnings("ignore", category=FutureWarning, module="torch._inductor")  # between parts of torch
_compiling: ContextVar[bool] = ContextVar("compiling", default=False)


@contextlib.contextmanager
def compiling(on: bool = True) -> Iterator[None]:
    """Inside, hot functions run compiled. Compiling takes seconds; the result is kept on disk."""
    token = _compiling.set(on)
    try:
        with _numbers_are_constants() if on else contextlib.nullcontext():
            yield
    finally:
        _compiling.reset(token)


def compiled() -> bool:
    """Whether hot functions run compiled here."""
    return _compiling.get()


def _numbers_are_constants() -> contextlib.AbstractContextManager:
    """Floats among arguments are settings: compiled as variables they would keep whole loops from being vectorised.

    A function may be compiled once for each kind of problem, rule and number format it meets.
    """
    import torch._dynamo  # takes a second

    return torch._dynamo.config.patch(specialize_float=True, recompile_limit=64)


@functools.cache
def _say_once(message: str) -> None:
    log.warning(message)


def _may_change(entries: list) -> list[bool]:
    """Which of a twin's guards are looked at before each call: arguments may change, the package's own code does not.

    Of the 500 that an iteration of ICP would have, 50 are left; the others took 0.1 ms a call.
    """
    fixed = {"CLOSURE_MATCH", "NOT_PRESENT_IN_GENERIC_DICT"}  # methods of classes
    return [not entry.is_global and entry.guard_type not in fixed for entry in entries]


def hot(function: Callable) -> Callable:
    """A pure function of tensors whose calls inside `compiling()` go to its `torch.compile`d twin.

    While gradients are recorded the plain function runs (`recomputed` has a twin for the backward pass). So it does
    where compilation fails, for want of a C++ compiler above all, which is said once.
    """
    works = True
    # inplace_buffers: with torch 2.13 a pass over neighbouring pixels could overwrite what it was still to read
    # min_chunk_size: threads that wait for each other at every small loop cost more than they bring, all the more on a
    # machine that others use too
    options = {"inplace_buffers": False, "cpp.min_chunk_size": 16384, "guard_filter_fn": _may_change}
    twin = functools.cache(lambda: torch.compile(function, dynamic=True, fullgraph=True, options=options))

    @functools.wraps(function)
    def call(*args, **kwargs):
        nonlocal works
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not (_compiling.get() and works):
            return function(*args, **kwargs)
        try:
            return twin()(*args, **kwargs)
        except Exception as error:  # of many kinds, none of them documented
            result = function(*args, **kwargs)  # an error of the caller's own making is raised here, as itself
            works = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _say_once(f"running without compiled functions: {reason}")
            return result

    call.plain = function
    return call
