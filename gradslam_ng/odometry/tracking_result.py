"""What an odometer says of a frame: where it was found, how sure that is, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor


class Reason(IntEnum):
    """Why a frame is lost, or weak. Where several apply, the first does."""

    NONE = 0
    NO_READINGS = 1
    NO_OVERLAP = 2  # too few vertices found a partner
    JUMP = 3  # it was found farther from where it was looked for than a camera moves
    NOT_FINITE = 4
    UNFIXED = 5  # weak: what is seen leaves directions open, in which the camera was left where it was expected

    @staticmethod
    def trusted(reasons: Tensor) -> Tensor:
        """Where a pose can be trusted, bool."""
        return (reasons == Reason.NONE) | (reasons == Reason.UNFIXED)


@dataclass(frozen=True)
class Alignment:
    """Where a frame was found."""

    T_wc: Tensor  # (B, 4, 4)
    reason: Tensor  # (B,) int64, a `Reason`
    overlap: Tensor  # (B,), share of the frame's vertices, or of the model's if it has fewer, that found a partner
    error: Tensor  # (B,), m^2: half the mean squared residual, robust; a vertex without a partner counts as an outlier
    covariance: Tensor  # (B, 6, 6), of a left update of the pose relative to the camera that the model was seen from

    @property
    def ok(self) -> Tensor:
        """(B,) bool: the pose can be trusted."""
        return Reason.trusted(self.reason)

    @staticmethod
    def known(T_wc: Tensor, ok: Tensor) -> Alignment:
        """Poses (B, 4, 4) given rather than found, exactly where ok (B,), else not at all."""
        share = ok.to(T_wc.dtype)
        reason = torch.where(ok, int(Reason.NONE), int(Reason.NO_READINGS))
        return Alignment(T_wc, reason, share, torch.zeros_like(share), T_wc.new_zeros(len(T_wc), 6, 6))

    def where(self, chosen: Tensor, other: Alignment) -> Alignment:
        """This alignment for the batch elements for which chosen (B,) holds, `other` elsewhere."""

        def pick(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(chosen.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

        return Alignment(*(pick(a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))
