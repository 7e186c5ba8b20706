"""Arguments of compiled functions taken apart: their tensors, and what of the rest a compiled version depends on."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor

_field_names: dict[Any, tuple[str, ...]] = {}  # worked out once a type
_describable: dict[tuple[Any, ...], list[str]] = {}
NAMED = (type, FunctionType, BuiltinFunctionType)  # what is told by its module and its name
SETTINGS = {bool, int, float, str, type(None), torch.dtype, torch.device}


class TensorSpec(NamedTuple):
    """What a version is compiled for, of one tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dynamic: tuple[bool, ...]  # which sizes may be others in the next call

    @classmethod
    def of(cls, tensor: Tensor, dynamic: Sequence[bool]) -> TensorSpec:
        shape = tuple(tensor.shape)
        sizes = tuple(free and size > 1 for free, size in zip(dynamic, shape, strict=True))
        strides = zip(shape, tensor.stride(), dense_stride(shape), strict=True)
        stride = tuple(own if n > 1 else dense for n, own, dense in strides)  # along an axis of one none is ever taken
        return cls(tensor.dtype, shape, stride, sizes)

    @property
    def ones(self) -> list[int]:
        """Axes of size one."""
        return [axis for axis, size in enumerate(self.shape) if size == 1]

    def describe(self) -> str:
        """The same for all tensors that one version is for: sizes that may change are left out."""
        sizes = ("*" if free else str(size) for size, free in zip(self.shape, self.dynamic, strict=True))
        dense = self.stride == dense_stride(self.shape)
        strides = "dense" if dense else "strided" if any(self.dynamic) else str(self.stride)
        return f"{self.dtype}[{','.join(sizes)}] {strides}"


def dense_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """That of a tensor of a shape without gaps."""
    return torch.empty(shape, device="meta").stride()


def flatten(args: Sequence[Any]) -> tuple[list[Tensor], tuple[Any, ...]]:
    """The tensors within arguments, in the order of `tree_leaves`, and all else that a version depends on but sizes:
    types, number formats, settings."""
    tensors: list[Tensor] = []
    key: list[Any] = []
    for value in args:
        _flatten(value, tensors, key)
    return tensors, tuple(key)


def _flatten(value: Any, tensors: list[Tensor], key: list[Any]) -> None:
    kind = type(value)
    if kind is Tensor:  # most values are: they are taken as fast as Python can
        tensors.append(value)
        key += (value.dtype, value.dim())
        return
    names = _field_names.get(kind)
    if names is None and isinstance(value, Tensor):
        tensors.append(value)
        key += (value.dtype, value.dim())
        return
    key.append(kind)  # 1, 1.0 and True are equal
    if names is not None:
        for name in names:
            part = getattr(value, name)
            if type(part) is Tensor:
                tensors.append(part)
                key += (part.dtype, part.dim())
            else:
                _flatten(part, tensors, key)
    elif kind in SETTINGS:
        key.append(value)
    else:
        _flatten_other(value, kind, tensors, key)


def _flatten_other(value: Any, kind: type, tensors: list[Tensor], key: list[Any]) -> None:
    """Of a value that is neither tensor nor setting, nor a dataclass that was met before."""
    if isinstance(value, tuple):
        key.append(len(value))
        for part in value:
            _flatten(part, tensors, key)
    elif isinstance(value, dict):
        for name, part in value.items():
            key.append(name)
            _flatten(part, tensors, key)
    elif dataclasses.is_dataclass(value):
        for name in field_names(kind):
            _flatten(getattr(value, name), tensors, key)
    elif isinstance(value, (list, set)):
        key.append(object())  # may hold anything
    elif callable(value) or isinstance(value, enum.Enum) or vars(value):
        key.append(value)  # else an object without attributes is told by its type


def field_names(kind: Any) -> tuple[str, ...]:
    """Of a dataclass, those that its constructor takes."""
    if kind not in _field_names:
        _field_names[kind] = tuple(field.name for field in dataclasses.fields(kind) if field.init)
    return _field_names[kind]


def digest(name: str, key: tuple[Any, ...], specs: Sequence[TensorSpec]) -> str:
    """A name for the version of a function for such arguments, the same in every process."""
    text = "\n".join([name, *map(_describe, key), *(spec.describe() for spec in specs)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def describable(key: tuple[Any, ...]) -> bool:
    """Whether `digest` can tell arguments with such a key from all others."""
    try:
        if key not in _describable:  # of other keys none is kept: their objects may be large
            _describable[key] = [_describe(value) for value in key]
    except TypeError:
        return False
    return True


def _describe(value: Any) -> str:
    """
    Raises:
        TypeError: a value of a type that is no setting.
    """
    if isinstance(value, enum.Enum) or type(value) in SETTINGS:
        return repr(value)
    if isinstance(value, NAMED) and "<" not in value.__qualname__:  # as that of a function within another
        return f"{value.__module__}.{value.__qualname__}"
    raise TypeError(f"expected numbers, names and dataclasses of them beside tensors, got {type(value).__name__}")
