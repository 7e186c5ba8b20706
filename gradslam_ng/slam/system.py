"""What every system shares: one step per frame, over clips and over streams."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as checkpointed

from gradslam_ng.compute.compiled import compilation, seconds_compiling
from gradslam_ng.datasets.prefetch import prefetch
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import KnownPoses, TrackingResult, step_strategy
from gradslam_ng.places.relocalization import Relocalizer
from gradslam_ng.preprocessing import Noise, axial_noise, measure_surface
from gradslam_ng.slam.graphed_step import GraphedStep, Recorder
from gradslam_ng.slam.runtime import defer_interrupts, reserve_core
from gradslam_ng.slam.settings import Settings, preset
from gradslam_ng.slam.state import Map, Result, State
from gradslam_ng.structures import Camera, LiveFrame, RGBDFrames, SurfaceView, SurfelMap, Trajectory

log = logging.getLogger("gradslam_ng")
FRAME_RATE = 30.0  # of streams that come without time stamps
WORTH_COMPILING = 1000  # frames
SMALLEST = 8  # pixels across an image at working size


def odometer(name: str, settings: Settings) -> nn.Module:
    """The odometer of that name: gradicp (soft-damped, differentiable), icp (Levenberg-Marquardt), ground-truth."""
    return KnownPoses() if name == "ground-truth" else settings.odometer(step_strategy(name))


class LoopClosure(Protocol):
    """What closes loops: `loops.LoopCloser` and, for volumes, `loops.VolumeLoopCloser`."""

    loops: list  # those closed

    def process(self, system: System, state: State, live: LiveFrame, in_map: bool) -> State:
        """The state after each frame, corrected if a loop was closed. in_map: the frame, if tracked, is."""
        ...

    def finalize(self, map_: Map) -> tuple[Map, Tensor]:
        """The map and the poses of all frames (L, 4, 4) float64, once all frames are done."""
        ...


class System(nn.Module):
    """A SLAM system. It says what a frame is tracked against (`predict_view`) and how it joins the map (`fuse`).

    Args:
        odometry: a name (see `odometer`), or a module called like `ProjectiveICP`, which brings its own settings.
        noise: depth noise (B, H, W), metres, of a surface and its colour: a function, or a network to be learnt.
        factor: images are shrunk by this before anything else; None chooses what comes nearest to the settings' width.
        settings: a preset's name, "default", "fast" or "accurate", or one's own; see `Settings`.
    """

    supports_relocalization = True  # what a frame is tracked against depends on where it is looked for

    def __init__(
        self,
        odometry: str | nn.Module = "gradicp",
        factor: int | None = None,
        noise: Noise = axial_noise,
        settings: str | Settings = "default",
    ) -> None:
        super().__init__()
        if factor is not None and factor < 1:
            raise ValueError(f"factor: expected at least 1, got {factor}")
        self.settings = preset(settings) if isinstance(settings, str) else settings
        self.odometry = odometer(odometry, self.settings) if isinstance(odometry, str) else odometry
        self.factor, self.noise = factor, noise
        self.register_buffer("_anchor", torch.zeros(()), persistent=False)  # follows .to(device)
        self.seconds: dict[str, float] = defaultdict(float)  # spent, by stage

    def empty(self, batch: int, device: torch.device, dtype: torch.dtype) -> Map:
        """The maps before the first frame."""
        return SurfelMap.empty(batch, device=device, dtype=dtype)

    def predict_view(self, state: State, T_wm: Tensor, camera: Camera) -> SurfaceView:
        """What a frame is tracked against: what the map shows a camera at T_wm (B, 4, 4)."""
        raise NotImplementedError

    def fuse(self, map_: Map, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> Map:
        """The map with one frame more, where ok (B,)."""
        raise NotImplementedError

    @property
    def stable_confidence(self) -> float:
        """Confidence of a surfel that weighs half of what an infinite one does, see `rendering.predict`."""
        return 1.0

    def concluded(self, state: State) -> Map:
        """The map after the last frame of a stream."""
        return state.map

    def recorder(self) -> Recorder | None:
        """What records the frames of a run to replay them, see `captured`; None where they run as they are."""
        return None

    def step(self, state: State | None, frame: RGBDFrames) -> State:
        """Localise one frame, then let it join the map. `state` is None for the first; frame () or (B,).

        Under `torch.no_grad()` the map of `state` is updated in place: go on from the state that this returns.

        Raises:
            ValueError: more leading axes, or not as many sequences or not the size of image of the frames before.
        """
        return self.advance(state, frame)[0]

    def advance(self, state: State | None, frame: RGBDFrames) -> tuple[State, LiveFrame]:
        """`step`, and the frame as it was made ready."""
        with self.stage("prepare"):
            live = self.prepare(frame)
        return self.track(state, live), live

    def track(self, state: State | None, live: LiveFrame) -> State:
        """`step` of a frame that is prepared."""
        with self.stage("prepare"):
            state = self.start(live) if state is None else state
            if live.color.shape != state.last.vertices.shape:
                now, before = (f"{b} of {w}x{h}" for b, h, w, _ in (live.color.shape, state.last.vertices.shape))
                raise ValueError(f"step: expected images as before, {before}, got {now} (at working size)")
        T_init = state.predict()
        with self.stage("predict"):
            model = self.predict_view(state, T_init, live.camera)
        with self.stage("localise"):
            tracking = self.begin(state, live, self.odometry(live, model, T_init, T_wc_last=state.T_wc))
        with self.stage("map"):
            map_ = self.fuse(state.map, live, tracking.T_wc, tracking.ok, state.frames)
        return state.advance(map_, tracking, live.surface)

    def prepare(self, frame: RGBDFrames) -> LiveFrame:
        """The frame at working resolution, with its surface."""
        frame = frame if frame.shape else frame.map(lambda value: value[None])
        if len(frame.shape) != 1:
            raise ValueError(f"step: expected a frame () or one a sequence (B,), got leading axes {tuple(frame.shape)}")
        if frame.depth.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"step: expected images in float32 or float64, got {frame.depth.dtype}")
        factor = self.factor or max(1, round(frame.size[1] / self.settings.width))
        if min(frame.size) < SMALLEST * factor:
            height, width = frame.size
            raise ValueError(f"images of {width}x{height} shrunk by {factor}: at least {SMALLEST} pixels must be left")
        return measure_surface(frame, factor, self.noise)

    def start(self, live: LiveFrame) -> State:
        """Before the first frame: an empty map, and a camera at the pose that came with the frame or at the origin."""
        surface = live.surface
        batch, device, dtype = len(surface.K), surface.K.device, surface.vertices.dtype
        still = torch.eye(4, device=device, dtype=dtype).expand(batch, 4, 4)
        T_wc = self.given(live, still)
        focal = surface.K.diagonal(dim1=-2, dim2=-1)[:, :2]
        if not bool(surface.K.isfinite().all() & (focal > 0).all()):
            raise ValueError(f"K: expected finite intrinsics with positive focal lengths, got {surface.K.tolist()}")
        if not bool(se3.is_rigid(T_wc, tol=1e-3).all()):
            raise ValueError(f"T_wc: expected a rigid motion or NaN, got {T_wc.tolist()}")
        none = torch.zeros(batch, device=device, dtype=dtype)
        zeros = (torch.zeros_like(x) for x in (surface.vertices, surface.normals, surface.weights))
        nothing = SurfaceView(*zeros, surface.K, torch.zeros_like(surface.weights))
        map_ = self.empty(batch, device, dtype)
        return State(map_, T_wc, still, 0, TrackingResult.from_pose(T_wc, none > 0), nothing, none > 0)

    @staticmethod
    def given(live: LiveFrame, otherwise: Tensor) -> Tensor:
        """The pose that came with the frame; where none did, `otherwise` (B, 4, 4)."""
        if live.T_wc is None:
            return otherwise
        return torch.where(torch.isfinite(live.T_wc).flatten(1).all(-1)[:, None, None], live.T_wc, otherwise)

    def begin(self, state: State, live: LiveFrame, tracking: TrackingResult) -> TrackingResult:
        """The first frame with readings has nothing to be lost from: it is where its own pose or the state says."""
        if self.odometry.provides_pose:  # it knows without anything to compare with
            return tracking
        readable = (live.surface.weights > 0).flatten(1).any(-1)
        return tracking.where(state.started, TrackingResult.from_pose(self.given(live, state.T_wc), readable))

    def forward(self, frames: RGBDFrames, checkpoint: bool = False) -> tuple[Map, Tensor]:
        """A batch of clips at once. frames (B, L) or (L,). Returns the maps and the poses T_wc (B, L, 4, 4).

        checkpoint: keep only every sqrt(L)-th state for the backward pass, which then takes each step once more.
        """
        if len(frames.shape) not in (1, 2) or 0 in frames.shape:
            raise ValueError(f"frames: expected leading axes (B, L) or (L,), none of them 0, got {tuple(frames.shape)}")
        clips = frames if len(frames.shape) == 2 else frames.map(lambda value: value[None])
        keeping = checkpoint and torch.is_grad_enabled()  # without gradients maps are updated in place, never twice
        length = math.isqrt(clips.shape[1]) if keeping else clips.shape[1]
        state, poses = None, []
        for i in range(0, clips.shape[1], length):
            part = (state, clips[:, i : i + length])
            state, T_wc = checkpointed(self.steps, *part, use_reentrant=False) if keeping else self.steps(*part)
            poses += T_wc
        return state.map, torch.stack(poses, dim=1)

    def steps(self, state: State | None, clips: RGBDFrames) -> tuple[State, list[Tensor]]:
        """One step for each frame of clips (B, L). Returns the last state, and the pose (B, 4, 4) after each."""
        poses = []
        for i in range(clips.shape[1]):
            state = self.step(state, clips[:, i])
            poses.append(state.T_wc)
        return state, poses

    @torch.no_grad()
    def run(
        self,
        sequence: RGBDSequence,
        on_frame: Callable[[int, State], None] | None = None,
        compile: bool | None = None,
        loops: LoopClosure | None = None,
    ) -> Result:
        """A whole sequence, streamed. Frames that cannot be read are skipped; Ctrl-C ends the run, not its result.

        on_frame(index, state) is called after every frame. compile: use the compiled twins of hot functions (see
        `compiled`, minutes at first, then kept on disk); None: where the sequence is long enough to earn it. loops:
        closes loops and corrects map and trajectory, `loops.LoopCloser()`.

        Raises:
            ValueError: no frame of the sequence could be read.
            KeyboardInterrupt: before the first frame was done.
        """
        state, poses, times, statuses, skipped, interrupted, lost = None, [], [], [], [], False, False
        searches = self.supports_relocalization and not self.odometry.provides_pose
        relocalizer = Relocalizer() if searches else None
        record = self.recorder()
        advance = self.advance if record is None else GraphedStep(self, record)
        self.seconds.clear()
        compiling_before = seconds_compiling()
        compile = len(sequence) >= WORTH_COMPILING if compile is None else compile
        try:
            with reserve_core(), compilation(compile):
                for index, frame in self.timed("read", prefetch(sequence)):
                    if isinstance(frame, FrameError):
                        log.warning("skipped: %s", frame)
                        skipped.append(str(frame))
                        continue
                    now = index / FRAME_RATE if frame.timestamps is None else float(frame.timestamps)
                    frame = frame.to(self.device)
                    in_map = not lost  # a camera that is found again is tracked from the next frame on
                    if lost:
                        with self.stage("prepare"):
                            live = self.prepare(frame)
                        with self.stage("relocalise"):
                            state = relocalized(self, relocalizer, state, live)
                    else:
                        state, live = advance(state, frame)
                    if relocalizer is not None:
                        with self.stage("localise"):  # where a run waits for the device
                            ok, started = torch.stack([state.tracking.ok[0], state.started[0]]).tolist()
                        lost = started and not ok
                        if ok:
                            relocalizer.add(live, state.T_wc, state.frames - 1)
                    if loops is not None:
                        with self.stage("loops"), defer_interrupts():
                            state = loops.process(self, state, live, in_map)
                    poses.append(state.T_wc[0].double())
                    statuses.append(state.tracking.status[0])
                    times.append(now)
                    if on_frame is not None:
                        on_frame(index, state)
        except KeyboardInterrupt:
            if not poses:
                raise
            interrupted = True
            log.warning("interrupted after %d of %d frames", len(poses), len(sequence))
        if not poses:
            raise ValueError(f"{sequence.name}: none of its {len(sequence)} frames could be read: {skipped[:1]}")
        n = min(len(poses), len(statuses), len(times))
        map_, T_wc = self.concluded(state), torch.stack(poses[:n]).cpu()
        if loops is not None:
            try:
                # with as many threads as before: what was compiled for these is not compiled for others
                with reserve_core(), compilation(compile), self.stage("loops"), defer_interrupts():
                    map_, T_wc = loops.finalize(map_)
            except KeyboardInterrupt:  # the frames are done, and so is this
                interrupted = True
        trajectory = Trajectory(torch.tensor(times[:n], dtype=torch.float64), T_wc[:n])
        stages = {name: 1e3 * seconds / n for name, seconds in self.seconds.items()}
        closed = 0 if loops is None else len(loops.loops)
        found = [] if relocalizer is None else relocalizer.relocalized
        compiled = seconds_compiling() - compiling_before
        statuses = torch.stack(statuses[:n]).cpu()
        return Result(map_, trajectory, statuses, skipped, stages, interrupted, closed, found, compiled)

    @property
    def device(self) -> torch.device:
        return self._anchor.device

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside, but for compiling, to `seconds`."""
        began, compiling_before = time.perf_counter(), seconds_compiling()
        yield
        self.seconds[name] += time.perf_counter() - began - (seconds_compiling() - compiling_before)

    def timed(self, name: str, iterator: Iterator) -> Iterator:
        """The same items, the time spent waiting for them added to `seconds`."""
        while True:
            with self.stage(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item


def relocalized(system: System, relocalizer: Relocalizer, state: State, live: LiveFrame) -> State:
    """The state after a frame of a camera that is lost: found, or lost still."""
    predict = partial(system.predict_view, state, camera=live.camera)
    found = relocalizer.relocalize(live, predict, state.T_wc, state.frames)
    still = torch.eye(4).to(state.T_wc).expand_as(state.T_wc)
    state = state.advance(state.map, state.tracking if found is None else found, live.surface)
    return replace(state, motion=still)
