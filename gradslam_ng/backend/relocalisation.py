"""Where a camera that was lost is now: views that look alike, alignment with the map there, and a check."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradslam_ng.backend.keyframes import Describe, Keyframes, distance, thumbnail
from gradslam_ng.odometry import Alignment, ICPOdometer
from gradslam_ng.structures import LiveFrame, Surface

if TYPE_CHECKING:
    from gradslam_ng.slam.state import State
    from gradslam_ng.slam.system import System


class Relocaliser:
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
        describe: Describe = thumbnail,
    ) -> None:
        self.spacing, self.candidates, self.describe = spacing, candidates, describe
        self.agreement, self.overlap, self.likeness = agreement, overlap, likeness
        self.keyframes = Keyframes()
        self.found: list[int] = []  # numbers of the frames in which the camera was found again
        wide = {"max_distance": 0.3, "max_angle": 45.0, "scale": 15.0, "max_step": 1.0, "min_overlap": 0.3}
        self.coarse = ICPOdometer(iterations=(10, 6, 0), photometric=False, **wide)
        self.fine = ICPOdometer(iterations=(3, 4, 4), min_overlap=0.3)

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
        T_wc = next(filter(None.__ne__, map(lambda T: self.place(system, state, live, T), self.places(state, live))), None)
        tracking = state.tracking if T_wc is None else Alignment.known(T_wc, torch.ones_like(state.started))
        after = state.advance(state.map, tracking, live.surface)
        if T_wc is not None:
            self.found.append(state.frames)
        return replace(after, motion=torch.eye(4).to(state.T_wc).expand_as(state.T_wc))
