"""What a run says of its keyframes' poses: where they are, and how far off that may be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.refinement.elimination import Reduced
from gradslam_ng.slam import Result


@dataclass(frozen=True, eq=False)
class PosePrior:
    """A factor on each of K poses: T_wk exp(xi) with xi of the covariance that tracking found.

    Frames are tracked against a map, not against each other, so that errors of near poses are taken for independent.
    """

    T_wk: Tensor  # (K, 4, 4)
    covariance: Tensor  # (K, 6, 6), of a right update; 0 where nothing is known of it

    @staticmethod
    def of_run(
        result: Result,
        number: Tensor,  # (K,), of the frames of the run
        T_wk: Tensor,  # (K, 4, 4)
    ) -> PosePrior:
        """That of a run, at T_wk relative to the origin of its map. A pose that was given has none."""
        covariance = result.covariances[number].to(T_wk)
        known = covariance.isfinite().all(-1).all(-1) & (covariance.diagonal(dim1=-2, dim2=-1) > 0).all(-1)
        return PosePrior(T_wk, torch.where(known[:, None, None], covariance, 0.0))

    @property
    def known(self) -> Tensor:
        """Of which poses a covariance is known, (K,) bool."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).sum(-1) > 0

    @property
    def sigma(self) -> float:
        """Root mean square error of the positions, meters; 0 where nothing is known."""
        known, variance = self.known, self.covariance[:, :3, :3].diagonal(dim1=-2, dim2=-1).sum(-1)
        return float(variance[known].mean().sqrt()) if bool(known.any()) else 0.0

    def linearize(self, T_wk: Tensor) -> Reduced:
        """Normal equations for left updates of the poses (K, 4, 4)."""
        known, count = self.known, len(T_wk)
        eye = torch.eye(6).to(T_wk)
        L = torch.linalg.cholesky(torch.where(known[:, None, None], self.covariance, eye))
        xi = se3.log(se3.inverse(self.T_wk) @ T_wk)
        J = se3.left_jacobian_inverse(-xi) @ se3.adjoint(se3.inverse(T_wk))  # of xi to a left update
        whitened = torch.linalg.solve_triangular(L, torch.cat([J, xi[..., None]], -1), upper=False)
        J, r = torch.where(known[:, None, None], whitened, 0.0).split([6, 1], -1)
        diagonal = torch.eye(count).to(T_wk)[:, None, :, None] * (J.mT @ J)[:, :, None, :]
        return Reduced(diagonal.reshape(6 * count, 6 * count), (J.mT @ r).flatten(), 0.5 * r.square().sum())
