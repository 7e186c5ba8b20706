"""Modes of torch that a caller may have on and that results must not depend on: autocast, inference mode, a default
device.

Geometry needs single precision, what is made in inference mode could not be differentiated later, and tensors belong
where those are that they are computed from, or on the CPU. So public functions and methods turn these modes off, by one
decorator. Networks that are handed in run as their owner set things up (`as_caller`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as any_autocast_on  # asking for each device takes ten times as long
from torch._C import _len_torch_function_stack as number_of_modes
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

P = ParamSpec("P")
R = TypeVar("R")

DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")  # that autocast may be on for
_autocast: ContextVar[tuple[tuple[str, torch.dtype], ...]] = ContextVar("autocast", default=())  # turned off


def mode_free(function: Callable[P, R]) -> Callable[P, R]:
    """A function or method that computes the same whatever the caller's modes; where none is on it costs nothing.

    It makes tensors where those that it is given are, and on the CPU where there are none, such as of files.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or not _any_mode_on():
            return function(*args, **kwargs)
        with _without_modes():
            return function(*args, **kwargs)

    return call


def _any_mode_on() -> bool:
    return any_autocast_on() or torch.is_inference_mode_enabled() or _device_mode_on()


def _device_mode_on() -> bool:
    """Whether tensors are made elsewhere than on the CPU unless told. Torch itself would make a tensor to find out."""
    if not number_of_modes():
        return False
    devices = [mode.device for mode in _get_current_function_mode_stack() if isinstance(mode, DeviceContext)]
    return bool(devices) and devices[-1].type != "cpu"


def autocast_on() -> tuple[tuple[str, torch.dtype], ...]:
    """Types of devices for which autocast is on, and to what."""
    return tuple((kind, torch.get_autocast_dtype(kind)) for kind in DEVICE_TYPES if torch.is_autocast_enabled(kind))


@contextlib.contextmanager
def _without_modes() -> Iterator[None]:
    on = autocast_on()
    token = _autocast.set(on or _autocast.get())  # one such function may call another
    try:
        with contextlib.ExitStack() as stack:
            for kind, _ in on:
                stack.enter_context(torch.autocast(kind, enabled=False))
            if _device_mode_on():
                stack.enter_context(torch.device("cpu"))
            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.no_grad())
            yield
    finally:
        _autocast.reset(token)


def recordable(x: Tensor) -> Tensor:
    """x; a copy where gradients are recorded and x was made in inference mode, since torch keeps no such x for them."""
    return x.clone() if torch.is_grad_enabled() and x.is_inference() else x


@contextlib.contextmanager
def as_caller() -> Iterator[None]:
    """Inside, autocast as it was where a `mode_free` function was called: for networks that are handed in."""
    with contextlib.ExitStack() as stack:
        for kind, dtype in _autocast.get():
            stack.enter_context(torch.autocast(kind, dtype=dtype))
        yield
