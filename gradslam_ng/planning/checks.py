"""Checks of tensors that are handed to controllers: finite, of one precision, on one device, and of shapes that fit."""

from __future__ import annotations

from torch import Tensor

from gradslam_ng.compute.transforms import is_vmapped


def check_tensors(**tensors: Tensor) -> None:
    """All are finite and share a floating-point precision and a device.

    Raises:
        TypeError: a value that is no tensor, or not of floating-point numbers.
        ValueError: numbers that are not finite, or tensors of another precision or device than the first.
    """
    first: tuple[str, str] | None = None
    for name, x in tensors.items():
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"{name}: expected a tensor of floating-point numbers, got {_kind(x)}")
        first = first or (name, _place(x))
        if _place(x) != first[1]:
            raise ValueError(f"{name}: expected {first[1]} like {first[0]}, got {_place(x)}")
        finite = x.detach().isfinite()
        if not is_vmapped(finite) and not bool(finite.all()):
            raise ValueError(f"{name}: expected finite numbers, {int((~finite).sum())} of {x.numel()} are not")


def check_shape(name: str, x: Tensor, shape: tuple[int, ...], meaning: str) -> None:
    """The trailing axes of x are as they should be.

    Raises:
        ValueError: they are not.
    """
    if x.ndim < len(shape) or x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"{name}: expected (..., {', '.join(map(str, shape))}), {meaning}, got {tuple(x.shape)}")


def check_all(name: str, ok: Tensor, expected: str) -> None:
    """Every element of a batch is as it should be.

    Raises:
        ValueError: some are not; it names the first.
    """
    if not is_vmapped(ok) and not bool(ok.all()):
        wrong = (~ok).nonzero()
        where = "" if ok.ndim == 0 else f", not so at index {tuple(wrong[0].tolist())} ({len(wrong)} of {ok.numel()})"
        raise ValueError(f"{name}: expected {expected}{where}")


def _kind(x: object) -> str:
    return str(x.dtype) if isinstance(x, Tensor) else type(x).__name__


def _place(x: Tensor) -> str:
    return f"{x.dtype} on {x.device}"
