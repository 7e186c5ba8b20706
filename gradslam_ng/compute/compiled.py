"""Functions of tensors with compiled versions: one source, plain or compiled, chosen by the context.

`compilation()` switches compiled versions on, `static_shapes()` keeps shapes apart from values for CUDA graphs.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import importlib
import inspect
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

import torch
from torch import Tensor

from gradslam_ng.compute.arguments import describable, flatten
from gradslam_ng.compute.batches import split_batch
from gradslam_ng.compute.kernel_files import Version
from gradslam_ng.compute.kernel_library import Call, KernelLibrary, Wanted, library
from gradslam_ng.compute.recomputation import Gradients, Tensors, recompute, recorded_gradients
from gradslam_ng.compute.transforms import transforms_active
from gradslam_ng.compute.tree import tree_leaves, tree_structure, tree_unflatten

P = ParamSpec("P")
R = TypeVar("R")

SMALL = 16  # entries: an axis of a vector or matrix has no more, one of images has
_active: ContextVar[Compilation | None] = ContextVar("compilation", default=None)
_static: ContextVar[bool] = ContextVar("static_shapes", default=False)
_functions: list[CompiledFunction] = []


class Mode(enum.Enum):
    """How functions decorated by `compiled` run where they may run compiled."""

    BESIDE = enum.auto()  # what is missing is compiled by another process, beside this one
    WAIT = enum.auto()  # what is missing is waited for
    NESTED = enum.auto()  # within a plain function, which is what is missing


class Compilation(NamedTuple):
    """What is set within `compilation()`."""

    mode: Mode
    library: KernelLibrary


@contextlib.contextmanager
def compilation(enabled: bool = True, wait: bool = False) -> Iterator[None]:
    """Inside, functions decorated by `compiled` run compiled where they can.

    Versions on disk are loaded at the first call, some milliseconds each. What is missing is compiled by another
    process of low priority, once plain functions have taken some seconds, and used from then on; or, with `wait`, it is
    waited for. That process ends with the context.
    """
    active = Compilation(Mode.WAIT if wait else Mode.BESIDE, library()) if enabled else None
    outer, token = _active.get(), _active.set(active)
    try:
        yield
    finally:
        _active.reset(token)
        if active is not None and outer is None:
            active.library.close()


def compilation_enabled() -> bool:
    """Whether functions decorated by `compiled` run compiled here."""
    return _active.get() is not None


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
    """What calls have waited in this process for versions to be loaded or, in `compilation(wait=True)`, compiled."""
    return library().seconds


def compiled_functions() -> tuple[CompiledFunction, ...]:
    """All functions decorated by `compiled` so far, in modules that are imported."""
    return tuple(_functions)


class CompiledFunction(Generic[P, R]):
    """A function with compiled versions beside it; see `compiled`.

    plain: the function itself. name: its name, with its module.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        dynamic: tuple[str, ...] | None,
        fuse_reductions: bool = False,
        vectorize_gathers: bool = False,
        recompute: bool = True,
        batched: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self.__qualname__ = function.__qualname__
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.plain = function
        self.fuse_reductions, self.vectorize_gathers = fuse_reductions, vectorize_gathers
        self.recompute, self.batched = recompute, batched
        self.fixed_sizes = dynamic is not None
        self.signature = inspect.signature(function)
        names = list(self.signature.parameters)
        self.dynamic_places = [names.index(name) for name in dynamic or ()]
        self.reached: dict[Any, tuple[int, ...]] = {}  # by kind of backward pass, the tensors that gradients reach
        _functions.append(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        active = _active.get()
        recorded = torch.is_grad_enabled()
        if active is None or (recorded and not self.recompute) or transforms_active():
            return self.plain(*args, **kwargs)
        values = self.signature.bind(*args, **kwargs).args if kwargs else args
        tensors, key = flatten(values)
        if not all([x.is_cpu for x in tensors]):
            return self.plain(*args, **kwargs)
        if not recorded:
            return self._run(active, values, tensors, key)
        if not describable(key):  # it may hold tensors that cannot be seen from here
            return self.plain(*args, **kwargs)
        if any(x.requires_grad for x in tensors):
            return recompute(self, values, self.gradients)
        with torch.no_grad():
            return self._run(active, values, tensors, key)

    def _run(self, active: Compilation, values: Sequence[Any], tensors: list[Tensor], key: tuple[Any, ...]) -> R:
        place = (self.name, (*key, _static.get()))
        elements = split_batch(tensors) if self.batched else [tensors]
        version: Version | Wanted | None = active.library.find(place, elements[0])
        if version is None and active.mode is not Mode.NESTED:
            args = values if len(elements) == 1 else tree_unflatten(tuple(values), iter(elements[0]))
            version = active.library.provide(Call(self, place, args, elements[0]), wait=active.mode is Mode.WAIT)
        if isinstance(version, Version):
            return version(tensors) if len(elements) == 1 else version.each(elements, tensors)
        return self._run_plain(active, values, version)

    def gradients(self, args: tuple[Any, ...], needed: tuple[bool, ...], grads: Gradients) -> Gradients:
        """Of the tensors within arguments where `needed`, from those of what is returned; by a compiled version where
        there is one. Outside of `compilation()`, and once to see what gradients reach, by the plain function."""
        tensors, key = flatten(args)
        given = tuple(i for i, grad in enumerate(grads) if grad is not None)
        kind = key, needed, given
        if not compilation_enabled() or kind not in self.reached:
            structure = tree_structure(args)
            with compilation(False):
                found = recorded_gradients(partial(_leaves_of, self.plain, structure), tuple(tensors), needed, grads)
            self.reached[kind] = tuple(i for i, grad in enumerate(found) if grad is not None)
            return found
        result: Gradients = [None] * len(needed)
        if reached := self.reached[kind]:
            values = tuple(grad.contiguous() for grad in grads if grad is not None)
            for i, grad in zip(reached, backward(self)(args, reached, given, values), strict=True):
                result[i] = grad
        return result

    def _run_plain(self, active: Compilation, values: Sequence[Any], wanted: Wanted | None) -> R:
        if active.mode is Mode.NESTED:
            return cast(Any, self.plain)(*values)
        token = _active.set(active._replace(mode=Mode.NESTED))  # what is within it is not wanted by itself
        began = time.perf_counter()
        try:
            return cast(Any, self.plain)(*values)
        finally:
            _active.reset(token)
            if wanted is not None:
                wanted.seconds += time.perf_counter() - began

    def dynamic_sizes(self, args: Sequence[Any]) -> list[list[bool]]:
        """By tensor within arguments and axis, whether the size changes from call to call."""
        free = []
        for place, value in enumerate(args):
            named = place in self.dynamic_places
            for tensor in tree_leaves(value):
                changing = [named and (axis == 1 or (axis > 1 and n > SMALL)) for axis, n in enumerate(tensor.shape)]
                free.append(changing if self.fixed_sizes else [True] * tensor.ndim)
        return free

    def __reduce__(self) -> Any:
        return find_function, (self.__module__, self.__qualname__)  # by name, as functions are


class CompiledBackward(CompiledFunction[[tuple[Any, ...], tuple[int, ...], tuple[int, ...], Tensors], Tensors]):
    """The backward pass of a compiled function, which is worked out again in it: (args, wanted, given, grads).

    grads are those of the returned tensors number `given`; it returns those of the arguments' tensors number `wanted`.
    """

    def __init__(self, function: CompiledFunction) -> None:
        def gradients(
            args: tuple[Any, ...], wanted: tuple[int, ...], given: tuple[int, ...], grads: Tensors
        ) -> Tensors:
            tensors, structure = tuple(tree_leaves(args)), tree_structure(args)

            def part(*chosen: Tensor) -> Tensors:
                values = list(tensors)
                for i, x in zip(wanted, chosen, strict=True):
                    values[i] = x
                outputs = _leaves_of(function.plain, structure, *values)
                return tuple(outputs[i] for i in given)

            inputs = tuple(tensors[i] for i in wanted)
            if transforms_active():  # it is being compiled
                return torch.func.vjp(part, *inputs)[1](grads)
            with compilation(False):
                return cast(Tensors, tuple(recorded_gradients(part, inputs, (True,) * len(inputs), list(grads))))

        gradients.__module__, gradients.__qualname__ = function.__module__, f"{function.__qualname__}.backward"
        super().__init__(gradients, dynamic=None, fuse_reductions=function.fuse_reductions, batched=function.batched)
        self.function = function

    def dynamic_sizes(self, args: Sequence[Any]) -> list[list[bool]]:
        """Those of the function's arguments, and of what it returns unless its sizes are fixed."""
        values, _, _, grads = args
        return self.function.dynamic_sizes(values) + [[not self.function.fixed_sizes] * x.ndim for x in grads]

    def __reduce__(self) -> Any:
        return backward, (self.function,)


@functools.cache
def backward(function: CompiledFunction) -> CompiledBackward:
    """The backward pass of a compiled function, one for each."""
    return CompiledBackward(function)


def _leaves_of(function: Callable[..., Any], structure: Any, *tensors: Tensor) -> Tensors:
    return tuple(tree_leaves(function(*tree_unflatten(structure, iter(tensors)))))


def find_function(module: str, name: str) -> CompiledFunction:
    """The compiled function of that name.

    Raises:
        AttributeError: it lies within another function.
    """
    found = operator.attrgetter(name)(importlib.import_module(module))
    return inspect.unwrap(found, stop=lambda each: isinstance(each, CompiledFunction))  # within other decorators


@overload
def compiled(function: Callable[P, R], /) -> CompiledFunction[P, R]: ...


@overload
def compiled(
    *,
    dynamic: tuple[str, ...] | None = None,
    fuse_reductions: bool = False,
    vectorize_gathers: bool = False,
    recompute: bool = True,
    batched: bool = False,
) -> Callable[[Callable[P, R]], CompiledFunction[P, R]]: ...


def compiled(
    function: Callable | None = None,
    /,
    *,
    dynamic: tuple[str, ...] | None = None,
    fuse_reductions: bool = False,
    vectorize_gathers: bool = False,
    recompute: bool = True,
    batched: bool = False,
) -> Any:
    """A pure function of tensors whose calls inside `compilation()` go to a version compiled by torch's inductor.

    A version is for one kind of arguments (types, settings, sizes that do not change) and lies on disk. Where there is
    none yet, for want of a C++ compiler above all, and where tensors are not on the CPU the plain function runs. While
    gradients are recorded only the arguments are kept: the backward pass, compiled as well, works out the rest again.

    dynamic: names of the arguments, tensors or dataclasses of them, whose second axis changes in size from call to
    call, and later ones but those of vectors and matrices. With None every size may change, which takes twice as long
    to compile as sizes that are known.
    recompute: False for functions that write to their arguments, or whose arguments hold much more than their gradient
        needs: while gradients are recorded the plain one runs, in which others may be compiled.
    fuse_reductions: for functions that end in sums over all pixels: what these share is worked out within the one pass
    that adds them up, not stored in between.
    vectorize_gathers: for functions that compute much with what they read here and there.
    batched: all tensors that it takes have a first axis of the same size, but for numbers (), and so do all that it
        returns; elements of a batch do not depend on each other. Each is then a call of the version for one.
    """
    decorate = functools.partial(
        CompiledFunction,
        dynamic=dynamic,
        fuse_reductions=fuse_reductions,
        vectorize_gathers=vectorize_gathers,
        recompute=recompute,
        batched=batched,
    )
    return decorate if function is None else decorate(function)
