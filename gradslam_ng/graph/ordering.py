"""Ordering of a graph's variables: the columns of their tangents in the sparse normal equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gradslam_ng.compute.transforms import as_numpy
from gradslam_ng.graph.factor import Factor
from gradslam_ng.optim.sparse import Pattern


def check_index(
    counts: Mapping[str, int],
    name: str,
    index: Tensor | Sequence[int],  # (K,)
    device: torch.device,
) -> Tensor:
    """The index (K,) int64 of variables of that name, of which there are counts[name].

    Raises:
        ValueError: no variables have the name, or not as many; numbers that are not whole, or a mask.
    """
    if name not in counts:
        raise ValueError(f"expected one of the variables {', '.join(counts) or '(none)'}, got {name!r}")
    if isinstance(index, slice):
        raise ValueError(f"index: expected whole numbers of variables {name!r}, such as range(3), got {index}")
    given = torch.as_tensor(index)
    if given.numel() and (given.is_floating_point() or given.dtype == torch.bool):
        raise ValueError(f"index: expected whole numbers of variables {name!r}, got {given.dtype}")
    index = given.to(device=device, dtype=torch.int64).reshape(-1)
    wrong = (index < 0) | (index >= counts[name])
    if bool(wrong.any()):
        raise ValueError(f"index: {name!r} has {counts[name]} variables, got {int(index[wrong][0])}")
    return index


class Ordering:
    """Made of a graph's structure alone; values may change.

    Args:
        dimensions: of the tangent of one variable of each name.
        fixed: (N,) bool for each name, the variables that are constant.
        factors: what connects them.
    """

    def __init__(
        self, dimensions: Mapping[str, int], *, fixed: Mapping[str, Tensor], factors: Sequence[Factor]
    ) -> None:
        self.dimensions, self.counts = dict(dimensions), {name: len(mask) for name, mask in fixed.items()}
        counts = list(self.counts.values())
        self.first = dict(zip(self.counts, np.concatenate([[0], np.cumsum(counts)]).tolist(), strict=False))
        self.device = next(iter(fixed.values())).device
        constant = np.concatenate([as_numpy(mask) for mask in fixed.values()])
        constant[self._gauge_free(factors, constant)] = True
        sizes = np.concatenate([np.full(n, self.dimensions[name]) for name, n in self.counts.items()])[~constant]
        number = np.where(constant, -1, np.cumsum(~constant) - 1)  # of the variables that are not constant
        starts = np.concatenate([[0], np.cumsum(sizes)])
        self.n = int(starts[-1])
        self.start = np.where(constant, self.n, starts[number])  # of a variable's tangent; past the end where constant
        self.free = {
            name: torch.from_numpy(np.flatnonzero(~constant[first : first + n])).to(self.device)
            for (name, first), n in zip(self.first.items(), counts, strict=True)
        }
        values = [[number[self.first[name] + as_numpy(index)] for name, index in f.keys] for f in factors]
        rows, cols = _pairs(values)
        self.pattern = Pattern(sizes, rows=rows, cols=cols)
        present = [(f, ids) for f, ids in zip(factors, values, strict=True) if len(f)]
        self.block_columns = self._concatenate([place for f, ids in present for place in self._blocks(f, ids)])
        self.gradient_columns = self._concatenate([place for f, _ in present for place in self._gradients(f)])

    def _gauge_free(self, factors: Sequence[Factor], constant: np.ndarray) -> np.ndarray:
        """The first variable of each connected part without an anchor: nothing constant, no factor on one alone."""
        links = [
            (self.first[f.keys[0][0]] + f.keys[0][1], self.first[name] + index)
            for f in factors
            for name, index in f.keys[1:]
        ]
        a, b = (torch.cat([torch.zeros(0, dtype=torch.int64), *(link[k].cpu() for link in links)]) for k in (0, 1))
        graph_of = coo_matrix((np.ones(len(a)), (as_numpy(a), as_numpy(b))), shape=(len(constant), len(constant)))
        parts, part = connected_components(graph_of, directed=False)
        _, first = np.unique(part, return_index=True)
        kind = np.concatenate([np.full(n, k) for k, n in enumerate(self.counts.values())])
        alone = [f.keys[0] for f in factors if len(f.keys) == 1 or f.residual.anchors]
        known = np.concatenate([np.zeros(0, np.int64), *(self.first[name] + as_numpy(i) for name, i in alone)])
        known = known[kind[known] == kind[first][part[known]]]  # a switch's prior is no anchor of its poses
        anchored = np.zeros(parts, dtype=bool)
        anchored[part[known]] = True
        anchored[part[constant]] = True
        return first[~anchored]

    def _blocks(self, factor: Factor, ids: list[np.ndarray]) -> list[np.ndarray]:
        """Where the products J_k^T J_m of M factors go, each (M, n_k n_m): for k, and for m from k on."""
        sizes = [self.dimensions[name] for name, _ in factor.keys]
        places = []
        for k in range(len(ids)):
            for m in range(k, len(ids)):
                a, b, (row, col) = ids[k], ids[m], np.indices((sizes[k], sizes[m]))
                straight = (row * sizes[m] + col).ravel()
                transposed = (col * sizes[k] + row).ravel()  # stored is the block below the diagonal
                both = (a >= 0) & (b >= 0)
                begin = self.pattern.find(np.maximum(a, b)[both], np.minimum(a, b)[both])
                place = np.full((len(a), len(straight)), self.pattern.nnz)
                place[both] = begin[:, None] + np.where((a >= b)[both, None], straight, transposed)
                places.append(place.ravel())
        return places

    def _gradients(self, factor: Factor) -> list[np.ndarray]:
        return [as_numpy(self.columns(name, index)).ravel() for name, index in factor.keys]

    def _concatenate(self, places: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *places])).to(self.device)

    def columns(
        self,
        name: str,
        index: Tensor,  # (K,)
    ) -> Tensor:
        """Where the tangents (K, d) of variables lie in g (n,); n where they are constant."""
        start = self.start[self.first[name] + as_numpy(index)][:, None]
        return torch.from_numpy(np.minimum(start + np.arange(self.dimensions[name]), self.n)).to(index.device)

    def split(
        self,
        delta: Tensor,  # (..., n)
    ) -> dict[str, Tensor]:
        """The tangents (..., N, d) of all variables, by name; zero of those that are constant."""
        parts, begin = {}, 0
        for name, free in self.free.items():
            d, count = self.dimensions[name], self.counts[name]
            part = delta[..., begin : begin + d * len(free)].unflatten(-1, (len(free), d))
            begin += d * len(free)
            if len(free) < count:
                part = part.new_zeros(*part.shape[:-2], count, d).index_copy(-2, free, part)
            parts[name] = part
        return parts


def _pairs(values: list[list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (E,) of the variables that meet in a factor, those that are constant (-1) left out."""
    pairs = [(ids[k], ids[m]) for ids in values for k in range(len(ids)) for m in range(k)]
    pairs = [(a[both], b[both]) for a, b in pairs for both in [(a >= 0) & (b >= 0)]]
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *(a for a, _ in pairs)]), np.concatenate([none, *(b for _, b in pairs)])


def gather(
    parts: list[Tensor],  # (..., P) each
    places: Tensor,  # (sum of P,)
    count: int,
    lead: torch.Size,
    like: Tensor,
) -> Tensor:
    """Parts added up at their places in (..., count); what goes to place `count` is dropped."""
    total = like.new_zeros(*lead, count + 1)
    if not parts:
        return total[..., :-1]
    joined = torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], dim=-1)
    return total.index_add(-1, places, joined)[..., :-1]
