"""Fixed-lag and batch smoothing of a trajectory from odometry and loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.geometry import se3
from gradslam_ng.graph.centering import find_centers, translation
from gradslam_ng.graph.checks import check_alike, check_elements
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

    numbers: tuple[int, ...]  # m, of the poses
    T0: Tensor  # (..., m, 4, 4)
    R: Tensor  # (..., 6 m, 6 m)
    d: Tensor  # (..., 6 m)
    anchors = True

    def __call__(self, *T: Tensor) -> Tensor:
        return self.linearize(*T)[0]

    def linearize(self, *T: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        starts = self.T0.split(1, dim=-3)  # (..., 1, 4, 4) each, as the variables of one factor
        xi = [se3.log(pose @ se3.inverse(start)) for pose, start in zip(T, starts, strict=True)]
        R = self.R[..., None, :, :]
        r = (R @ torch.cat(xi, dim=-1)[..., None])[..., 0] + self.d[..., None, :]
        columns = R.split(6, dim=-1)
        return r, tuple(part @ se3.left_jacobian_inverse(x) for part, x in zip(columns, xi, strict=True))


class Smoother:
    """A trajectory that grows by odometry, takes loops, and is smoothed.

        smoother = gs.Smoother(T_0, lag=20)
        for T_ij, weight in odometry:
            smoother.add(T_ij, weight)
        T_wc = smoother.smooth()

    The first pose is fixed. With a lag only so many poses are variables at a time: as one more comes the oldest is
    marginalized, that is, what is known about it is kept as a quadratic on those that remain (Sibley et al. 2010), and
    its pose does not change any more. Without, all of them always are. Everything is differentiable with respect to
    motions, weights and the first pose. Leading axes hold trajectories with the same loops, smoothed at once.

    Args:
        T_0: (..., 4, 4), the first pose.
        lag: at least 2, or None.
        strategy, iterations: how each smoothing is solved.

    Raises:
        ValueError: a first pose of another shape, or a lag below 2.
    """

    def __init__(
        self,
        T_0: Tensor,  # (..., 4, 4)
        *,
        lag: int | None = None,
        strategy: optim.StepStrategy | None = None,
        iterations: int = 20,
    ) -> None:
        _check_pose("T_0", T_0)
        check_elements("T_0", optim.SE3(), T_0)
        if lag is not None and lag < 2:
            raise ValueError(f"lag: expected at least 2 poses or None, got {lag}")
        self.lag, self.strategy, self.iterations = lag, strategy, iterations
        centers = find_centers({"pose": optim.SE3()}, {"pose": T_0[..., None, :, :]})
        self.shift = translation(centers["pose"])[..., 0, :, :] if centers else None
        self.poses = [T_0 if self.shift is None else T_0 - self.shift]  # relative to near the first, if that is far off
        self.first = 0  # of the poses that are still variables, or fixed
        self.edges: list[Edge] = []
        self.marginal: Marginal | None = None

    def __len__(self) -> int:
        return len(self.poses)

    @mode_free
    def add(
        self,
        T_ij: Tensor,  # (..., 4, 4), from the last pose
        weight: Weight | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """One more pose. Weights are of one edge: values (..., 1), (..., 1, 6) or (..., 1, 6, 6), by their kind.

        Raises:
            ValueError: T_ij is no rigid motion, or of another precision or device than the first pose.
        """
        self._check_motion(T_ij)
        self.poses.append(self.poses[-1] @ T_ij)
        self.edges.append(Edge(len(self) - 2, len(self) - 1, T_ij, weight, kernel))
        if self.lag is not None and len(self) - self.first > self.lag:
            self.smooth()
            self._marginalize()

    def add_loop(
        self,
        i: int,
        j: int,
        T_ij: Tensor,  # (..., 4, 4)
        weight: Weight | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """A motion from pose i to pose j, both still in the window; either may be the earlier one.

        Raises:
            ValueError: a pose that has left the window or is not there yet, one pose twice; T_ij as in `add`.
        """
        if i == j:
            raise ValueError(f"loop: expected two poses, got {i} twice")
        for k in (i, j):
            if not self.first <= k < len(self):
                raise ValueError(f"loop: expected poses {self.first} to {len(self) - 1}, got {k}")
        self._check_motion(T_ij)
        self.edges.append(Edge(i, j, T_ij, weight, kernel))

    def _check_motion(self, T_ij: Tensor) -> None:
        _check_pose("T_ij", T_ij)
        check_alike("T_ij", T_ij, self.poses[0])
        check_elements("T_ij", optim.SE3(), T_ij)

    @mode_free
    def smooth(self, backward: str = "unroll") -> Tensor:
        """The most likely trajectory so far (..., L, 4, 4); see `optim.solve` for `backward`."""
        if self.edges or self.marginal is not None:
            window = range(self.first, len(self))
            graph = window_graph({k: self.poses[k] for k in window}, self.edges, self.marginal)
            solution = graph.optimize(self.strategy, self.iterations, backward=backward)
            self.poses[self.first :] = list(solution["pose"].unbind(-3))
        T_wc = _stack(self.poses)
        return T_wc if self.shift is None else T_wc + self.shift[..., None, :, :]

    def _marginalize(self) -> None:
        """The oldest pose leaves; what its edges and the marginal before knew of the others stays.

        Only of those that something is known about: of the others there is nothing to keep.
        """
        old = self.first
        leaving = [edge for edge in self.edges if old in (edge.i, edge.j)]
        self.edges = [edge for edge in self.edges if old not in (edge.i, edge.j)]
        before = () if self.marginal is None else self.marginal.numbers
        numbers = sorted({old, *before, *(k for edge in leaving for k in (edge.i, edge.j))})
        R, d = marginalize_first(window_graph({k: self.poses[k] for k in numbers}, leaving, self.marginal))
        self.first = old + 1
        self.marginal = Marginal(tuple(numbers[1:]), _stack([self.poses[k] for k in numbers[1:]]), R, d)


def window_graph(poses: dict[int, Tensor], edges: Sequence[Edge], marginal: Marginal | None) -> FactorGraph:
    """The graph of poses (..., 4, 4) by their numbers, their edges, and what was known about earlier ones.

    Pose 0 is fixed.
    """
    graph, place = FactorGraph(), {number: k for k, number in enumerate(poses)}
    graph.add_variables("pose", optim.SE3(), _stack(list(poses.values())))
    if 0 in place:
        graph.fix("pose", [place[0]])
    add_edges(graph, "pose", [replace(edge, i=place[edge.i], j=place[edge.j]) for edge in edges])
    if marginal is not None:
        graph.add_factor(marginal, *(("pose", [place[number]]) for number in marginal.numbers))
    return graph


def marginalize_first(graph: FactorGraph) -> tuple[Tensor, Tensor]:
    """R (..., 6 m, 6 m) and d (..., 6 m): the cost |R xi + d|^2 / 2 of all poses but the first, that one eliminated.

    By the Schur complement of the normal equations where the poses are; xi their updates from there.
    """
    H, g, _ = graph.linearize(graph.initial)
    H = H if isinstance(H, Tensor) else H.dense()
    limits = torch.finfo(H.dtype)
    diagonal = H.detach().diagonal(dim1=-2, dim2=-1)
    lift = torch.diag_embed((limits.eps**0.75 * diagonal).clamp(min=limits.tiny**0.5))  # where nothing was observed
    if bool(graph.fixed["pose"][0]):  # no columns belong to it
        rest, gradient = H, g
    else:
        gain = torch.linalg.solve((H + lift)[..., :6, :6], H[..., :6, 6:]).mT
        rest = H[..., 6:, 6:] - gain @ H[..., :6, 6:]
        gradient = g[..., 6:] - (gain @ g[..., :6, None])[..., 0]
    size = rest.shape[-1]
    R = torch.linalg.cholesky(0.5 * (rest + rest.mT) + lift[..., :size, :size]).mT
    return R, torch.linalg.solve_triangular(R.mT, gradient[..., None], upper=False)[..., 0]


def _stack(poses: Sequence[Tensor]) -> Tensor:
    """Poses (..., 4, 4), whose leading axes broadcast, as one tensor (..., L, 4, 4)."""
    return torch.stack(torch.broadcast_tensors(*poses), dim=-3)


def _check_pose(name: str, T: Tensor) -> None:
    if T.shape[-2:] != (4, 4):
        raise ValueError(f"{name}: expected (..., 4, 4), got {tuple(T.shape)}")
