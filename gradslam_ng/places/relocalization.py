"""Where a camera that was lost is now: views that look alike, alignment with the map there, and a check."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradslam_ng.odometry import ProjectiveICP, TrackingResult
from gradslam_ng.places.consistency import coarse_icp, compare_views
from gradslam_ng.places.keyframes import Descriptor, Keyframes, tiny_image_descriptor
from gradslam_ng.structures import LiveFrame, SurfaceView

if TYPE_CHECKING:
    from gradslam_ng.slam.state import State
    from gradslam_ng.slam.system import System


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
        self.found: list[int] = []  # numbers of the frames in which the camera was found again
        self.coarse = coarse_icp(max_step=1.0)
        self.fine = ProjectiveICP(iterations=(3, 4, 4), min_overlap=0.3)

    def remember(self, state: State, live: LiveFrame) -> None:
        """A frame that was tracked, if there is nothing like it yet."""
        T_wc = state.T_wc[0].double().cpu()
        if len(self.keyframes):
            metres, radians = self.keyframes.apart(T_wc, state.frames)
            if bool(((metres < self.spacing[0]) & (radians < math.radians(self.spacing[1]))).any()):
                return
        self.keyframes.add(state.frames - 1, T_wc, self.describe(live))

    def find(self, system: System, state: State, live: LiveFrame) -> State:
        """The state after a frame of a camera that is lost: found, or lost still."""
        tracking = state.tracking
        for T_wk in self.places(state, live):
            T_wc = self.aligned(system, state, live, T_wk)
            if T_wc is not None:
                tracking = TrackingResult.from_pose(T_wc, torch.ones_like(state.started))
                self.found.append(state.frames)
                break
        still = torch.eye(4).to(state.T_wc).expand_as(state.T_wc)
        return replace(state.advance(state.map, tracking, live.surface), motion=still)

    def places(self, state: State, live: LiveFrame) -> list[Tensor]:
        """Where to look (1, 4, 4): where the camera was last, and from where things looked as they do now."""
        similar = self.keyframes.alike(self.describe(live), state.frames)
        best = similar.topk(min(self.candidates, len(similar))).indices.tolist()
        return [state.T_wc, *(self.keyframes.T_wk[k].to(state.T_wc)[None] for k in best)]

    def aligned(self, system: System, state: State, live: LiveFrame, T_wk: Tensor) -> Tensor | None:
        """The pose (1, 4, 4) of a frame near T_wk, None if it does not fit there."""
        T_wc = T_wk
        for odometer in (self.coarse, self.fine, self.fine):
            model, T_wm = system.model(state, T_wc, live)
            found = odometer(live, model, T_wm, T_wc)
            if not bool(found.ok[0]):
                return None
            T_wc = found.T_wc
        model, _ = system.model(state, T_wc, live)
        return T_wc if self.fits(live, model) else None

    def fits(self, live: LiveFrame, model: SurfaceView) -> bool:
        """Whether a frame shows what its model does, both from one place."""
        depth = torch.where(model.weights > 0, model.vertices[..., 2], 0.0)
        overlap, shape, brightness = compare_views(live, depth, model.intensity)
        return shape >= self.agreement and overlap * shape >= self.overlap and brightness > self.likeness
