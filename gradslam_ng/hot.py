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
        yield
    finally:
        _compiling.reset(token)


@functools.cache
def _say_once(message: str) -> None:
    log.warning(message)


def hot(function: Callable) -> Callable:
    """A pure function of tensors whose calls inside `compiling()` go to its `torch.compile`d twin.

    While gradients are recorded the plain function runs. So it does where compilation fails, for want of a C++
    compiler above all, which is said once.
    """
    works = True
    twin = functools.cache(lambda: torch.compile(function, dynamic=True, fullgraph=True))

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
