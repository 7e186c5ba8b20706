"""What is handed to a factor graph: elements of their groups, finite, of one precision and on one device."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.transforms import is_vmapped
from gradslam_ng.optim.variables import TensorVariable

TOLERANCE = 1e-2  # of a rotation's orthonormality: files round


def check_finite(what: str, x: Tensor) -> None:
    """Raise ValueError for NaN and infinite entries."""
    finite = x.detach().isfinite()
    if not is_vmapped(finite) and not bool(finite.all()):
        raise ValueError(f"{what}: expected finite numbers, {int((~finite).sum())} of {x.numel()} are not")


def check_alike(what: str, x: Tensor, like: Tensor) -> None:
    """Raise ValueError unless x has the precision of the graph's variables, and lies where they do."""
    now, before = (f"{y.dtype} on {y.device}" for y in (x, like))
    if now != before:
        raise ValueError(f"{what}: expected {before} like the graph's variables, got {now}")


def check_elements(
    what: str,
    variable: TensorVariable,
    x: Tensor,  # (..., *event)
) -> None:
    """Raise ValueError unless all x are finite elements of the variable's group, such as poses."""
    event = variable.event_shape(x)
    if x.shape[-len(event) :] != event:
        raise ValueError(f"{what}: expected (..., {', '.join(map(str, event))}), got {tuple(x.shape)}")
    check_finite(what, x)
    if variable.group is None:
        return
    with torch.no_grad():
        product = x @ variable.group.inverse(x)
        off = (product - torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)).abs().amax((-2, -1))
        wrong = (off > TOLERANCE) | (torch.linalg.det(x) <= 0)
        if not is_vmapped(wrong) and bool(wrong.any()):
            kind = type(variable).__name__
            raise ValueError(f"{what}: expected elements of {kind}, got {x[wrong][0].tolist()}")
