"""Relocalization of a lost camera: keyframes of similar appearance, ICP against the map there, and verification."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradslam_ng.odometry import TrackingResult
from gradslam_ng.places.keyframes import Descriptor, Keyframes, tiny_image_descriptor
from gradslam_ng.places.verification import PlaceVerifier, Predict
from gradslam_ng.structures import LiveFrame


class Relocalizer:
    """Remembers what places look like, and finds a lost camera among them (after Glocker et al. 2015).

    Once a frame is lost none is tracked, and none enters the map, until one is found that fits what the map shows from
    there in shape and in brightness. That one is not fused either; tracking goes on from it.

    Args:
        spacing: of the keyframes, meters and degrees.
        num_candidates: most similar keyframes that are tried, beside the last pose known.
        verifier: aligns and checks; by default `PlaceVerifier.for_relocalization()`.
        describe: global descriptor of a frame, here and in `LoopCloser`.
    """

    def __init__(
        self,
        *,
        spacing: tuple[float, float] = (0.2, 12.0),
        num_candidates: int = 3,
        verifier: PlaceVerifier | None = None,
        describe: Descriptor = tiny_image_descriptor,
    ) -> None:
        self.spacing, self.num_candidates, self.describe = spacing, num_candidates, describe
        self.verifier = PlaceVerifier.for_relocalization() if verifier is None else verifier
        self.keyframes = Keyframes()
        self.relocalized: list[int] = []  # numbers of the frames in which the camera was found again

    def add(
        self,
        live: LiveFrame,
        T_wc: Tensor,  # (1, 4, 4)
        frame: int,
    ) -> None:
        """A frame that was tracked, the one of that number; it becomes a keyframe if none is near."""
        T = T_wc[0].double().cpu()
        meters, radians = self.keyframes.distances(T)
        if not bool(((meters < self.spacing[0]) & (radians < math.radians(self.spacing[1]))).any()):
            self.keyframes.add(frame, T, self.describe(live))

    def relocalize(
        self,
        live: LiveFrame,
        predict: Predict,
        T_wc_last: Tensor,  # (1, 4, 4), where the camera was last
        frame: int,
    ) -> TrackingResult | None:
        """Where a camera that is lost is in that frame, a batch of one; None if it is lost still."""
        for T_wk in self.candidates(live, T_wc_last):
            match = self.verifier.locate(live, predict, T_wk, T_wk)
            if match is not None:
                self.relocalized.append(frame)
                return TrackingResult.from_pose(match.T_wc, torch.ones_like(match.T_wc[:, 0, 0], dtype=torch.bool))
        return None

    def candidates(
        self,
        live: LiveFrame,
        T_wc_last: Tensor,  # (1, 4, 4)
    ) -> list[Tensor]:
        """Poses (1, 4, 4) to look from: the last one known, and those of the most similar keyframes."""
        similar = self.keyframes.similarities(self.describe(live))
        best = similar.topk(min(self.num_candidates, len(similar))).indices.tolist()
        return [T_wc_last, *(self.keyframes.T_wk[k].to(T_wc_last)[None] for k in best)]
