"""torch.compile for pure functions of tensors: one source, plain or compiled, chosen by the context.

`compilation()` switches compiled versions on, `static_shapes()` keeps shapes apart from values for CUDA graphs.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, TypeVar, overload

import torch

from gradslam_ng.compute.compiler_options import SIZE_HINT, compiler_options

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("gradslam_ng")
_compiling: ContextVar[bool] = ContextVar("compiling", default=False)
_static: ContextVar[bool] = ContextVar("static_shapes", default=False)
_functions: list[CompiledFunction] = []


@contextlib.contextmanager
def compilation(enabled: bool = True) -> Iterator[None]:
    """Inside, functions decorated by `compiled` run compiled. Compiling takes seconds; the result is kept on disk."""
    token = _compiling.set(enabled)
    try:
        with _compiler_settings() if enabled else contextlib.nullcontext():
            yield
    finally:
        _compiling.reset(token)


def compilation_enabled() -> bool:
    """Whether functions decorated by `compiled` run compiled here."""
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
    """What compiling functions, and loading those compiled before, has taken in this process so far."""
    if "torch._dynamo" not in sys.modules:
        return 0.0
    return torch._dynamo.utils.calculate_time_spent()["total_wall_time"]


def compiled_functions() -> tuple[CompiledFunction, ...]:
    """All functions decorated by `compiled` so far, in modules that are imported."""
    return tuple(_functions)


@contextlib.contextmanager
def _compiler_settings() -> Iterator[None]:
    """Floats among arguments are settings: compiled as variables they would keep whole loops from being vectorized.

    A function may be compiled once for each kind of problem, strategy and number format it meets, but sizes that happen
    to agree in its first call need not agree in others.
    """
    import torch._dynamo  # takes a second
    import torch.fx.experimental._config

    dynamo: Any = torch._dynamo.config
    shapes: Any = torch.fx.experimental._config
    with (
        warnings.catch_warnings(),
        dynamo.patch(specialize_float=True, recompile_limit=64),
        shapes.patch(use_duck_shape=False),
    ):
        # one part of torch warns of another
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch._inductor")
        yield


class CompiledFunction(Generic[P, R]):
    """A function with a compiled version beside it; see `compiled`.

    plain: the function itself.
    """

    def __init__(self, function: Callable[P, R], *, dynamic: tuple[str, ...] | None, fuse_reductions: bool) -> None:
        functools.update_wrapper(self, function)
        self.__qualname__ = function.__qualname__
        self.plain = function
        self.fuse_reductions = fuse_reductions
        self.fixed_sizes = dynamic is not None
        names = list(inspect.signature(function).parameters)
        self.dynamic_places = [names.index(name) for name in dynamic or ()]
        self.works = True
        _functions.append(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not (_compiling.get() and self.works):
            return self.plain(*args, **kwargs)
        try:
            for place in self.dynamic_places:
                _mark_dynamic(args[place])
            return self.version(*args, **kwargs)
        except Exception as error:  # of many kinds, none of them documented
            result = self.plain(*args, **kwargs)  # an error of the caller's own making is raised here, as itself
            self.works = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _warn_once(f"running without compiled functions: {reason}")
            return result

    @functools.cached_property
    def version(self) -> Callable[P, R]:
        """The compiled version, made when it is first called."""
        dynamic = None if self.fixed_sizes else True
        return torch.compile(
            self.plain, dynamic=dynamic, fullgraph=True, options=compiler_options(self.fuse_reductions) or None
        )

    def __reduce__(self) -> str:
        return self.__qualname__  # copied and pickled by name, as functions are


@overload
def compiled(function: Callable[P, R], /) -> CompiledFunction[P, R]: ...


@overload
def compiled(
    *, dynamic: tuple[str, ...] | None = None, fuse_reductions: bool = False
) -> Callable[[Callable[P, R]], CompiledFunction[P, R]]: ...


def compiled(
    function: Callable | None = None, /, *, dynamic: tuple[str, ...] | None = None, fuse_reductions: bool = False
) -> Any:
    """A pure function of tensors whose calls inside `compilation()` go to its version by `torch.compile`.

    While gradients are recorded the plain function runs (`checkpoint` has a compiled version of the backward pass). So
    it does where compilation fails, for want of a C++ compiler above all, which is said once.

    dynamic: names of the arguments, tensors or dataclasses of them, whose second axis changes in size from call to
    call. With None every size may change, which takes twice as long to compile as sizes that are known.
    fuse_reductions: for functions that end in sums over all pixels: what these share is worked out within the one pass
    that adds them up, not stored in between.
    """
    decorate = functools.partial(CompiledFunction, dynamic=dynamic, fuse_reductions=fuse_reductions)
    return decorate if function is None else decorate(function)


def _mark_dynamic(value: Any) -> None:
    for tensor in (value,) if isinstance(value, torch.Tensor) else vars(value).values():
        if isinstance(tensor, torch.Tensor) and tensor.ndim > 1:
            torch._dynamo.mark_dynamic(tensor, 1, hint_override=SIZE_HINT)


@functools.cache
def _warn_once(message: str) -> None:
    log.warning(message)
