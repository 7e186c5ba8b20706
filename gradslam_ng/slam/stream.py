"""Run of a SLAM system over a sequence: read, localize or relocalize, close loops, record."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.compiled import compilation, seconds_compiling
from gradslam_ng.datasets.prefetch import prefetch
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.places import Relocalizer, sift
from gradslam_ng.slam.graphed_step import GraphedStep, Recorder, cuda_graph
from gradslam_ng.slam.recovery import TRUSTED_STEP, Recovery
from gradslam_ng.slam.runtime import defer_interrupts, reserve_core
from gradslam_ng.slam.state import Map, Result, State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, RGBDFrames, Trajectory
from gradslam_ng.structures.origin import to_world

log = logging.getLogger("gradslam_ng")
FRAME_RATE = 30.0  # of streams that come without time stamps
WORTH_COMPILING = 1000  # frames


class LoopClosure(Protocol):
    """What closes loops: `loops.LoopCloser` and, for volumes, `loops.VolumeLoopCloser`. One for each run."""

    @property
    def loops(self) -> list[Any]:
        """Those closed."""
        ...

    def process(self, system: System, state: State, live: LiveFrame, in_map: bool) -> State:
        """The state after each frame, corrected if a loop was closed.

        in_map: whether the frame was fused where it was tracked; a frame found by relocalization was not.
        """
        ...

    def finalize(self, map_: Any) -> tuple[Any, Tensor]:
        """The map and the poses of all frames (L, 4, 4) float64, once all frames are done; relative, like all that is
        handed in, to the origin of the states."""
        ...


class StreamingSystem(System):
    """A system that runs over whole sequences."""

    def graph_recorder(self) -> Recorder | None:
        """What records a step to replay it, see `GraphedStep`: on a GPU, where all parts are capturable, CUDA graphs.
        None where steps run as they are."""
        capturable = self.odometry.capturable and self.mapper.capturable
        return cuda_graph if capturable and self.device.type == "cuda" else None

    @torch.no_grad()
    @mode_free
    def run(
        self,
        sequence: RGBDSequence,
        on_frame: Callable[[int, State], None] | None = None,
        compile: bool | None = None,
        loops: LoopClosure | None = None,
        *,
        relocalizer: Relocalizer | None = None,
    ) -> Result:
        """A whole sequence, streamed. Frames that cannot be read are skipped; Ctrl-C or a lack of memory ends
        the run, not its result.

        Args:
            sequence: the frames.
            on_frame: called with index and state after every frame.
            compile: use the compiled versions of kernels (see `compiled`, minutes at first, then kept on disk); None:
                where the sequence is long enough to earn it.
            loops: closes loops and corrects map and trajectory, for instance `loops.LoopCloser()`.
            relocalizer: finds a camera that was lost, by default `Relocalizer()`. One for each run; not used where a
                system does not support it or odometry knows the poses.

        Raises:
            ValueError: no frame of the sequence could be read.
            TypeError: a path.
            KeyboardInterrupt: before the first frame was done.
        """
        if isinstance(sequence, str | os.PathLike):
            raise TypeError(f"sequence: expected frames, such as datasets.load({str(sequence)!r}) gives, got a path")
        compile = len(sequence) >= WORTH_COMPILING if compile is None else compile
        stream = Stream(
            self, sequence=sequence, on_frame=on_frame, compile=compile, loops=loops, relocalizer=relocalizer
        )
        return stream.run()


class Stream:
    """One run of a system over a sequence. For the arguments see `StreamingSystem.run`."""

    def __init__(
        self,
        system: StreamingSystem,
        *,
        sequence: RGBDSequence,
        on_frame: Callable[[int, State], None] | None,
        compile: bool,
        loops: LoopClosure | None,
        relocalizer: Relocalizer | None,
    ) -> None:
        self.system, self.sequence, self.on_frame = system, sequence, on_frame
        self.compile, self.loops, self.timer = compile, loops, system.timer
        searches = system.supports_relocalization and not system.odometry.provides_pose
        self.relocalizer = (relocalizer or Relocalizer()) if searches else None
        tracks = not system.odometry.provides_pose
        self.recovery = Recovery(system, relocalizer=self.relocalizer, extract=sift) if tracks else None
        recorder = system.graph_recorder()
        self.step = system.step if recorder is None else GraphedStep(system, record=recorder)
        self.state: State | None = None  # after the last frame, None before the first
        self.is_lost, self.interrupted = False, False
        self.records: list[tuple[float, Tensor, Tensor]] = []  # of each frame: time, T_wc (4, 4) and status ()
        self.skipped: list[str] = []

    def run(self) -> Result:
        """All frames, and what they leave."""
        self.timer.seconds.clear()
        compiling_before = seconds_compiling()
        try:
            with reserve_core(), compilation(self.compile):
                for index, frame in self.timer.iterate("read", prefetch(self.sequence)):
                    self.process(index, frame)
        except KeyboardInterrupt:
            if not self.records:
                raise
            self.interrupted = True
            log.warning("interrupted after %d of %d frames", len(self.records), len(self.sequence))
        except (MemoryError, torch.OutOfMemoryError) as error:
            if not self.records:
                raise
            self.interrupted = True
            log.warning("out of memory after %d of %d frames: %s", len(self.records), len(self.sequence), error)
        if self.state is None or not self.records:
            name, count = self.sequence.name, len(self.sequence)
            raise ValueError(f"{name}: none of its {count} frames could be read: {self.skipped[:1]}")
        map_, T_wc = self.finalize(self.state)
        return self.result(map_, T_wc, seconds_compiling() - compiling_before)

    def process(self, index: int, frame: RGBDFrames | FrameError) -> None:
        """One frame, or the error in its place."""
        if isinstance(frame, FrameError):
            log.warning("skipped: %s", frame)
            self.skipped.append(str(frame))
            return
        seconds = index / FRAME_RATE if frame.timestamps is None else float(frame.timestamps)
        frame = frame.to(self.system.device)
        in_map = not self.is_lost  # a camera that is found again is tracked from the next frame on
        if self.recovery is None:
            self.state = self.step(self.state, frame)
        else:
            self.state = self.track(self.recovery, self.state, frame)
        if self.loops is not None:
            with self.timer.measure("loops"), defer_interrupts():
                self.state = self.loops.process(self.system, self.state, self.state.live, in_map)
        T_wc = to_world(self.state.T_oc[0], self.state.origin[0], torch.float64)
        self.records.append((seconds, T_wc, self.state.tracking.status[0]))
        if self.on_frame is not None:
            self.on_frame(index, self.state)

    def track(self, recovery: Recovery, state: State | None, frame: RGBDFrames) -> State:
        """The state after a frame, which is looked for in more than one way where a step does not find it."""
        if self.is_lost and state is not None:
            with self.timer.measure("relocalize"):
                after = recovery.relocalize(state, frame)
        else:
            after = self.step(state, frame)
        if state is None:
            after = replace(after, trusted_step=after.trusted_step.new_tensor(TRUSTED_STEP))
        with self.timer.measure("localize"):  # where a run waits for the device
            ok, initialized = torch.stack([after.tracking.ok[0], after.initialized[0]]).tolist()
        if initialized and not ok and not self.is_lost:
            with self.timer.measure("relocalize"):
                after = recovery.recover(after, frame)
                ok = bool(after.tracking.ok[0])
        self.is_lost = self.relocalizer is not None and initialized and not ok
        if ok:
            recovery.add_tracked(after, frame)
        return after

    def finalize(self, state: State) -> tuple[Map, Tensor]:
        """The map after the last frame and all poses (L, 4, 4), corrected by the loops closed."""
        map_, T_wc = self.system.mapper.finalize(state.map), torch.stack([T for _, T, _ in self.records]).cpu()
        if self.loops is not None:
            try:
                # the number of threads as during the run: kernels are compiled for one number, and again for another
                with reserve_core(), compilation(self.compile), self.timer.measure("loops"), defer_interrupts():
                    map_, T_oc = self.loops.finalize(map_)
                    T_wc = to_world(T_oc.cpu(), state.origin[0].cpu(), torch.float64)
            except KeyboardInterrupt:  # the frames are done, and so is this
                self.interrupted = True
        return replace(map_, origin=state.origin), T_wc[: len(self.records)]

    def result(self, map_: Map, T_wc: Tensor, seconds: float) -> Result:
        """What the run leaves, from map, poses (L, 4, 4), the records of all frames and seconds spent compiling."""
        times, _, statuses = zip(*self.records, strict=True)
        return Result(
            map_,
            Trajectory(torch.tensor(times, dtype=torch.float64, device="cpu"), T_wc),
            torch.stack(statuses).cpu(),
            self.skipped,
            {name: 1e3 * spent / len(times) for name, spent in self.timer.seconds.items()},
            self.interrupted,
            0 if self.loops is None else len(self.loops.loops),
            [] if self.relocalizer is None else self.relocalizer.relocalized,
            seconds,
        )
