"""Relocalization of a lost camera: similar keyframes, local features, ICP against the map, and verification."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.odometry import TrackingResult
from gradslam_ng.places.feature_alignment import locate
from gradslam_ng.places.features import FeatureFrame
from gradslam_ng.places.keyframes import Descriptor, Keyframes, tiny_image_descriptor
from gradslam_ng.places.repetition import repeats
from gradslam_ng.places.search_turns import in_turn
from gradslam_ng.places.verification import PlaceVerifier, Predict
from gradslam_ng.structures import LiveFrame

log = logging.getLogger("gradslam_ng")
IN_MEMORY = 20  # keyframes, the last ones, whose images stay in memory where others are on disk


class Relocalizer:
    """Remembers what places look like, and finds a lost camera among them (after Glocker et al. 2015).

    Once a frame is lost none is tracked, and none enters the map, until one is found that fits what the map shows from
    there in shape and in brightness, and the map has no other place that looks like it. That one is not fused either;
    tracking goes on from it.

    Args:
        spacing: of the keyframes, meters and degrees.
        num_candidates: most similar keyframes that are tried: the first in each frame, one of the others in turn.
        verifier: aligns and checks; by default `PlaceVerifier.for_relocalization()`.
        describe: global descriptor of a frame, here and in `LoopCloser`.
        folder: on disk, for images of all but the last keyframes; None: they stay in memory.
    """

    def __init__(
        self,
        *,
        spacing: tuple[float, float] = (0.2, 12.0),
        num_candidates: int = 3,
        verifier: PlaceVerifier | None = None,
        describe: Descriptor = tiny_image_descriptor,
        folder: Path | None = None,
    ) -> None:
        self.spacing, self.num_candidates, self.describe = spacing, num_candidates, describe
        self.folder = folder
        self.verifier = PlaceVerifier.for_relocalization() if verifier is None else verifier
        self.keyframes = Keyframes()
        self.relocalized: list[int] = []  # numbers of the frames in which the camera was found again

    def fresh(self) -> Relocalizer:
        """Another one of the same settings, for another map."""
        other = copy(self)
        other.keyframes, other.relocalized = Keyframes(), []
        return other

    def saved(self) -> dict[str, Any]:
        """What it remembers, for `restore`."""
        return {"keyframes": self.keyframes, "relocalized": self.relocalized}

    def restore(self, saved: dict[str, Any]) -> None:
        """Remember what another one of the same settings did."""
        self.keyframes, self.relocalized = saved["keyframes"], saved["relocalized"]

    def needs(
        self,
        T_wc: Tensor,  # (1, 4, 4)
    ) -> bool:
        """Whether no keyframe is near a frame that was tracked."""
        meters, degrees = self.spacing
        return not self.keyframes.is_near(T_wc[0].double().cpu(), meters, math.radians(degrees))

    def add(
        self,
        live: LiveFrame,
        image: FeatureFrame,
        T_wc: Tensor,  # (1, 4, 4)
        frame: int,
    ) -> None:
        """A frame that was tracked, the one of that number, becomes a keyframe."""
        self.keyframes.add(frame, T_wc[0].double().cpu(), self.describe(live))
        self.keyframes.images.append(image)
        if self.folder is not None and len(self.keyframes) > IN_MEMORY:
            try:
                self.keyframes.images[-IN_MEMORY - 1].to_disk(self.folder)
            except OSError as error:
                log.warning("images of keyframes stay in memory: %s", error)
                self.folder = None

    def similarities(self, live: LiveFrame) -> Tensor:
        """How alike a frame and the keyframes are, (K,)."""
        return self.keyframes.similarities(self.describe(live))

    def relocalize(
        self,
        live: LiveFrame,
        predict: Predict,
        T_wc_last: Tensor,  # (1, 4, 4), where the camera was last
        frame: int,
        image: FeatureFrame,
        *,
        near: Sequence[int] | None = None,
        T_wc_told: Tensor | None = None,  # (1, 4, 4)
    ) -> TrackingResult | None:
        """Where a camera that is lost is in that frame, a batch of one; None if it is lost still.

        image: the frame, for its local features. near: the keyframes that it is looked for near, by default those of
        `in_turn`. T_wc_told: where another source says that the camera has gone, which is tried first.
        """
        if near is None:
            best = self.similarities(live).topk(min(self.num_candidates, len(self.keyframes))).indices.tolist()
            near = in_turn(best, frame)
        told = () if T_wc_told is None else (T_wc_told,)
        for T_start in chain(told, self.candidates(near, image, T_wc_last)):
            match = self.verifier.locate(live, predict, T_start, T_start)
            if match is not None and (T_start is T_wc_told or not self.repeats(match.T_wc)):
                self.relocalized.append(frame)
                found = TrackingResult.from_pose(match.T_wc, torch.ones_like(match.T_wc[:, 0, 0], dtype=torch.bool))
                return replace(found, covariance=match.covariance[None].to(match.T_wc))
        return None

    def repeats(
        self,
        T_wc: Tensor,  # (1, 4, 4)
    ) -> bool:
        """Whether the map has another place that looks like the one at T_wc."""
        return repeats(self.keyframes, T_wc[0].double().cpu())

    def candidates(
        self,
        near: Sequence[int],
        image: FeatureFrame,
        T_wc_last: Tensor,  # (1, 4, 4)
    ) -> Iterator[Tensor]:
        """Poses (1, 4, 4) to look from: where features of keyframes say that the camera is; for an image of few
        features the poses of these keyframes, and the last one known."""
        poses = [self.keyframes.T_wk[k].to(T_wc_last)[None] for k in near]
        if not image.features.are_enough:
            yield from (T_wc_last, *poses)
            return
        for k, T_wk in zip(near, poses, strict=True):
            T_wc = locate(self.keyframes.images[k], T_wk, image)
            if T_wc is not None:
                yield T_wc
