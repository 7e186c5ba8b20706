"""Where a camera that was lost is now: views that look alike, alignment with the map there, and a check."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gradslam_ng.odometry import ProjectiveICP, TrackingResult
from gradslam_ng.places.consistency import coarse_icp, compare_views
from gradslam_ng.places.keyframes import Descriptor, Keyframes, tiny_image_descriptor
from gradslam_ng.structures import LiveFrame, SurfaceView

Predict = Callable[[Tensor], SurfaceView]  # of poses (1, 4, 4), to what the map shows from there


class Relocalizer:
    """Remembers how places look, and finds a lost camera among them (after Glocker et al. 2015).

    Once a frame is lost none is tracked, and none enters the map, until one is found that fits what the map shows from
    there in shape and in brightness. That one is not fused either; tracking goes on from it.

    Args:
        spacing: of the views that are kept, metres and degrees.
        candidates: views that look most like the frame which are tried, beside the last place known.
        agreement: least share of the pixels with both a reading and a map at which the two depths agree, within 2 cm
            and three standard deviations.
        overlap: least share of the readings at which they do.
        likeness: least correlation of brightness there.
        describe: what makes a frame's code, here and in `LoopCloser`.
    """

    def __init__(
        self,
        spacing: tuple[float, float] = (0.2, 12.0),
        candidates: int = 3,
        agreement: float = 0.75,
        overlap: float = 0.5,
        likeness: float = 0.5,
        describe: Descriptor = tiny_image_descriptor,
    ) -> None:
        self.spacing, self.candidates, self.describe = spacing, candidates, describe
        self.agreement, self.overlap, self.likeness = agreement, overlap, likeness
        self.keyframes = Keyframes()
        self.relocalized: list[int] = []  # numbers of the frames in which the camera was found again
        self.coarse = coarse_icp(max_step=1.0)
        self.fine = ProjectiveICP(iterations=(3, 4, 4), min_overlap=0.3)

    def add(self, live: LiveFrame, T_wc: Tensor, frame: int) -> None:
        """Keep a frame that was tracked, at T_wc (1, 4, 4), if there is nothing like it yet. frame: its number."""
        T_wc = T_wc[0].double().cpu()
        if len(self.keyframes):
            metres, radians = self.keyframes.apart(T_wc, frame + 1)
            if bool(((metres < self.spacing[0]) & (radians < math.radians(self.spacing[1]))).any()):
                return
        self.keyframes.add(frame, T_wc, self.describe(live))

    def relocalize(self, live: LiveFrame, predict: Predict, T_wc_last: Tensor, frame: int) -> TrackingResult | None:
        """Where a camera that is lost was found, None if it was not.

        predict: what the map shows from somewhere. T_wc_last (1, 4, 4), where the camera was last. frame: its number.
        """
        for T_wk in self.candidate_poses(live, T_wc_last, frame):
            T_wc = self.align(live, predict, T_wk)
            if T_wc is not None:
                self.relocalized.append(frame)
                return TrackingResult.from_pose(T_wc, torch.ones_like(T_wc[:, 0, 0], dtype=torch.bool))
        return None

    def candidate_poses(self, live: LiveFrame, T_wc_last: Tensor, frame: int) -> list[Tensor]:
        """Where to look (1, 4, 4): where the camera was last, and from where things looked as they do now."""
        similar = self.keyframes.alike(self.describe(live), frame)
        best = similar.topk(min(self.candidates, len(similar))).indices.tolist()
        return [T_wc_last, *(self.keyframes.T_wk[k].to(T_wc_last)[None] for k in best)]

    def align(self, live: LiveFrame, predict: Predict, T_wk: Tensor) -> Tensor | None:
        """The pose (1, 4, 4) of a frame near T_wk, None if it does not fit there."""
        T_wc = T_wk
        for odometry in (self.coarse, self.fine, self.fine):
            tracking = odometry(live, predict(T_wc), T_wc)
            if not bool(tracking.ok[0]):
                return None
            T_wc = tracking.T_wc
        return T_wc if self.verify(live, predict(T_wc)) else None

    def verify(self, live: LiveFrame, model: SurfaceView) -> bool:
        """Whether a frame shows what its model does, both from one place."""
        depth = torch.where(model.weights > 0, model.vertices[..., 2], 0.0)
        overlap, shape, brightness = compare_views(live, depth, model.intensity)
        return shape >= self.agreement and overlap * shape >= self.overlap and brightness > self.likeness
