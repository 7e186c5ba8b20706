"""A factor that holds a frame to the pose that another source tells, see `RGBDFrames.T_prior`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.odometry.degeneracy import PRIOR_SIGMA


@dataclass(frozen=True, eq=False)
class MotionPrior:
    """0.5 |log(T_mc T_mc_told^-1)|^2 / sigma^2, sigma `PRIOR_SIGMA` in meters and in radians, over what is told.

    Divided as the other factors of ICP are. Images outweigh it by far but where they see next to nothing.
    """

    T_mc_told: Tensor  # (B, 4, 4)
    information: Tensor  # (B, 6), of a left update of T_mc, over that of all vertices; 0 for what is not told

    @classmethod
    def of(
        cls,
        T_wc_told: Tensor,  # (B, 4, 4), NaN where nothing is told, in the translation alone too
        T_wm: Tensor,  # (B, 4, 4)
        T_mc: Tensor,  # (B, 4, 4)
        total: Tensor,  # (B,), what normal equations are divided by
    ) -> MotionPrior:
        """That of poses told in the world; T_mc stands in for what is not."""
        known = T_wc_told.isfinite()
        T_mc_told = se3.inverse(T_wm) @ torch.where(known, T_wc_told, T_wm @ T_mc.detach())
        moves, rotates = known[:, :3, 3], known[:, :3, 0]
        information = torch.cat([moves, rotates], -1).to(total.dtype) / (PRIOR_SIGMA**2 * total[:, None])
        return cls(T_mc_told, information)

    def linearize(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # T_mc (B, 4, 4)
        """H (B, 6, 6), g (B, 6) and the error (B,)."""
        r = self._residual(T_mc)
        J = se3.left_jacobian_inverse(r)
        wJ = self.information[..., None] * J
        return J.mT @ wJ, (wJ.mT @ r[..., None])[..., 0], self.error(T_mc)

    def error(self, T_mc: Tensor) -> Tensor:  # T_mc (B, 4, 4)
        """The error (B,) alone."""
        return 0.5 * (self.information * self._residual(T_mc).square()).sum(-1)

    def _residual(self, T_mc: Tensor) -> Tensor:
        return se3.log(T_mc @ se3.inverse(self.T_mc_told))
