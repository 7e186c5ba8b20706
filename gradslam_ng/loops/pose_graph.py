"""Pose graph optimization of keyframes: odometry and loop edges, robust kernels, and the gate for a loop's residual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph.edges import Edge, add_edges
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.graph.gnc import graduated_non_convexity
from gradslam_ng.graph.information import square_root

# Tracking slips now and then, and a loop may be false. Giving up a loop costs 8^2, more than steady drift or a slip
# of decimeters does, and less than the two slips, there and back, that a false loop among true ones needs.
ODOMETRY_KERNEL, LOOP_KERNEL = optim.Cauchy(3.0), optim.GemanMcClure(8.0)


@dataclass(frozen=True, eq=False)
class Loop(Edge):
    """An edge between keyframes that are far apart in time."""

    coverage: float = field(kw_only=True)  # share of the frame's valid depths where the earlier pass shows something
    intensity_ncc: float = field(kw_only=True)  # normalized cross-correlation of the two passes' intensities


def odometry_weight(
    H: Tensor,  # (6, 6)
    meters: float,
    radians: float,
    sigma: float,
    drift: float,
) -> optim.FullWeight:
    """The weight (1, 6, 6) of a motion between keyframes, in the frame of the later one.

    H: normal equations of a frame's alignment with itself, divided by the sum of the weights: which directions what it
    shows constrains, and how well. sigma: of an alignment in a direction that every pixel constrains, meters; 0.1 to
    0.2 mm were measured on rendered frames with Kinect noise. drift: per meter and radian of the path, whatever is
    constrained. What nothing constrains may be anything: along a flat bare wall odometry says nothing.
    """
    alignment = sigma**2 * torch.linalg.inv(H)
    drifts = H.new_tensor([drift * (meters + 0.3 * radians)] * 3 + [drift * (0.3 * meters + radians)] * 3)
    covariance = alignment + torch.diag(drifts.square() + 1e-8)
    return optim.FullWeight(square_root(torch.linalg.inv(0.5 * (covariance + covariance.mT)))[None])


def build_pose_graph(
    T_wk: Tensor,  # (K, 4, 4)
    odometry_edges: Sequence[Edge],
    loops: Sequence[Edge],
    fixed: int = 0,
    robust: bool = True,
) -> FactorGraph:
    """Keyframes at T_wk, that of number `fixed` constant, with their edges."""
    graph = FactorGraph()
    graph.add_variables("pose", optim.SE3(), T_wk)
    graph.fix("pose", [fixed])
    for edges, kernel in ((odometry_edges, ODOMETRY_KERNEL), (loops, LOOP_KERNEL)):
        add_edges(graph, "pose", [replace(edge, kernel=kernel if robust else None) for edge in edges])
    return graph


def optimize_pose_graph(
    T_wk: Tensor,  # (K, 4, 4)
    odometry_edges: Sequence[Edge],
    loops: Sequence[Edge],
) -> Tensor:
    """Keyframe poses (K, 4, 4) from odometry and loops, the first where it is.

    Two optima may compete, one with the loops as inliers and a slip in odometry, and one the other way round: the
    better is taken.
    """
    graph = build_pose_graph(T_wk, odometry_edges, loops)
    starts = (graph, graduated_non_convexity(graph)) if loops else (graph,)
    solutions = [start.optimize(iterations=30, tolerance=1e-6) for start in starts]
    return min(solutions, key=lambda solution: float(solution.error.detach()))["pose"]


def mahalanobis_distance(
    T_wk: Tensor,  # (K, 4, 4)
    odometry_edges: Sequence[Edge],
    loops: Sequence[Edge],
    loop: Edge,
) -> float:
    """How far a loop is from where odometry and the loops before expect it, in standard deviations.

    The Mahalanobis distance of its residual, whose covariance is that of the measurement and of keyframe j when i is
    fixed, both poses at T_wk.
    """
    graph = build_pose_graph(T_wk, odometry_edges, loops, fixed=loop.i, robust=False)
    expected = graph.solution_at(graph.initial).covariance("pose", [loop.j])[0]
    r = se3.log(se3.inverse(loop.T_ij) @ se3.inverse(T_wk[loop.i]) @ T_wk[loop.j])
    A = se3.left_jacobian_inverse(-r) @ se3.adjoint(se3.inverse(T_wk[loop.j]))
    W = loop.sqrt_information
    S = A @ expected @ A.mT + torch.linalg.inv(W.mT @ W)
    return float((r @ torch.linalg.solve(S, r)).clamp(min=0).sqrt())
