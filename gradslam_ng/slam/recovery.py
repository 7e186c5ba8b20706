"""Recovery of a frame that alignment from the predicted pose did not find: local features, then places known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradslam_ng.odometry import TrackingResult, TrackingStatus
from gradslam_ng.places import FeatureFrame, Relocalizer, compare_views, locate
from gradslam_ng.places.features import Extractor
from gradslam_ng.slam.state import State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, RGBDFrames

# What alignment is trusted over by itself, meters and radians: on real recordings taken apart to 5 frames a second,
# nearly all frames that it found wrongly were farther from where they were expected, and few others were
TRUSTED_STEP = 0.03, math.radians(2.5)
MIN_INLIERS, MIN_NCC = 0.8, 0.75  # least agreement with the map, in shape and in brightness, of an unconfirmed pose
UNCONFIRMED_SIGMA = 0.03, math.radians(2.0)  # meters and radians, of such a pose, if it is right at all


class TrackedFrame(NamedTuple):
    """The last frame that was tracked."""

    frame: RGBDFrames
    image: FeatureFrame | None  # None until it is asked for
    T_oc: Tensor  # (1, 4, 4)


class Recovery:
    """Finds frames that a step has lost, among them those over a wide step, see `State.trusted_step`.

    Args:
        system: whose frames they are.
        relocalizer: finds the camera at places seen before; None for a system that has no map to look into.
        extract: finds and describes local features; for instance a learned detector.
    """

    def __init__(self, system: System, *, relocalizer: Relocalizer | None, extract: Extractor) -> None:
        self.system, self.relocalizer, self.extract = system, relocalizer, extract
        self.last: TrackedFrame | None = None
        self.image: FeatureFrame | None = None  # of the frame at hand, where it was asked for

    def saved(self) -> dict[str, Any]:
        """What it remembers between two frames, for `restore`."""
        return {"last": self.last, "relocalizer": None if self.relocalizer is None else self.relocalizer.saved()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Remember what another one did."""
        self.last = saved["last"]
        if self.relocalizer is not None:
            self.relocalizer.restore(saved["relocalizer"])

    def image_of(self, frame: RGBDFrames) -> FeatureFrame:
        """A frame from which features are extracted when they are asked for."""
        return FeatureFrame(frame, max_depth=self.system.max_depth, extract=self.extract)

    def add_tracked(self, state: State, frame: RGBDFrames) -> None:
        """A frame that was tracked: later ones may be found by it."""
        image, self.image = self.image, None
        if self.relocalizer is not None and self.relocalizer.needs(state.T_oc):
            image = image or self.image_of(frame)
            self.relocalizer.add(state.live, image, state.T_oc, state.frames - 1)
        self.last = TrackedFrame(frame, image, state.T_oc)

    def recover(self, state: State, frame: RGBDFrames) -> State:
        """The state after a frame that a step has lost: found by features of the last one and fused, or as it is."""
        if state.tracking.status[0] == TrackingStatus.NO_DEPTH:
            return state
        self.image = self.image_of(frame)
        tracking = self.track_features(state, self.image)
        if tracking is None and state.tracking.status[0] == TrackingStatus.WIDE_STEP:
            tracking = self.unconfirmed(state, state.tracking.T_wc)
        if tracking is None:
            self.image = None
            return state
        before = state.before_last()
        return before.advance(self.system.update_map(before, state.live, tracking), tracking, state.live)

    def track_features(self, state: State, image: FeatureFrame) -> TrackingResult | None:
        """The frame aligned with the map from where features of the last frame say that it is."""
        if self.last is None:
            return None
        known = self.last.image or self.image_of(self.last.frame)
        self.last = self.last._replace(image=known)
        T_init = locate(known, self.last.T_oc, image)
        if T_init is None:
            return None
        model = self.system.predict_view(state, T_init, state.live.camera)
        # what features say is nearer than what another source does
        seen = replace(state.live, T_prior=None, T_wc_before=self.last.T_oc)
        tracking = self.system.localize(replace(state, T_oc=T_init), seen, model, T_init)
        if bool(tracking.ok[0]):
            return tracking
        aligned = tracking.T_wc if tracking.status[0] == TrackingStatus.WIDE_STEP else T_init
        found = self.unconfirmed(state, aligned)
        return self.unconfirmed(state, T_init) if found is None else found

    def unconfirmed(
        self,
        state: State,
        T_oc: Tensor,  # (1, 4, 4)
    ) -> TrackingResult | None:
        """A pose that either features or alignment found, alone; None where it does not fit the map well."""
        found = compare_views(state.live, self.system.predict_view(state, T_oc, state.live.camera))
        if found.depth_inlier_ratio < MIN_INLIERS or found.intensity_ncc < MIN_NCC:
            return None
        ok = torch.ones(1, dtype=torch.bool, device=T_oc.device)
        uncertain = torch.full((1,), int(TrackingStatus.UNCONFIRMED), device=T_oc.device)
        sigma = T_oc.new_tensor([UNCONFIRMED_SIGMA[0]] * 3 + [UNCONFIRMED_SIGMA[1]] * 3)
        return replace(TrackingResult.from_pose(T_oc, ok), status=uncertain, covariance=sigma.square().diag()[None])

    def relocalize(
        self, state: State, live: LiveFrame, image: FeatureFrame, number: int, near: Sequence[int]
    ) -> TrackingResult | None:
        """Where the frame of that number in the run, of a camera that is lost, was seen from; None if it is lost still.

        near: the keyframes near which it is looked for.
        """
        if self.relocalizer is None:
            return None
        predict = partial(self.system.predict_view, state, camera=live.camera)
        told = state.reckon(live)
        reckoned = {} if told is None or not bool(told.isfinite().all()) else {"T_wc_told": told}
        tracking = self.relocalizer.relocalize(live, predict, state.T_oc, number, image, near=near, **reckoned)
        self.image = None if tracking is None else image
        return tracking
