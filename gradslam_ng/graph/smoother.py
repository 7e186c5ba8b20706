"""Fixed-lag and batch smoothing of a trajectory from odometry and loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.geometry import se3
from gradslam_ng.graph.edges import Edge, add_edges
from gradslam_ng.graph.factor import Weight
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.graph.residuals import Residual
from gradslam_ng.optim.kernels import Kernel


@dataclass(frozen=True, eq=False)
class Marginal(Residual):
    """What was known about poses that left, as a quadratic about where those left behind were: R log(T T0^-1) + d.

    The poses come as m variables of one factor.
    """

    T0: Tensor  # (m, 4, 4)
    R: Tensor  # (6 m, 6 m)
    d: Tensor  # (6 m,)
    anchors = True

    def __call__(self, *T: Tensor) -> Tensor:
        return self.linearize(*T)[0]

    def linearize(self, *T: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
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

    The first pose is fixed. With a lag only so many poses are variables at a time: as one more comes the oldest is
    marginalized, that is, what is known about it is kept as a quadratic on those that remain (Sibley et al. 2010), and
    its pose does not change any more. Without, all of them always are. Everything is differentiable with respect to
    motions, weights and the first pose.

    Args:
        T_0: (4, 4), the first pose.
        lag: at least 2, or None.
        strategy, iterations: how each smoothing is solved.
    """

    def __init__(
        self,
        T_0: Tensor,  # (4, 4)
        *,
        lag: int | None = None,
        strategy: optim.StepStrategy | None = None,
        iterations: int = 20,
    ) -> None:
        if T_0.shape != (4, 4):
            raise ValueError(f"T_0: expected (4, 4), got {tuple(T_0.shape)}")
        if lag is not None and lag < 2:
            raise ValueError(f"lag: expected at least 2 poses or None, got {lag}")
        self.lag, self.strategy, self.iterations = lag, strategy, iterations
        self.poses = [T_0]
        self.first = 0  # of the poses that are still variables, or fixed
        self.edges: list[Edge] = []
        self.marginal: Marginal | None = None  # on poses first, first + 1, ...

    def __len__(self) -> int:
        return len(self.poses)

    @mode_free
    def add(
        self,
        T_ij: Tensor,  # (4, 4), from the last pose
        weight: Weight | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """One more pose. Weights are of one edge: values (1, ...)."""
        self.poses.append(self.poses[-1] @ T_ij)
        self.edges.append(Edge(len(self) - 2, len(self) - 1, T_ij, weight, kernel))
        if self.lag is not None and len(self) - self.first > self.lag:
            self.smooth()
            self._marginalize()

    def add_loop(
        self,
        i: int,
        j: int,
        T_ij: Tensor,  # (4, 4)
        weight: Weight | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """A motion from pose i to pose j, both still in the window.

        Raises:
            ValueError: a pose that has left the window or is not there yet.
        """
        for k in (i, j):
            if not self.first <= k < len(self):
                raise ValueError(f"loop: expected poses {self.first} to {len(self) - 1}, got {k}")
        self.edges.append(Edge(i, j, T_ij, weight, kernel))

    @mode_free
    def smooth(self, backward: str = "unroll") -> Tensor:
        """The most likely trajectory so far (L, 4, 4); see `optim.solve` for `backward`."""
        if self.edges or self.marginal is not None:
            graph = window_graph(self.poses[self.first :], self.edges, self.marginal, self.first)
            solution = graph.optimize(self.strategy, self.iterations, backward=backward)
            self.poses[self.first :] = list(solution["pose"].unbind(-3))
        return torch.stack(self.poses)

    def _marginalize(self) -> None:
        """The oldest pose leaves; what its edges and the marginal before knew of the others stays."""
        old = self.first
        leaving = [edge for edge in self.edges if old in (edge.i, edge.j)]
        self.edges = [edge for edge in self.edges if old not in (edge.i, edge.j)]
        before = 0 if self.marginal is None else old + len(self.marginal.T0) - 1
        last = max([edge.i + edge.j - old for edge in leaving] + [before])
        graph = window_graph(self.poses[old : last + 1], leaving, self.marginal, old)
        R, d = marginalize_first(graph)
        self.first = old + 1
        self.marginal = Marginal(torch.stack(self.poses[old + 1 : last + 1]), R, d)


def window_graph(poses: list[Tensor], edges: list[Edge], marginal: Marginal | None, first: int) -> FactorGraph:
    """The graph of poses (4, 4) number `first` and on, their edges, and what was known about earlier ones.

    Pose 0 is fixed.
    """
    graph = FactorGraph()
    graph.add_variables("pose", optim.SE3(), torch.stack(poses))
    if first == 0:
        graph.fix("pose", [0])
    add_edges(graph, "pose", edges, first)
    if marginal is not None:
        graph.add_factor(marginal, *(("pose", [k]) for k in range(len(marginal.T0))))
    return graph


def marginalize_first(graph: FactorGraph) -> tuple[Tensor, Tensor]:
    """R (6 m, 6 m) and d (6 m,) with the cost |R xi + d|^2 / 2 of all poses but the first, that one eliminated.

    By the Schur complement of the normal equations where the poses are; xi their updates from there.
    """
    H, g, _ = graph.linearize(graph.initial)
    H = H if isinstance(H, Tensor) else H.dense()
    if bool(graph.fixed["pose"][0]):  # no columns belong to it
        rest, gradient = H, g
    else:
        gain = torch.linalg.solve(H[:6, :6], H[:6, 6:]).mT
        rest, gradient = H[6:, 6:] - gain @ H[:6, 6:], g[6:] - gain @ g[:6]
    rest = 0.5 * (rest + rest.mT)
    lift = torch.finfo(rest.dtype).eps ** 0.75 * rest.detach().diagonal().amax()  # where nothing was observed
    R = torch.linalg.cholesky(rest + lift * torch.eye(len(rest), dtype=rest.dtype, device=rest.device)).mT
    return R, torch.linalg.solve_triangular(R.mT, gradient[:, None], upper=False)[:, 0]
