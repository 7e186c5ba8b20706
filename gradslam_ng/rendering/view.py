"""Checks of the camera that a map is rendered for."""

from __future__ import annotations

from torch import Tensor

from gradslam_ng.compute.transforms import is_vmapped
from gradslam_ng.geometry import camera, se3


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
        ValueError: T_wc or K of another shape, precision or device, T_wc no rigid motion, or K no pinhole camera's.
    """
    for name, value, tail in (("T_wc", T_wc, (4, 4)), ("K", K, (3, 3))):
        if value.shape != (batch, *tail):
            raise ValueError(f"{name}: expected shape {(batch, *tail)}, one per {what}, got {tuple(value.shape)}")
        same = value.dtype == like.dtype or (name == "T_wc" and value.is_floating_point())  # poses may be finer
        if not same or value.device != like.device:
            now, before = (f"{x.dtype} on {x.device}" for x in (value, like))
            raise ValueError(f"{name}: expected {before} like the {what}, got {now}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: expected height and width of an image, got {size}")
    right = se3.is_rigid(T_wc, tol=1e-3) & camera.is_pinhole(K, size)
    if not is_vmapped(right) and not bool(right.all()):
        raise ValueError(
            f"T_wc, K: expected rigid motions and pinhole cameras in pixels, got {T_wc.tolist()} and {K.tolist()}"
        )
