"""Result of tracking a frame: its pose with a covariance, and a status that says why it is lost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from gradslam_ng.compute.tree import tree_where


class TrackingStatus(IntEnum):
    """Whether a frame was tracked, and why not. Where several apply, the first does."""

    TRACKED = 0
    NO_DEPTH = 1
    NO_OVERLAP = 2  # too few vertices found a partner
    JUMP = 3  # it was found farther from where it was looked for than a camera moves
    NOT_FINITE = 4
    DEGENERATE = 5  # tracked, but what is seen leaves directions open, in which the camera stays where it was expected
    NO_POSE = 6  # poses are taken from the frames, and this one came without, or with one that is no rigid motion
    NO_CAMERA = 7  # the frame's K is no pinhole camera's, see `camera.is_pinhole`
    WIDE_STEP = 8  # alignment found it farther from where it was expected than it is trusted over by itself
    UNCONFIRMED = 9  # tracked over a wide step, and it fits the map; but features and alignment do not say the same
    UNCONNECTED = 10  # tracked in a submap that is not connected with the map

    @staticmethod
    def is_tracked(statuses: Tensor) -> Tensor:
        """Where there is a pose, bool: tracked, or uncertain."""
        return (statuses == TrackingStatus.TRACKED) | TrackingStatus.is_uncertain(statuses)

    @staticmethod
    def is_uncertain(statuses: Tensor) -> Tensor:
        """Where there is a pose that may be off, bool."""
        return (statuses == TrackingStatus.DEGENERATE) | (statuses == TrackingStatus.UNCONFIRMED)


@dataclass(frozen=True)
class TrackingResult:
    """Where a frame was found."""

    T_wc: Tensor  # (B, 4, 4)
    status: Tensor  # (B,) int64, a `TrackingStatus`
    overlap: Tensor  # (B,), share of the frame's vertices, or of the model's if it has fewer, that found a partner
    error: Tensor  # (B,), m^2: half the mean squared residual, robust; a vertex without a partner counts as an outlier
    covariance: Tensor  # (B, 6, 6), of a right update, T_wc exp(xi): in the camera's own frame; 0 for a pose given

    @property
    def ok(self) -> Tensor:
        """(B,) bool: the pose can be trusted."""
        return TrackingStatus.is_tracked(self.status)

    @staticmethod
    def from_pose(T_wc: Tensor, ok: Tensor, otherwise: TrackingStatus = TrackingStatus.NO_DEPTH) -> TrackingResult:
        """Poses (B, 4, 4) given rather than found, exactly where ok (B,), else not at all: `otherwise` says why."""
        share = ok.to(T_wc.dtype)
        status = torch.where(ok, int(TrackingStatus.TRACKED), int(otherwise))
        return TrackingResult(T_wc, status, share, torch.zeros_like(share), T_wc.new_zeros(len(T_wc), 6, 6))

    def where(self, chosen: Tensor, other: TrackingResult) -> TrackingResult:
        """This result for the batch elements for which chosen (B,) holds, `other` elsewhere."""
        return tree_where(chosen, self, other)
