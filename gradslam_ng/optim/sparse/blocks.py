"""Indices of symmetric matrices stored in blocks, which every factorization starts from."""

from __future__ import annotations

import numpy as np


class NotPositiveDefinite(ArithmeticError):
    """A pivot was not positive, or not a number."""


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ... for each, joined."""
    shift = starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(starts) else starts
    return np.repeat(shift, lengths) + np.arange(lengths.sum())


def entries(sizes: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every value of stored blocks, which lie one after the other, each row by row."""
    areas = sizes[rows] * sizes[cols]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    within, wide = ranges(np.zeros(len(areas), np.int64), areas), np.repeat(sizes[cols], areas)
    return np.repeat(starts[rows], areas) + within // wide, np.repeat(starts[cols], areas) + within % wide
