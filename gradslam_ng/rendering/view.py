"""Checks of the camera that a map is rendered for."""

from __future__ import annotations

from torch import Tensor


def check_view(
    T_wc: Tensor,  # (B, 4, 4)
    K: Tensor,  # (B, 3, 3)
    batch: int,
    what: str,
) -> None:
    """One camera for each of `batch` maps. `what` is the word for such a map.

    Raises:
        ValueError: T_wc or K of another shape.
    """
    for name, value, tail in (("T_wc", T_wc, (4, 4)), ("K", K, (3, 3))):
        if value.shape != (batch, *tail):
            raise ValueError(f"{name}: expected shape {(batch, *tail)}, one per {what}, got {tuple(value.shape)}")
