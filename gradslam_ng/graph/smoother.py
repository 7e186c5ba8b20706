"""Smoothing a trajectory from odometry and loops: all of it at once, or a window that moves along."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph.factor import Weight
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.optim.costs import evaluate
from gradslam_ng.optim.kernels import Kernel


@dataclass(frozen=True, eq=False)
class Edge:
    """One measured motion."""

    i: int
    j: int
    T_ij: Tensor  # (4, 4)
    weight: Weight | None  # of one edge: values (1, ...)
    kernel: Kernel | None


@dataclass(frozen=True, eq=False)
class Marginal:
    """What was known about poses that left, as a quadratic about where those left behind were: R log(T T0^-1) + d.

    T0 (m, 4, 4), R (6 m, 6 m), d (6 m,). The poses come as m unknowns of one factor.
    """

    T0: Tensor
    R: Tensor
    d: Tensor
    ties = True  # to the world, though it is on several poses

    def __call__(self, *T: Tensor) -> Tensor:
        return self.linearize(*T)[0]

    def linearize(self, *T: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        xi = torch.cat([se3.log(pose @ se3.inverse(start)) for pose, start in zip(T, self.T0, strict=True)], dim=-1)
        r = (self.R @ xi[..., None])[..., 0] + self.d
        pieces = zip(self.R.split(6, dim=-1), xi.split(6, dim=-1), strict=True)
        return r, tuple(columns @ se3.left_jacobian_inverse(part) for columns, part in pieces)


class Smoother:
    """A trajectory that grows by odometry, takes loops, and is smoothed.

        smoother = gs.Smoother(T_0, lag=20)
        for T_ij, weight in odometry:
            smoother.add(T_ij, weight)
        T_wc = smoother.smooth()

    The first pose is held. With a lag only so many poses are unknowns at a time: as one more comes the oldest is
    marginalised, that is, what is known about it is kept as a quadratic on those that remain (Sibley et al. 2010), and
    its pose does not change any more. Without, all of them always are. Everything is differentiable with respect to
    motions, weights and the first pose.

    T_0: (4, 4). lag: at least 2, or None. rule, iterations: how each smoothing is solved.
    """

    def __init__(
        self, T_0: Tensor, lag: int | None = None, strategy: optim.StepStrategy | None = None, iterations: int = 20
    ) -> None:
        if T_0.shape != (4, 4):
            raise ValueError(f"T_0: expected (4, 4), got {tuple(T_0.shape)}")
        if lag is not None and lag < 2:
            raise ValueError(f"lag: expected at least 2 poses or None, got {lag}")
        self.lag, self.strategy, self.iterations = lag, strategy, iterations
        self.poses = [T_0]
        self.first = 0  # of the poses that are still unknowns, or held
        self.edges: list[Edge] = []
        self.marginal: Marginal | None = None  # on poses first, first + 1, ...

    def __len__(self) -> int:
        return len(self.poses)

    def add(self, T_ij: Tensor, weight: Weight | None = None, kernel: Kernel | None = None) -> None:
        """One more pose, T_ij (4, 4) from the last. Weights are of one edge: values (1, ...)."""
        self.poses.append(self.poses[-1] @ T_ij)
        self.edges.append(Edge(len(self) - 2, len(self) - 1, T_ij, weight, kernel))
        if self.lag is not None and len(self) - self.first > self.lag:
            self.smooth()
            self._marginalize()

    def add_loop(
        self, i: int, j: int, T_ij: Tensor, weight: Weight | None = None, kernel: Kernel | None = None
    ) -> None:
        """A motion T_ij (4, 4) from pose i to pose j, both still in the window.

        Raises:
            ValueError: a pose that has left the window or is not there yet.
        """
        for k in (i, j):
            if not self.first <= k < len(self):
                raise ValueError(f"loop: expected poses {self.first} to {len(self) - 1}, got {k}")
        self.edges.append(Edge(i, j, T_ij, weight, kernel))

    def smooth(self, backward: str = "unroll") -> Tensor:
        """The most likely trajectory so far (L, 4, 4); see `optim.solve` for `backward`."""
        if self.edges or self.marginal is not None:
            graph = self._graph()
            solution = graph.optimize(self.strategy, self.iterations, backward=backward)
            self.poses[self.first :] = list(solution["pose"].unbind(-3))
        return torch.stack(self.poses)

    def _graph(self) -> FactorGraph:
        graph = FactorGraph()
        graph.add_variables("pose", optim.SE3(), torch.stack(self.poses[self.first :]))
        if self.first == 0:
            graph.hold("pose", [0])
        alike: dict[tuple, list[Edge]] = {}
        for edge in self.edges:
            alike.setdefault((type(edge.weight), id(edge.kernel)), []).append(edge)
        for (kind, _), edges in alike.items():
            weight = None if kind is type(None) else kind(torch.cat([evaluate(edge.weight.value) for edge in edges]))
            i, j = ([getattr(edge, end) - self.first for edge in edges] for end in "ij")
            z = torch.stack([edge.T_ij for edge in edges])
            graph.add_between("pose", i, j, z, weight=weight, kernel=edges[0].kernel)
        if self.marginal is not None:
            graph.add_factor(self.marginal, *(("pose", [k]) for k in range(len(self.marginal.T0))))
        return graph

    def _marginalize(self) -> None:
        """The oldest pose leaves; what its edges and the marginal before knew of the others stays."""
        old = self.first
        leaving = [edge for edge in self.edges if old in (edge.i, edge.j)]
        self.edges = [edge for edge in self.edges if old not in (edge.i, edge.j)]
        reach = max(
            [edge.i + edge.j - old for edge in leaving] + [old + len(self.marginal.T0) - 1 if self.marginal else 0]
        )
        local = Smoother(self.poses[old])
        local.first, local.poses, local.edges, local.marginal = old, self.poses[: reach + 1], leaving, self.marginal
        graph = local._graph()
        H, g, _ = graph.linearize(graph.x)
        H = H if isinstance(H, Tensor) else H.dense()
        if old == 0:  # it was held, so the graph has no unknowns for it
            rest, about = H, g
        else:
            gain = torch.linalg.solve(H[:6, :6], H[:6, 6:]).mT
            rest, about = H[6:, 6:] - gain @ H[:6, 6:], g[6:] - gain @ g[:6]
        rest = 0.5 * (rest + rest.mT)
        lift = torch.finfo(rest.dtype).eps ** 0.75 * rest.detach().diagonal().amax()  # where nothing was observed
        R = torch.linalg.cholesky(rest + lift * torch.eye(len(rest), dtype=rest.dtype, device=rest.device)).mT
        d = torch.linalg.solve_triangular(R.mT, about[:, None], upper=False)[:, 0]
        self.first = old + 1
        self.marginal = Marginal(torch.stack(self.poses[old + 1 : reach + 1]), R, d)
