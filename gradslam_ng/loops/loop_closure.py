"""Loop closure: keyframes, a pose graph of them, and deformation of a surfel map; see `loop_detection`.

The scheme of ElasticFusion (Whelan et al. 2016) with keyframes for its deformation graph. Surfels not seen for a while
leave the map that is tracked against and wait in an archive; so tracking never mixes passes that have drifted apart.
At each keyframe the archive is searched near the estimated pose (local loops) and at the keyframe of most similar
appearance (global loops), and the frame aligned with what the archive shows there. What is verified, and is no more
than odometry can be off, becomes an edge between keyframes; a robust pose graph moves these, surfels move with their
keyframes, and those seen again join the map once more.

Detection and optimization go on beside tracking, in a thread of their own. What comes of a keyframe is put into effect
at the next, however long it took: a run does not depend on the machine's pace.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph.edges import Edge
from gradslam_ng.loops.loop_detection import Closure, LoopDetector
from gradslam_ng.loops.pose_graph import Loop, odometry_weight, optimize_pose_graph
from gradslam_ng.loops.submaps import partition, reactivate, transform
from gradslam_ng.loops.surfel_store import SurfelStore
from gradslam_ng.places.keyframes import Descriptor, Keyframes, tiny_image_descriptor
from gradslam_ng.places.verification import PlaceVerifier
from gradslam_ng.rendering import predict_surfels
from gradslam_ng.slam.state import Map, State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, SurfelMap
from gradslam_ng.structures.surfels import concatenate

ARCHIVE_FRACTION = 0.03  # of the map's surfels that must not have been seen for a while before they move: it copies all
# What it knows between two frames, beside what is being detected.
SAVED = ("keyframes", "loops", "odometry_edges", "path_length", "T_wc_last", "archive", "store")


def surfels_of(map_: Map) -> SurfelMap:
    """The map, which is one of surfels.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(map_, SurfelMap):
        raise TypeError(f"LoopCloser: expected a map of surfels, got {type(map_).__name__}; see VolumeLoopCloser")
    return map_


