"""The pose graph of a run: keyframes tied by odometry and by loops, and how far a loop is from what they expect."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph.factor_graph import FactorGraph, GraphSolution
from gradslam_ng.graph.gnc import graduated_non_convexity
from gradslam_ng.graph.information import square_root
from gradslam_ng.optim import FullWeight

# Tracking slips now and then, and a loop may be false. Giving up a loop costs 8^2, more than steady drift or a slip
# of decimetres does, and less than the two slips, there and back, that a false loop among true ones needs.
SLIP, FALSE = optim.Cauchy(3.0), optim.GemanMcClure(8.0)


@dataclass(frozen=True, eq=False)
class Edge:
    """Keyframe j measured to lie at T_ij from keyframe i."""

    i: int
    j: int
    T_ij: Tensor  # (4, 4) float64
    W: Tensor  # (6, 6), square-root information of log(T_ij^-1 T_i^-1 T_j)


@dataclass(frozen=True, eq=False)
class Loop(Edge):
    """An edge between keyframes that are far apart in time."""

    overlap: float  # share of the frame's readings where the earlier pass shows something
    likeness: float  # correlation of the two passes' colours


def odometry_weight(H: Tensor, metres: float, radians: float, sigma: float, drift: float) -> Tensor:
    """Square-root information (6, 6) of a motion between keyframes, in the frame of the later one.

    H (6, 6): normal equations of a frame's alignment with itself, divided by the sum of the weights: which directions
    what it shows fixes, and how well. sigma: of an alignment in a direction that every pixel fixes, metres; 0.1 to
    0.2 mm were measured on rendered frames with Kinect noise. drift: per metre and radian travelled, whatever is fixed.
    What nothing fixes may be anything: along a flat bare wall odometry says nothing.
    """
    fixed = sigma**2 * torch.linalg.inv(H)
    steady = H.new_tensor([drift * (metres + 0.3 * radians)] * 3 + [drift * (0.3 * metres + radians)] * 3)
    covariance = fixed + torch.diag(steady.square() + 1e-8)
    return square_root(torch.linalg.inv(0.5 * (covariance + covariance.mT)))


def pose_graph(T_wk: Tensor, steps: list[Edge], loops: list[Edge], held: int = 0, robust: bool = True) -> FactorGraph:
    """Keyframes at T_wk (K, 4, 4), one of them held, with their edges."""
    graph = FactorGraph()
    graph.add_variables("pose", optim.SE3(), T_wk)
    graph.hold("pose", [held])
    for edges, kernel in ((steps, SLIP), (loops, FALSE)):
        if edges:
            i, j = ([getattr(edge, end) for edge in edges] for end in "ij")
            z, W = (torch.stack([getattr(edge, name) for edge in edges]) for name in ("T_ij", "W"))
            graph.add_between("pose", i, j, z, weight=FullWeight(W), kernel=kernel if robust else None)
    return graph


def optimize_pose_graph(T_wk: Tensor, steps: list[Edge], loops: list[Edge]) -> Tensor:
    """Keyframe poses (K, 4, 4) from odometry and loops, the first where it is.

    Two optima may compete, loops believed and odometry slipped, or the other way round: the better is taken.
    """
    graph = pose_graph(T_wk, steps, loops)
    starts = (graph, graduated_non_convexity(graph)) if loops else (graph,)
    solutions = [start.optimize(iterations=30, tolerance=1e-6) for start in starts]
    return min(solutions, key=lambda solution: float(solution.error))["pose"]


def mahalanobis_distance(T_wk: Tensor, steps: list[Edge], loops: list[Edge], loop: Edge) -> float:
    """How far a loop is from where odometry and the loops before expect it, in standard deviations.

    The Mahalanobis distance of its residual, whose covariance is that of the measurement and of keyframe j when i is
    held, both poses at T_wk (K, 4, 4).
    """
    graph = pose_graph(T_wk, steps, loops, held=loop.i, robust=False)
    solved = GraphSolution(graph, optim.Solution(graph.x, *graph.linearize(graph.x), converged=None))
    expected = solved.covariance("pose", [loop.j])[0]
    r = se3.log(se3.inverse(loop.T_ij) @ se3.inverse(T_wk[loop.i]) @ T_wk[loop.j])
    A = se3.left_jacobian_inverse(-r) @ se3.adjoint(se3.inverse(T_wk[loop.j]))
    S = A @ expected @ A.mT + torch.linalg.inv(loop.W.mT @ loop.W)
    return float((r @ torch.linalg.solve(S, r)).clamp(min=0).sqrt())
