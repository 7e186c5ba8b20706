"""Summary statistics of errors: RMSE, mean, median, standard deviation, extremes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Statistics:
    """Errors of one kind and their summary. Population standard deviation; NaN throughout where there are no errors."""

    errors: Tensor  # (N,), float64

    @property
    def rmse(self) -> float:
        return math.sqrt(self.errors.square().mean().item())

    @property
    def mean(self) -> float:
        return self.errors.mean().item()

    @property
    def median(self) -> float:
        """Mean of the two middle errors where N is even (torch.median would take the lower one)."""
        ordered, n = self.errors.sort().values, len(self.errors)
        return ordered[(n - 1) // 2 : n // 2 + 1].mean().item()

    @property
    def std(self) -> float:
        return self.errors.std(correction=0).item() if len(self.errors) else math.nan

    @property
    def min(self) -> float:
        return self.errors.min().item() if len(self.errors) else math.nan

    @property
    def max(self) -> float:
        return self.errors.max().item() if len(self.errors) else math.nan

    def summary(self) -> dict[str, float]:
        """The figures without the errors themselves, for tables and JSON."""
        return {name: getattr(self, name) for name in ("rmse", "mean", "median", "std", "min", "max")}


def as_errors(values: Tensor) -> Tensor:
    """Errors as metrics keep them: (N,), float64, on the CPU, without a graph."""
    return values.detach().to("cpu", torch.float64).reshape(-1)
