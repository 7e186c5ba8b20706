"""Loop detection: from the last keyframe to one of an earlier pass, verified, expected by odometry, and confirmed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph.edges import Edge
from gradslam_ng.graph.information import square_root
from gradslam_ng.loops.pose_graph import Loop, mahalanobis_distance, optimize_pose_graph
from gradslam_ng.places.keyframes import Keyframes
from gradslam_ng.places.verification import PlaceMatch, PlaceVerifier, Predict
from gradslam_ng.structures import LiveFrame

MIN_CORRECTION = 0.003, math.radians(0.2)  # meters and radians: less is not worth moving the map for
CONFIRM_ABOVE = 0.3, math.radians(15.0)  # a correction that a second loop must agree with, to 5 cm and 3 degrees


@dataclass(frozen=True, eq=False)
class Closure:
    """A loop, and where the keyframes lie with it; None where the map need not move."""

    loop: Loop
    T_wk: Tensor | None  # (K, 4, 4) float64


@dataclass(eq=False)
class LoopDetector:
    """Finds loops from the last keyframe to what earlier passes have seen.

    window: frames after which another pass begins.
    reach: of local loops, meters and degrees between a keyframe and the estimated pose.
    similarity: of descriptors from which a global loop is looked into.
    gate: most that a loop may be off from what odometry and the loops before expect, standard deviations.
    """

    window: int
    reach: tuple[float, float]
    similarity: float
    gate: float
    verifier: PlaceVerifier
    pending_correction: Tensor | None = field(default=None, init=False)  # (4, 4), a large one until a second agrees

    def candidates(self, keyframes: Keyframes) -> list[tuple[int, Tensor]]:
        """Keyframes of earlier passes that the last one may show again, and where to start looking for it (4, 4)."""
        T_wc, before = keyframes.T_wk[-1], keyframes.frames[-1] - self.window
        meters, radians = keyframes.distances(T_wc, before)
        if not len(meters):
            return []
        near = int((away := meters / self.reach[0] + radians / math.radians(self.reach[1])).argmin())
        found = [(near, T_wc)] if float(away[near]) < 1 else []
        assert keyframes.last_descriptors is not None
        similar = keyframes.similarities(keyframes.last_descriptors, before)
        best = int(similar.argmax())
        if float(similar[best]) > self.similarity and (not found or best != near):
            found.append((best, keyframes.T_wk[best]))
        return found

    @torch.no_grad()
    def detect(
        self,
        keyframes: Keyframes,
        odometry_edges: list[Edge],  # between keyframes
        loops: list[Loop],  # closed before
        predict: Predict,  # draws what earlier passes have seen
        live: LiveFrame,  # the last keyframe
    ) -> Closure | None:
        """The first loop from the last keyframe that is verified, expected and confirmed."""
        T_wk = keyframes.poses
        for k, T_init in self.candidates(keyframes):
            T_wm, T_wc = (T.to(live.surface.vertices)[None] for T in (T_wk[k], T_init))
            match = self.verifier.locate(live, predict, T_wm, T_wc)
            if match is None:
                continue
            loop, T_found = to_loop(match, keyframes, k), match.T_wc[0].double().cpu()
            if mahalanobis_distance(T_wk, odometry_edges, loops, loop) > self.gate:
                continue  # more than odometry can be off: it looks the same and is not
            if self.is_confirmed(T_found, T_wk[-1]):
                meters, radians = map(float, se3.distance(T_found, T_wk[-1]))
                small = meters < MIN_CORRECTION[0] and radians < MIN_CORRECTION[1]
                moved = None if small else optimize_pose_graph(T_wk, odometry_edges, [*loops, loop])
                return Closure(loop, moved)
        return None

    def is_confirmed(
        self,
        T_found: Tensor,  # (4, 4)
        T_wc: Tensor,  # (4, 4)
    ) -> bool:
        """Whether a loop that finds the camera at T_found rather than T_wc may move the map already."""
        meters, radians = map(float, se3.distance(T_found, T_wc))
        before, self.pending_correction = self.pending_correction, None
        if meters < CONFIRM_ABOVE[0] and radians < CONFIRM_ABOVE[1]:
            return True
        self.pending_correction = T_found @ se3.inverse(T_wc)
        if before is None:
            return False
        meters, radians = map(float, se3.distance(before @ T_wc, T_found))
        return meters < 0.05 and radians < math.radians(3)


def to_loop(match: PlaceMatch, keyframes: Keyframes, k: int) -> Loop:
    """The edge to the last keyframe, found at a place near keyframe k."""
    T_ij = se3.inverse(keyframes.T_wk[k]) @ match.T_wc[0].double().cpu()
    weight = optim.FullWeight(square_root(match.information)[None])
    coverage, _, intensity_ncc = match.consistency
    return Loop(k, len(keyframes) - 1, T_ij, weight, coverage=coverage, intensity_ncc=intensity_ncc)
