"""Where every unknown's tangent lies in the normal equations of a graph, and where factors add to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gradslam_ng.optim.sparse import Pattern

if TYPE_CHECKING:
    from gradslam_ng.graph.factor import Factor
    from gradslam_ng.graph.factor_graph import FactorGraph


class Layout:
    """Made of a graph's structure alone; values may change."""

    def __init__(self, graph: FactorGraph) -> None:
        counts = [len(held) for held in graph.held.values()]
        self.first = dict(zip(graph.held, np.concatenate([[0], np.cumsum(counts)]).tolist(), strict=False))
        self.dimensions = {name: graph.variables[name].dimension(x) for name, x in graph.values.items()}
        self.variables = graph.variables
        held = np.concatenate([mask.cpu().numpy() for mask in graph.held.values()])
        held[self._untied(graph, held)] = True
        sizes = np.concatenate([np.full(n, self.dimensions[name]) for name, n in zip(graph.held, counts, strict=True)])
        number = np.where(held, -1, np.cumsum(~held) - 1)  # of the unknowns that are not held
        self.held, sizes = held, sizes[~held]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        self.n = int(starts[-1])
        self.start = np.where(held, self.n, starts[number])  # of an unknown's tangent; past the end where held
        self.device = graph.x[0].device
        self.free = {
            name: torch.from_numpy(np.flatnonzero(~held[first : first + n])).to(self.device)
            for (name, first), n in zip(self.first.items(), counts, strict=True)
        }

        met = [[number[self.first[name] + index.cpu().numpy()] for name, index in f.on] for f in graph.factors]
        pairs = [(ids[k], ids[m]) for ids in met for k in range(len(ids)) for m in range(k)]
        pairs = [(a[both], b[both]) for a, b in pairs for both in [(a >= 0) & (b >= 0)]]
        none = np.zeros(0, np.int64)
        self.pattern = Pattern(
            sizes, np.concatenate([none, *(a for a, _ in pairs)]), np.concatenate([none, *(b for _, b in pairs)])
        )
        kinds = [f for f in zip(graph.factors, met, strict=True) if len(f[1][0])]
        self.block_places = self._joined([place for f, ids in kinds for place in self._blocks(f, ids)])
        self.gradient_places = self._joined([place for f, ids in kinds for place in self._gradients(f)])

    def _untied(self, graph: FactorGraph, held: np.ndarray) -> np.ndarray:
        """The first unknown of each connected part that nothing ties down: no unknown held, no factor on one alone."""
        links = [(self.first[f.on[0][0]] + f.on[0][1], self.first[n] + i) for f in graph.factors for n, i in f.on[1:]]
        a, b = (torch.cat([torch.zeros(0, dtype=torch.int64), *(link[k].cpu() for link in links)]) for k in (0, 1))
        graph_of = coo_matrix((np.ones(len(a)), (a.numpy(), b.numpy())), shape=(len(held), len(held)))
        parts, part = connected_components(graph_of, directed=False)
        _, first = np.unique(part, return_index=True)
        kind = np.concatenate([np.full(len(mask), k) for k, mask in enumerate(graph.held.values())])
        alone = [f.on[0] for f in graph.factors if len(f.on) == 1 or getattr(f.residual, "ties", False)]
        known = np.concatenate([np.zeros(0, np.int64), *(self.first[n] + i.cpu().numpy() for n, i in alone)])
        known = known[kind[known] == kind[first][part[known]]]  # a switch's prior does not tie down its poses
        tied = np.zeros(parts, dtype=bool)
        tied[part[known]] = True
        tied[part[held]] = True
        return first[~tied]

    def _blocks(self, factor: Factor, ids: list[np.ndarray]) -> list[np.ndarray]:
        """Where the products J_k^T J_m of M factors go, each (M, n_k n_m): for k, and for m from k on."""
        sizes = [self.dimensions[name] for name, _ in factor.on]
        places = []
        for k in range(len(ids)):
            for m in range(k, len(ids)):
                a, b, (down, across) = ids[k], ids[m], np.indices((sizes[k], sizes[m]))
                straight = (down * sizes[m] + across).ravel()
                turned = (across * sizes[k] + down).ravel()  # stored is the block below the diagonal
                both = (a >= 0) & (b >= 0)
                at = self.pattern.find(np.maximum(a, b)[both], np.minimum(a, b)[both])
                place = np.full((len(a), len(straight)), self.pattern.nnz)
                place[both] = at[:, None] + np.where((a >= b)[both, None], straight, turned)
                places.append(place.ravel())
        return places

    def _gradients(self, factor: Factor) -> list[np.ndarray]:
        return [self.places(name, index).cpu().numpy().ravel() for name, index in factor.on]

    def places(self, name: str, index: Tensor) -> Tensor:
        """Where the tangents (K, d) of unknowns lie in g (n,); n where they are held."""
        start = self.start[self.first[name] + index.cpu().numpy()][:, None]
        return torch.from_numpy(np.minimum(start + np.arange(self.dimensions[name]), self.n)).to(index.device)

    def _joined(self, places: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *places])).to(self.device)

    @staticmethod
    def gather(parts: list[Tensor], places: Tensor, count: int, lead: torch.Size, like: Tensor) -> Tensor:
        """Parts (..., P) added up at their places in (..., count); what goes to place `count` is dropped."""
        total = like.new_zeros(*lead, count + 1)
        if not parts:
            return total[..., :-1]
        joined = torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], dim=-1)
        return total.index_add(-1, places, joined)[..., :-1]

    def retract(self, x: tuple[Tensor, ...], delta: Tensor) -> tuple[Tensor, ...]:
        """Unknowns x, kind by kind, moved by delta (..., n)."""
        moved, at = [], 0
        for (name, free), value in zip(self.free.items(), x, strict=True):
            d = self.dimensions[name]
            part = delta[..., at : at + d * len(free)].unflatten(-1, (len(free), d))
            at += d * len(free)
            event = 2 if hasattr(self.variables[name], "group") else 1
            count = value.shape[-1 - event]
            if len(free) < count:
                part = part.new_zeros(*part.shape[:-2], count, d).index_copy(-2, free, part)
            moved.append(self.variables[name].retract(value, part))
        return tuple(moved)
