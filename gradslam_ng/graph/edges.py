"""Edges of pose graphs: relative poses that were measured, alone and as factors of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.graph.factor import Weight
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.optim.costs import DiagonalWeight, FullWeight, IsotropicWeight, evaluate
from gradslam_ng.optim.kernels import Kernel


@dataclass(frozen=True, eq=False)
class Edge:
    """Pose j measured to lie at T_ij from pose i."""

    i: int
    j: int
    T_ij: Tensor  # (..., 4, 4)
    weight: Weight | None  # of log(T_ij^-1 T_i^-1 T_j) of one edge: values (..., 1), (..., 1, 6), (..., 1, 6, 6)
    kernel: Kernel | None = None

    @property
    def sqrt_information(self) -> Tensor:
        """W (6, 6) of one edge, with W^T W its information."""
        identity = torch.eye(6, dtype=self.T_ij.dtype, device=self.T_ij.device)
        return identity if self.weight is None else self.weight(identity[None])[0]


def add_edges(graph: FactorGraph, name: str, edges: Sequence[Edge]) -> None:
    """Factors between the poses of that name, one for the edges of each kind of weight and each kernel."""
    kinds: dict[tuple, list[Edge]] = {}  # kernels may hold tensors, which do not compare: one object is one kernel
    for edge in edges:
        kinds.setdefault((type(edge.weight), id(edge.kernel)), []).append(edge)
    for same_kind in kinds.values():
        graph.add_between(
            name,
            [edge.i for edge in same_kind],
            [edge.j for edge in same_kind],
            torch.stack(torch.broadcast_tensors(*[edge.T_ij for edge in same_kind]), dim=-3),
            weight=_stack_weights([edge.weight for edge in same_kind]),
            kernel=same_kind[0].kernel,
        )


def _stack_weights(weights: list[Weight | None]) -> Weight | None:
    """One weight of M edges made of M weights of one kind, each of one edge."""
    if weights[0] is None:
        return None
    kind = type(weights[0])
    axis = {IsotropicWeight: -1, DiagonalWeight: -2, FullWeight: -3}[kind]
    values = torch.broadcast_tensors(*[evaluate(weight.value) for weight in weights if weight is not None])
    return kind(torch.cat(values, dim=axis))
