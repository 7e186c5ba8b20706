"""Trees of tensors: tuples, named tuples, dictionaries and dataclasses, nested; whatever else they hold stays as it is.

Like `torch.utils._pytree`, for dataclasses too, and traced by `torch.compile`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from gradslam_ng.compute.safe import expand_mask

T = TypeVar("T")


class Placeholder:
    """Stands for a tensor in a structure."""


def tree_leaves(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, in the order in which `tree_unflatten` takes them."""
    if isinstance(value, Tensor):
        yield value
    else:
        for part in _children(value).values():
            yield from tree_leaves(part)


def tree_structure(value: Any) -> Any:
    """The value without its tensors, for `tree_unflatten`."""
    return tree_unflatten(value, repeat(Placeholder()))


def tree_unflatten(value: Any, leaves: Iterator[Any]) -> Any:
    """The value, or what `tree_structure` leaves of one, with others in the places of its tensors."""
    if isinstance(value, (Tensor, Placeholder)):
        return next(leaves)
    return _rebuild(value, {name: tree_unflatten(part, leaves) for name, part in _children(value).items()})


def tree_map(function: Callable[..., Tensor], first: T, *others: T) -> T:
    """`function` applied to the tensors of values of one structure; what is no tensor is taken from the first."""
    if isinstance(first, Tensor):
        return cast(T, function(first, *others))
    rest = [_children(other) for other in others]
    children = {name: tree_map(function, x, *[other[name] for other in rest]) for name, x in _children(first).items()}
    return _rebuild(first, children)


def unshared(value: T) -> T:
    """The value, to be updated in place; a copy of it where no gradients are recorded now but those of its tensors have
    been: a backward pass may still need them as they are."""
    if torch.is_grad_enabled() or not any(x.requires_grad for x in tree_leaves(value)):
        return value
    return tree_map(lambda x: x.detach().clone(), value)


def tree_where(mask: Tensor, a: T, b: T) -> T:
    """The tensors (..., *event) of a where the mask (...) holds, those of b elsewhere."""
    return tree_map(lambda x, y: torch.where(expand_mask(mask, x), x, y), a, b)


def _children(value: Any) -> dict[Any, Any]:
    if isinstance(value, tuple):
        return dict(enumerate(value))
    if isinstance(value, dict):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    return {}


def _rebuild(value: Any, children: dict[Any, Any]) -> Any:
    if isinstance(value, tuple):
        kind = type(value)
        return tuple(children.values()) if kind is tuple else kind(*children.values())  # a NamedTuple
    if isinstance(value, dict):
        return children
    if not children:
        return value
    if type(value).__dataclass_params__.init:
        return dataclasses.replace(value, **children)
    made = copy.copy(value)  # its own constructor takes something else
    for name, part in children.items():
        object.__setattr__(made, name, part)
    return made
