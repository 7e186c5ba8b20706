"""Point-to-plane ICP of plain point clouds: pairs are nearest neighbors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.transforms import is_vmapped
from gradslam_ng.geometry import se3
from gradslam_ng.odometry.icp_settings import step_strategy
from gradslam_ng.odometry.nearest_neighbors import NearestNeighbors
from gradslam_ng.odometry.point_to_plane import point_to_plane


@dataclass(frozen=True, eq=False)
class PointCloudFactor:
    """The point-to-plane error of B clouds to others; the unknown is T_ts (B, 4, 4), source to target.

    Each source point, moved, is paired with the target's nearest (Besl and McKay 1992) and costs its robust distance to
    the tangent plane there (Chen and Medioni 1991): Tukey's biweight, zero weight from `max_distance`. A point without
    a partner that near costs what an outlier costs, so that losing pairs never looks like progress. All is divided by
    the sum of the weights.
    """

    source: Tensor  # (B, N, 3), meters
    target: Tensor  # (B, M, 3), meters
    normals: Tensor  # (B, M, 3), unit, of the target
    weights: Tensor  # (B, N), 0 for padding
    max_distance: float  # meters
    neighbors: NearestNeighbors  # of the target

    def associate(
        self,
        T_ts: Tensor,  # (B, 4, 4)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Residuals (B, N), meters, their Jacobian (B, N, 6), and which points have a partner (B, N) bool."""
        p = se3.transform(T_ts, self.source)
        index, distance = self.neighbors(p)
        rows = torch.arange(len(p), device=p.device)[:, None]
        r, J = point_to_plane(p, self.target[rows, index], self.normals[rows, index])
        return r, J, (distance < self.max_distance) & (self.weights > 0)

    def linearize(self, T_ts: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
        """H (B, 6, 6), g (B, 6) and error (B)."""
        kernel = optim.Tukey(self.max_distance)
        r, J, paired = self.associate(T_ts)
        r = torch.where(paired, r, self.max_distance)
        share = self.weights / self.weights.sum(-1, keepdim=True).clamp(min=torch.finfo(r.dtype).tiny)
        square = r * r
        wJ = (torch.where(paired, share * kernel.weight(square), 0.0))[..., None] * J
        error = 0.5 * (share * kernel.rho(square)).sum(-1)
        return wJ.mT @ J, (wJ.mT @ r[..., None])[..., 0], error

    def error(self, T_ts: Tensor, /) -> Tensor:
        return self.linearize(T_ts)[2]


@mode_free
def align_points(
    source: Tensor,  # (B, N, 3)
    target: Tensor,  # (B, M, 3)
    normals: Tensor,  # (B, M, 3)
    T_ts: Tensor | None = None,  # (B, 4, 4)
    *,
    weights: Tensor | None = None,  # (B, N)
    max_distance: float = 0.1,
    iterations: int = 20,
    strategy: optim.StepStrategy | None = None,
    backward: str = "unroll",
) -> tuple[Tensor, Tensor]:
    """Move clouds onto others. Differentiable; which points are paired is a constant of the gradient.

    Args:
        source: (B, N, 3), meters.
        target: (B, M, 3), meters.
        normals: (B, M, 3), unit, of the target; either side.
        T_ts: (B, 4, 4), where to start; default: as they lie.
        weights: (B, N), how much each source point counts; 0 for padding. Default: alike.
        max_distance: between a point and its partner, meters; the error at the start should be well below it.
        strategy: how steps are found and judged; default: `step_strategy()`.
        backward: how the result is differentiated, see `optim.solve`.

    Returns:
        T_ts (B, 4, 4), source to target, and the share of the source's points (B) that have a partner there.

    Raises:
        ValueError: shapes, precisions or devices that do not fit together, an empty target, entries that are not
            finite, weights below 0, or a T_ts that is no rigid motion.
    """
    batch = len(source)
    expected: dict[str, tuple[int, ...]] = {
        "source": (batch, source.shape[-2], 3),
        "target": (batch, target.shape[-2], 3),
    }
    expected |= {"normals": tuple(target.shape), "weights": (batch, source.shape[-2]), "T_ts": (batch, 4, 4)}
    weights = torch.ones_like(source[..., 0]) if weights is None else weights
    T_ts = torch.eye(4, dtype=source.dtype, device=source.device).expand(batch, 4, 4) if T_ts is None else T_ts
    given = {"source": source, "target": target, "normals": normals, "weights": weights, "T_ts": T_ts}
    for name, value in given.items():
        if tuple(value.shape) != expected[name]:
            raise ValueError(f"{name}: expected shape {expected[name]}, got {tuple(value.shape)}")
    for name, value in given.items():
        if (value.dtype, value.device) != (source.dtype, source.device):
            now, before = (f"{x.dtype} on {x.device}" for x in (value, source))
            raise ValueError(f"{name}: expected {before} like source, got {now}")
        if not is_vmapped(value) and not bool(value.isfinite().all()):
            padding = "; give padding any place and weight 0" if name == "source" else ""
            raise ValueError(f"{name}: every entry must be finite{padding}")
    if not source.is_floating_point():
        raise ValueError(f"source: expected a float type, got {source.dtype}")
    if not is_vmapped(weights) and not bool((weights >= 0).all()):
        raise ValueError(f"weights: expected none below 0, got {float(weights.min())}")
    if not is_vmapped(T_ts) and not bool(se3.is_rigid(T_ts, tol=1e-3).all()):
        raise ValueError(f"T_ts: expected rigid motions, got {T_ts.tolist()}")
    if not max_distance > 0:
        raise ValueError(f"max_distance: expected a positive number of meters, got {max_distance}")
    factor = PointCloudFactor(source, target, normals, weights, max_distance, NearestNeighbors(target))
    problem = optim.Sum(factor, variable=optim.SE3())
    solution = optim.solve(problem, T_ts, strategy or step_strategy(), iterations, backward=backward)
    T_ts = cast(Tensor, solution.x)
    _, _, paired = factor.associate(T_ts)
    return se3.renormalize(T_ts), (paired * weights).sum(-1) / weights.sum(-1).clamp(min=1e-12)
