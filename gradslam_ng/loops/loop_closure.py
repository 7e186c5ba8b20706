"""Loop closure: places seen before are recognised, verified and closed, and the map follows.

The scheme of ElasticFusion (Whelan et al. 2016) with keyframes for its deformation graph. Surfels not seen for a while
leave the map that is tracked against and wait in an archive; so tracking never mixes passes that have drifted apart.
At each keyframe the archive is looked up where the camera believes to be (local loops) and where it looks alike (global
ones), and the frame aligned with what the archive shows there. What holds, and is no more than odometry can be off,
becomes an edge between keyframes; a robust pose graph moves these, surfels ride on their keyframes, and those seen
again join the map once more.

Looking and optimising go on beside tracking, in a thread of their own. What comes of a keyframe is put into effect at
the next, however long it took: a run does not depend on the machine's pace.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.loops.pose_graph import Edge, Loop, mahalanobis_distance, odometry_weight, optimize_pose_graph
from gradslam_ng.loops.submaps import bring_back, joined, moved, split
from gradslam_ng.places.keyframes import Descriptor, Keyframes, distance, tiny_image_descriptor
from gradslam_ng.places.verification import Verifier
from gradslam_ng.slam.state import State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, SurfelMap

PUT_AWAY = 0.03  # share of the map's surfels that must have grown old before they are moved: moving copies all
NEGLIGIBLE = 0.003, math.radians(0.2)  # metres and radians: a correction that is not worth moving the map for
LARGE = 0.3, math.radians(15.0)  # one that a second loop must agree with, to 5 cm and 3 degrees


@dataclass(frozen=True, eq=False)
class Closure:
    """A loop, and where the keyframes lie with it; None where the map need not move."""

    loop: Loop
    T_wk: Tensor | None  # (K, 4, 4) float64


class LoopCloser:
    """Follows a system frame by frame; see `System.run`. One for each run.

    Args:
        window: frames after which surfels that are no longer seen go to the archive.
        spacing: of keyframes, metres and degrees.
        reach: of local loops, metres and degrees between a keyframe and where the camera believes to be.
        similarity: of codes from which a global loop is looked into.
        gate: most that a loop may be off from what odometry and the loops before expect, standard deviations.
        sigma: of odometry between keyframes, metres, in a direction that every pixel fixes; more as fewer do.
        drift: of odometry, per metre and radian travelled.
        verify: whether a frame fits an earlier pass, by default `Verifier()`.
        describe: code (D,) of unit length of a frame, for instance a learned one.
        beside: whether tracking goes on while a loop is looked for; the result is the same.
    """

    def __init__(
        self,
        window: int = 200,
        spacing: tuple[float, float] = (0.2, 12.0),
        reach: tuple[float, float] = (0.6, 30.0),
        similarity: float = 0.75,
        gate: float = 6.0,
        sigma: float = 0.0003,
        drift: float = 0.005,
        verify: Verifier | None = None,
        describe: Descriptor = tiny_image_descriptor,
        beside: bool = True,
    ) -> None:
        self.window, self.spacing, self.reach, self.similarity = window, spacing, reach, similarity
        self.gate, self.sigma, self.drift = gate, sigma, drift
        self.verify, self.describe, self.beside = verify or Verifier(), describe, beside
        self.keyframes, self.loops = Keyframes(), []
        self.steps: list[Edge] = []  # odometry between keyframes
        self.travelled = [0.0, 0.0]  # metres and radians since the last keyframe
        self.archive: SurfelMap | None = None
        self.doubtful: Tensor | None = None  # a large correction that waits for a second one to agree
        self.worker = ThreadPoolExecutor(1, "loops")
        self.looking: Future[Closure | None] | None = None

    @torch.no_grad()
    def process(self, system: System, state: State, live: LiveFrame) -> State:
        """After each step: the state, corrected if a loop was closed."""
        T_wc, number = state.T_wc[0].double().cpu(), state.frames - 1
        if not len(self.keyframes):
            self.archive = SurfelMap.empty(device=state.map.points.device, dtype=state.map.points.dtype)
            self.add(live, T_wc, number)
            return state
        metres, radians = map(float, distance(self.before, T_wc))
        self.travelled = [self.travelled[0] + metres, self.travelled[1] + radians]
        self.before = T_wc
        metres, radians = map(float, distance(self.keyframes.T_wk[-1], T_wc))
        still = metres < self.spacing[0] and math.degrees(radians) < self.spacing[1]
        if still or not bool(state.tracking.ok[0]):
            self.keyframes.hang(T_wc)
            return state
        state = self.settle(state, live)
        T_wc = state.T_wc[0].double().cpu()
        T_ij = se3.inverse(self.keyframes.T_wk[-1]) @ T_wc
        H = self.verify.normal_equations(live, live.surface)
        W = odometry_weight(H, *self.travelled, self.sigma, self.drift)
        self.steps.append(Edge(len(self.keyframes) - 1, len(self.keyframes), T_ij, W))
        self.add(live, T_wc, number)
        old = (state.map.updated < number - self.window) & state.map.mask
        if int(old.sum()) > PUT_AWAY * int(state.map.count[0]):
            active, old = split(state.map, old)
            self.archive = joined(self.archive, old)
            state = replace(state, map=active)
        if int(self.archive.count[0]):
            stable = getattr(system.mapper, "stable_confidence", 1.0)
            self.looking = self.worker.submit(copy_context().run, self.look, live, number, stable)
            if not self.beside:
                self.looking.exception()
        return state

    def add(self, live: LiveFrame, T_wc: Tensor, number: int) -> None:
        """A frame becomes a keyframe."""
        self.keyframes.add(number, T_wc, self.describe(live))
        self.keyframes.hang(T_wc)
        self.before, self.travelled = T_wc, [0.0, 0.0]

    @torch.no_grad()
    def look(self, live: LiveFrame, number: int, stable: float) -> Closure | None:
        """The first loop from the last keyframe that holds and can be believed."""
        T_wk = torch.stack(self.keyframes.T_wk)
        for k, start in self.candidates(number):
            match = self.verify(live, self.archive, T_wk[k], start, stable)
            if match is None:
                continue
            T_ij = se3.inverse(T_wk[k]) @ match.T_wc
            loop = Loop(k, len(T_wk) - 1, T_ij, match.W, match.overlap, match.likeness)
            if mahalanobis_distance(T_wk, self.steps, self.loops, loop) > self.gate:
                continue  # more than odometry can be off: it looks the same and is not
            if self.believed(match.T_wc, T_wk[-1]):
                metres, radians = map(float, distance(match.T_wc, T_wk[-1]))
                small = metres < NEGLIGIBLE[0] and radians < NEGLIGIBLE[1]
                return Closure(loop, None if small else optimize_pose_graph(T_wk, self.steps, [*self.loops, loop]))
        return None

    def candidates(self, number: int) -> list[tuple[int, Tensor]]:
        """Keyframes of earlier passes that the last one may show again, and where to start looking for it (4, 4)."""
        T_wc, before = self.keyframes.T_wk[-1], number - self.window
        metres, radians = self.keyframes.apart(T_wc, before)
        if not len(metres):
            return []
        near = int((away := metres / self.reach[0] + radians / math.radians(self.reach[1])).argmin())
        found = [(near, T_wc)] if float(away[near]) < 1 else []
        similar = self.keyframes.alike(self.keyframes.codes[-1], before)
        alike = int(similar.argmax())
        if float(similar[alike]) > self.similarity and (not found or alike != near):
            found.append((alike, self.keyframes.T_wk[alike]))
        return found

    def believed(self, T_found: Tensor, T_wc: Tensor) -> bool:
        """Whether a loop that finds the camera at T_found (4, 4) rather than T_wc may move the map already."""
        metres, radians = map(float, distance(T_found, T_wc))
        before, self.doubtful = self.doubtful, None
        if metres < LARGE[0] and radians < LARGE[1]:
            return True
        self.doubtful = T_found @ se3.inverse(T_wc)
        if before is None:
            return False
        metres, radians = map(float, distance(before @ T_wc, T_found))
        return metres < 0.05 and radians < math.radians(3)

    def settle(self, state: State, live: LiveFrame) -> State:
        """What came of the last keyframe is put into effect: keyframes, map and camera move, and surfels seen again
        come back."""
        if self.looking is None:
            return state
        looking, self.looking = self.looking, None
        closure = looking.result()
        if closure is None:
            return state
        self.loops.append(closure.loop)
        if closure.T_wk is not None:
            state = self.deform(state, closure.T_wk)
        active, self.archive = bring_back(state.map, self.archive, live, state.T_wc, state.frames - 1)
        return replace(state, map=active)

    def deform(self, state: State, T_wk: Tensor) -> State:
        """Keyframes at T_wk (K, 4, 4), map and camera moved with them."""
        delta = T_wk @ se3.inverse(torch.stack(self.keyframes.T_wk))
        self.keyframes.T_wk = list(T_wk.unbind(0))
        active, self.archive = (moved(m, self.keyframes.owner(m.created), delta) for m in (state.map, self.archive))
        T_wc = se3.renormalize(delta[-1].to(state.T_wc) @ state.T_wc)
        return replace(state, map=active, T_wc=T_wc, tracking=replace(state.tracking, T_wc=T_wc))

    @torch.no_grad()
    def finalize(self, map_: SurfelMap) -> tuple[SurfelMap, Tensor]:
        """The whole map and all frames' poses (L, 4, 4) float64, as the last optimum has them."""
        looking, self.looking = self.looking, None
        closure = None if looking is None else looking.result()
        if closure is not None:
            self.loops.append(closure.loop)
        self.worker.shutdown()
        everything = joined(map_, self.archive)
        if self.loops:
            before = torch.stack(self.keyframes.T_wk)
            after = optimize_pose_graph(before, self.steps, self.loops)
            self.keyframes.T_wk = list(after.unbind(0))
            everything = moved(everything, self.keyframes.owner(everything.created), after @ se3.inverse(before))
        return everything, self.keyframes.trajectory()
