"""Hot functions: one source, with a compiled twin where it pays."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch

log = logging.getLogger("gradslam_ng")
warnings.filterwarnings("ignore", category=FutureWarning, module="torch._inductor")  # between parts of torch
_compiling: ContextVar[bool] = ContextVar("compiling", default=False)
_static: ContextVar[bool] = ContextVar("static_shapes", default=False)


@contextlib.contextmanager
def compilation(on: bool = True) -> Iterator[None]:
    """Inside, hot functions run compiled. Compiling takes seconds; the result is kept on disk."""
    token = _compiling.set(on)
    try:
        with _compiler_settings() if on else contextlib.nullcontext():
            yield
    finally:
        _compiling.reset(token)


def compilation_enabled() -> bool:
    """Whether hot functions run compiled here."""
    return _compiling.get()


@contextlib.contextmanager
def static_shapes() -> Iterator[None]:
    """Inside, no shape depends on how many surfels a map holds, and host and device are never synchronized to ask.

    All slots of a map are worked on, also those that are empty, and it does not grow: `SurfelMap.reserve` room
    beforehand for all that may be allocated, and one slot more.
    """
    token = _static.set(True)
    try:
        yield
    finally:
        _static.reset(token)


def static_shapes_enabled() -> bool:
    """Whether shapes must not depend on values here."""
    return _static.get()


def seconds_compiling() -> float:
    """What compiling hot functions, and loading those compiled before, has taken in this process so far."""
    if "torch._dynamo" not in sys.modules:
        return 0.0
    return torch._dynamo.utils.calculate_time_spent()["total_wall_time"]


@contextlib.contextmanager
def _compiler_settings() -> Iterator[None]:
    """Floats among arguments are settings: compiled as variables they would keep whole loops from being vectorised.

    A function may be compiled once for each kind of problem, rule and number format it meets, but sizes that happen to
    agree in its first call need not agree in others.
    """
    import torch._dynamo  # takes a second
    import torch.fx.experimental._config as shapes

    with torch._dynamo.config.patch(specialize_float=True, recompile_limit=64), shapes.patch(use_duck_shape=False):
        yield


@functools.cache
def _say_once(message: str) -> None:
    log.warning(message)


def _may_change(entries: list) -> list[bool]:
    """Which of a twin's guards are looked at before each call: arguments may change, the package's own code does not.

    Of the 500 that an iteration of ICP would have, 50 are left; the others took 0.1 ms a call.
    """
    fixed = {"CLOSURE_MATCH", "NOT_PRESENT_IN_GENERIC_DICT"}  # methods of classes
    return [not entry.is_global and entry.guard_type not in fixed for entry in entries]


OPTIONS = {
    "guard_filter_fn": _may_change,
    # with torch 2.13 a pass over neighbouring pixels could overwrite what it was still to read
    "inplace_buffers": False,
    "cpp.min_chunk_size": 2048,  # less for each thread costs more to hand out than it takes
    # halves the time to compile; the few last pixels of a row are not worth it
    "cpp.enable_loop_tail_vec": False,
    "size_asserts": False,  # what guards have just made sure of
    "alignment_asserts": False,
    "assert_indirect_indexing": False,  # indices are made here, from what lies within the image or the map
    "max_fusion_size": 256,
    "cpp.max_horizontal_fusion_size": 256,  # the default would take the sums of the normal equations sixteen at a time
}
# What all sums of a function share is worked out within the one pass that adds them up, not stored in between.
ONE_PASS = {"realize_opcount_threshold": 120, "realize_acc_reads_threshold": 30}
GROWN = 100_000  # entries, the size for which loops over what grows are laid out


def compiled(
    function: Callable | None = None, *, growing: tuple[str, ...] | None = None, one_pass: bool = False
) -> Callable:
    """A pure function of tensors whose calls inside `compilation()` go to its `torch.compile`d twin.

    While gradients are recorded the plain function runs (`checkpoint` has a twin for the backward pass). So it does
    where compilation fails, for want of a C++ compiler above all, which is said once.

    growing: names of the arguments, tensors or dataclasses of them, whose second axis changes in size from call to
    call. With None every size may change, which takes twice as long to compile as sizes that are known.
    one_pass: see `ONE_PASS`; for functions that end in sums over all pixels.
    """
    if function is None:
        return functools.partial(compiled, growing=growing, one_pass=one_pass)
    works = True
    options = OPTIONS | ONE_PASS if one_pass else OPTIONS
    names = list(inspect.signature(function).parameters)
    places = [names.index(name) for name in growing or ()]
    twin = functools.cache(
        lambda: torch.compile(function, dynamic=growing is None or None, fullgraph=True, options=options)
    )

    @functools.wraps(function)
    def call(*args, **kwargs):
        nonlocal works
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not (_compiling.get() and works):
            return function(*args, **kwargs)
        try:
            for place in places:
                _mark_growing(args[place])
            return twin()(*args, **kwargs)
        except Exception as error:  # of many kinds, none of them documented
            result = function(*args, **kwargs)  # an error of the caller's own making is raised here, as itself
            works = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _say_once(f"running without compiled functions: {reason}")
            return result

    call.plain = function
    return call


def _mark_growing(value: Any) -> None:
    for tensor in (value,) if isinstance(value, torch.Tensor) else vars(value).values():
        if tensor.ndim > 1:
            torch._dynamo.mark_dynamic(tensor, 1, hint_override=GROWN)
