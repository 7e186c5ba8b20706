"""Checks of the camera that a map is rendered for."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from gradslam_ng.compute.transforms import is_vmapped
from gradslam_ng.geometry import camera, se3
from gradslam_ng.structures import SurfelMap


def check_view(
    T_wc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    batch: int,
    size: tuple[int, int],
    like: Tensor,
    what: str,
) -> None:
    """One camera for each of the maps. `what` is the word for such a map, `like` a tensor (batch, ...) of it.

    Raises:
        ValueError: a size that is no two whole numbers, T_wc or K of another shape, precision or device, T_wc no rigid
            motion, or K no pinhole camera's for images of that size.
    """
    for name, value, tail in (("T_wc", T_wc, (4, 4)), ("K", K, (3, 3))):
        if value.shape != (batch, *tail):
            raise ValueError(f"{name}: expected shape {(batch, *tail)}, one per {what}, got {tuple(value.shape)}")
        same = value.dtype == like.dtype or (name == "T_wc" and value.is_floating_point())  # poses may be finer
        if not same or value.device != like.device:
            now, before = (f"{x.dtype} on {x.device}" for x in (value, like))
            raise ValueError(f"{name}: expected {before} like the {what}, got {now}")
    numbers = size if isinstance(size, Sequence) else ()
    if len(numbers) != 2 or not all(isinstance(n, Integral | torch.SymInt) and n >= 1 for n in numbers):
        raise ValueError(f"size: expected height and width of an image, pixels, got {size!r:.100}")
    right = se3.is_rigid(T_wc, tol=1e-3) & camera.is_pinhole(K, size)
    if not is_vmapped(right) and not bool(right.all()):
        raise ValueError(
            f"T_wc, K: expected rigid motions and pinhole cameras, in pixels of images of {size[1]}x{size[0]}, got "
            f"{T_wc.tolist()} and {K.tolist()}"
        )


def check_surfels(map_: SurfelMap) -> None:
    """Surfels whose numbers are numbers: one that is not would spoil every pixel that it reaches.

    Raises:
        ValueError: points, normals, colors, radii or confidences that are not finite; names which.
    """
    values = {name: getattr(map_, name).detach() for name in ("points", "normals", "colors", "radii", "confidences")}
    if any(map(is_vmapped, values.values())):
        return
    finite = {
        name: value.isfinite().reshape(*value.shape[:2], -1).all(-1) | ~map_.mask for name, value in values.items()
    }
    if bool(torch.stack(list(finite.values())).all()):
        return
    name, right = next((name, right) for name, right in finite.items() if not bool(right.all()))
    raise ValueError(f"map: expected finite {name}, got NaN or infinity in {int((~right).sum())} surfels")