class LoopCloser:
    """Closes loops of a system whose map is made of surfels; see `StreamingSystem.run`. One for each run.

    Args:
        window: frames after which surfels that are no longer seen go to the archive.
        spacing: of keyframes, meters and degrees.
        reach: of local loops, meters and degrees between a keyframe and the estimated pose.
        similarity: of descriptors from which a global loop is looked into.
        gate: most that a loop may be off from what odometry and the loops before expect, standard deviations.
        sigma: of odometry between keyframes, meters, in a direction that every pixel constrains; more as fewer do.
        drift: of odometry, per meter and radian of the path.
        verifier: whether a frame fits an earlier pass, by default `PlaceVerifier.for_loop_closure()`.
        describe: global descriptor of a frame, for instance a learned one; see `places.keyframes.Descriptor`.
        asynchronous: whether tracking goes on while a loop is looked for; the result is the same.
        store: where on disk the archive goes that is far from the camera; None: all of it stays in memory.
    """

    moves_map = True

    def __init__(
        self,
        window: int = 200,
        *,
        spacing: tuple[float, float] = (0.2, 12.0),
        reach: tuple[float, float] = (0.6, 30.0),
        similarity: float = 0.75,
        gate: float = 6.0,
        sigma: float = 0.0003,
        drift: float = 0.005,
        verifier: PlaceVerifier | None = None,
        describe: Descriptor = tiny_image_descriptor,
        asynchronous: bool = True,
        store: SurfelStore | None = None,
    ) -> None:
        self.window, self.spacing, self.sigma, self.drift = window, spacing, sigma, drift
        self.verifier = PlaceVerifier.for_loop_closure() if verifier is None else verifier
        self.detector = LoopDetector(window, reach, similarity, gate, self.verifier)
        self.describe, self.asynchronous, self.store = describe, asynchronous, store
        self._begin()

    def _begin(self) -> None:
        """No frame yet."""
        self.keyframes = Keyframes()
        self.loops: list[Loop] = []
        self.odometry_edges: list[Edge] = []  # between keyframes
        self.path_length = 0.0, 0.0  # meters and radians since the last keyframe
        self.T_wc_last = torch.eye(4, dtype=torch.float64, device="cpu")
        self.archive = SurfelMap.empty()
        self.pending: Future[Closure | None] | None = None  # what is being detected
        self.executor = ThreadPoolExecutor(1, "loops")

    def fresh(self) -> LoopCloser:
        """Another one of the same settings, for another map."""
        other = copy(self)
        other.store = None if self.store is None else self.store.fresh()
        other.detector = replace(self.detector)
        other._begin()
        return other

    saved_types = (SurfelStore, SurfelMap, Keyframes, Edge, Loop, Closure, optim.FullWeight)

    def saved(self) -> dict[str, Any]:
        """What it knows between two frames; waits for what is being detected."""
        closure = None if self.pending is None else self.pending.result()
        known = {name: getattr(self, name) for name in SAVED}
        known |= {"pending_correction": self.detector.pending_correction}
        return known | {"closure": closure, "is_pending": self.pending is not None}

    def restore(self, saved: dict[str, Any], system: System) -> None:
        """Go on from where another one of the same settings was."""
        own = self.store
        for name in SAVED:
            setattr(self, name, saved[name])
        self.detector.pending_correction = saved["pending_correction"]
        if own is not None:  # what is on disk stays where it is, and what is new goes to a folder of this run
            own.files, self.store = [] if self.store is None else self.store.files, own
        elif self.store is not None:
            self.store.limit = math.inf
        self.pending = None
        if saved["is_pending"]:
            self.pending = Future()
            self.pending.set_result(saved["closure"])

    def loop_frames(self) -> list[tuple[int, int]]:
        """The two frames of each loop closed, counted from 0."""
        frames = self.keyframes.frames
        return [(frames[loop.i], frames[loop.j]) for loop in self.loops]

    def poses(self) -> Tensor:
        """Of all frames so far (L, 4, 4) float64, as the loops closed have them."""
        return self.keyframes.trajectory()

    def process(self, system: System, state: State, live: LiveFrame, in_map: bool = True) -> State:
        """The state after each step, corrected if a loop was closed.

        in_map: the frame, if it was tracked, is in the map; makes no difference here.

        Raises:
            TypeError: the map is not one of surfels.
        """
        return self.process_frame(state, live, system.mapper.stable_confidence)

    @torch.no_grad()
    def process_frame(self, state: State, live: LiveFrame, stable_confidence: float | Tensor) -> State:
        """As `process`; the archive is rendered with that `stable_confidence`, see `rendering.predict_surfels`."""
        T_wc, frame = state.T_oc[0].double().cpu(), state.frames - 1
        if not len(self.keyframes):
            points = surfels_of(state.map).points
            self.archive = SurfelMap.empty(device=points.device, dtype=points.dtype)
            self.add_keyframe(live, T_wc, frame)
            return state
        self.follow_path(T_wc)
        if not self.is_far(T_wc) or not bool(state.tracking.ok[0]):
            self.keyframes.attach(T_wc)
            return state
        state = self.apply_pending(state, live)
        T_wc = state.T_oc[0].double().cpu()
        self.add_odometry_edge(live, T_wc)
        self.add_keyframe(live, T_wc, frame)
        state = self.archive_unseen(state, frame)
        if self.store is not None:
            self.recall([T_wc, *(self.keyframes.T_wk[k] for k, _ in self.detector.candidates(self.keyframes))])
        if int(self.archive.count[0]):
            self.begin_detection(live, stable_confidence)
        return state

    def begin_detection(self, live: LiveFrame, stable_confidence: float | Tensor) -> None:
        """The last keyframe is compared with the archive, beside tracking if `asynchronous`."""
        K, size = live.surface.K, live.surface.size
        predict = partial(predict_surfels, self.archive, K=K, size=size, stable_confidence=stable_confidence)
        detect = partial(self.detector.detect, self.keyframes, self.odometry_edges, self.loops, predict, live)
        self.pending = self.executor.submit(copy_context().run, detect)
        if not self.asynchronous:
            self.pending.exception()

    def follow_path(
        self,
        T_wc: Tensor,  # (4, 4) float64
    ) -> None:
        """The path since the last keyframe goes on to T_wc."""
        meters, radians = map(float, se3.distance(self.T_wc_last, T_wc))
        self.path_length = self.path_length[0] + meters, self.path_length[1] + radians
        self.T_wc_last = T_wc

    def is_far(
        self,
        T_wc: Tensor,  # (4, 4) float64
    ) -> bool:
        """Whether a frame at T_wc is far enough from the last keyframe for another."""
        meters, radians = map(float, se3.distance(self.keyframes.T_wk[-1], T_wc))
        return meters >= self.spacing[0] or math.degrees(radians) >= self.spacing[1]

    @torch.no_grad()
    def reactivate(self, state: State) -> State:
        """The state after a frame in which a lost camera was found, what it sees of the archive in the map again."""
        if not int(self.archive.count[0]):
            return state
        if self.pending is not None:
            self.pending.exception()  # what is being detected looks at the archive
        map_, frame = surfels_of(state.map), state.frames - 1
        active, self.archive = reactivate(map_, self.archive, state.live, state.T_oc, frame)
        return replace(state, map=active)

    def recall(
        self,
        T_wc: Sequence[Tensor],  # (4, 4) each
    ) -> None:
        """The archive near these poses is in memory, and what is far from them on disk, where it has a place there."""
        if self.store is None or not len(self.keyframes):
            return
        if self.pending is not None:
            self.pending.exception()  # what is being detected looks at the archive
        owner = self.keyframes.keyframe_of(self.archive.created)
        self.archive = self.store.page(self.archive, owner, self.keyframes.poses, T_wc)

    def stored(self) -> Iterator[SurfelMap]:
        """The surfels on disk, in parts, as the keyframes lie now."""
        return iter(()) if self.store is None else self.store.parts(self.keyframes.poses)

    def add_keyframe(
        self,
        live: LiveFrame,
        T_wc: Tensor,  # (4, 4) float64
        frame: int,
    ) -> None:
        """A frame becomes a keyframe."""
        self.keyframes.add(frame, T_wc, self.describe(live))
        self.keyframes.attach(T_wc)
        self.T_wc_last, self.path_length = T_wc, (0.0, 0.0)

    def add_odometry_edge(
        self,
        live: LiveFrame,
        T_wc: Tensor,  # (4, 4) float64
    ) -> None:
        """The motion from the last keyframe to the one to come, weighed by what its alignment constrains."""
        H = self.verifier.normal_equations(live, live.surface)
        meters, radians = self.path_length
        weight = odometry_weight(H, meters, radians, sigma=self.sigma, drift=self.drift)
        last = len(self.keyframes) - 1
        self.odometry_edges.append(Edge(last, last + 1, se3.inverse(self.keyframes.T_wk[-1]) @ T_wc, weight))

    def archive_unseen(self, state: State, frame: int) -> State:
        """Surfels that have not been seen for a while go to the archive, once they are worth a copy of the map."""
        map_ = surfels_of(state.map)
        old = (map_.updated < frame - self.window) & map_.mask
        if int(old.sum()) <= ARCHIVE_FRACTION * int(map_.count[0]):
            return state
        active, unseen = partition(map_, old)
        self.archive = concatenate(self.archive, unseen)
        return replace(state, map=active)

    def apply_pending(self, state: State, live: LiveFrame) -> State:
        """What was detected at the last keyframe is put into effect: keyframes, map and camera move, and surfels seen
        again come back."""
        closure = self.take_pending()
        if closure is None:
            return state
        if closure.T_wk is not None:
            state = self.deform(state, closure.T_wk)
        active = surfels_of(state.map)
        active, self.archive = reactivate(active, self.archive, live, state.T_oc, state.frames - 1)
        return replace(state, map=active)

    def take_pending(self) -> Closure | None:
        """What was detected at the last keyframe, once; it counts as closed from now on."""
        pending, self.pending = self.pending, None
        closure = None if pending is None else pending.result()
        if closure is not None:
            self.loops.append(closure.loop)
        return closure

    def deform(
        self,
        state: State,
        T_wk: Tensor,  # (K, 4, 4) float64
    ) -> State:
        """Keyframes at T_wk, map and camera moved with them."""
        delta = T_wk @ se3.inverse(self.keyframes.poses)
        self.keyframes.T_wk = list(T_wk.unbind(0))
        active, self.archive = (
            transform(m, self.keyframes.keyframe_of(m.created), delta) for m in (surfels_of(state.map), self.archive)
        )
        T_wc = se3.renormalize(delta[-1].to(state.T_oc) @ state.T_oc)
        return replace(state, map=active, T_oc=T_wc, tracking=replace(state.tracking, T_wc=T_wc))

    @torch.no_grad()
    def finalize(self, map_: Map) -> tuple[Map, Tensor]:
        """The whole map and all frames' poses (L, 4, 4) float64, as the last optimum has them."""
        self.take_pending()
        self.executor.shutdown()
        whole = concatenate(surfels_of(map_), self.archive)
        if self.loops:
            before = self.keyframes.poses
            after = optimize_pose_graph(before, self.odometry_edges, self.loops)
            self.keyframes.T_wk = list(after.unbind(0))
            whole = transform(whole, self.keyframes.keyframe_of(whole.created), after @ se3.inverse(before))
        return whole, self.keyframes.trajectory()
