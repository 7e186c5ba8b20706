"""Run of a SLAM system over a sequence: read, track, save, and what it leaves."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.compiled import compilation, seconds_compiling
from gradslam_ng.datasets.prefetch import IndexedFrame, prefetch
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.io.tensor_tree import load_tree
from gradslam_ng.places import Relocalizer
from gradslam_ng.slam.graphed_step import GraphedStep, Recorder, cuda_graph
from gradslam_ng.slam.loop_closure import LoopClosure
from gradslam_ng.slam.runtime import defer_interrupts, keep_memory, share_cores
from gradslam_ng.slam.saved_run import SAVED_TYPES, StateWriter, check_run, describe_run
from gradslam_ng.slam.slow_frames import SlowFrames
from gradslam_ng.slam.state import Map, Result, State
from gradslam_ng.slam.submap_tracking import Step, SubmapTracker, TimedFrame
from gradslam_ng.slam.submaps import Submap, join, stored_parts
from gradslam_ng.slam.system import System
from gradslam_ng.structures import RGBDFrames

log = logging.getLogger("gradslam_ng")
FRAME_RATE = 30.0  # of streams that come without time stamps
# Of a `Stream`, from frame to frame
CARRIED = ("frames", "following", "skipped", "before", "closed_before", "home")


class StreamingSystem(System):
    """A system that runs over whole sequences."""

    def graph_recorder(self) -> Recorder | None:
        """What records a step to replay it, see `GraphedStep`: on a GPU, where all parts are capturable, CUDA graphs.
        None where steps run as they are."""
        capturable = self.odometry.capturable and self.mapper.capturable
        return cuda_graph if capturable and self.device.type == "cuda" else None

    def run(
        self,
        sequence: RGBDSequence,
        on_frame: Callable[[int, State], None] | None = None,
        compile: bool = True,
        loops: LoopClosure | None = None,
        *,
        relocalizer: Relocalizer | None = None,
        frames: Iterable[IndexedFrame] | None = None,
        state_writer: StateWriter | None = None,
        resume: Path | None = None,
        earlier: Path | None = None,
    ) -> Result:
        """A whole sequence, streamed. Frames that cannot be read are skipped; Ctrl-C or a lack of memory ends
        the run, not its result.

        Args:
            sequence: the frames.
            on_frame: called with index and state after every frame.
            compile: use compiled versions of functions, see `compilation`: those on disk from the first frame on,
                others once another process has compiled them.
            loops: closes loops and corrects map and trajectory, for instance `loops.LoopCloser()`.
            relocalizer: finds a camera that was lost, by default `Relocalizer()`. One for each run; not used where a
                system does not support it or odometry knows the poses.
            frames: number and frame, as they come, in place of reading all of the sequence; see `cameras.LatestFrames`.
            state_writer: writes the state of the run to a file now and then, and after the last frame.
            resume: such a file, of a run of the same system over the same sequence, which goes on from there.
            earlier: such a file, of an earlier run whose map this one goes on with: the camera is looked for in it, and
                poses are in its world. Loops are closed where they were in that run.

        Raises:
            ValueError: no frame of the sequence could be read; resume, earlier: no state of such a run.
            TypeError: a path.
            KeyboardInterrupt: before the first frame was done.
        """
        if isinstance(sequence, str | os.PathLike):
            raise TypeError(f"sequence: expected frames, such as datasets.load({str(sequence)!r}) gives, got a path")
        stream = Stream(
            self,
            sequence=sequence,
            on_frame=on_frame,
            compile=compile,
            loops=loops,
            relocalizer=relocalizer,
            frames=frames,
            state_writer=state_writer,
        )
        if resume is not None:
            stream.restore(resume)
        elif earlier is not None:
            stream.begin_in(earlier)
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
        relocalizer: Relocalizer | None = None,
        frames: Iterable[IndexedFrame] | None = None,
        state_writer: StateWriter | None = None,
    ) -> None:
        self.system, self.sequence, self.on_frame, self.incoming = system, sequence, on_frame, frames
        self.state_writer = state_writer
        self.compile, self.timer = compile, system.timer
        self.about = {} if state_writer is None else describe_run(system, sequence, loops)
        self.tracker = SubmapTracker(system, new_step=self.new_step, relocalizer=relocalizer, loops=loops)
        self.interrupted = False
        self.is_whole = True  # no frame is half done
        self.frames = 0  # that could be read, those before this run included
        self.before = 0  # of these, frames of the run in whose map this one goes on
        self.home: int | None = None  # the submap in whose world the results are; None: the largest component's first
        self.closed_before = 0  # loops, in those frames
        self.following = 0  # of the sequence, the frame that comes next
        self.seconds_before: dict[str, float] = {}  # by stage, of the run that this one goes on from
        self.skipped: list[str] = []
        self.slow_frames = SlowFrames()

    def new_step(self) -> Step:
        """The system's step, recorded where that is possible. One for each time that a submap is at hand: what is
        recorded updates the map of the state that it returned last, which must stay as it is while another goes on."""
        recorder = self.system.graph_recorder()
        return self.system.step if recorder is None else GraphedStep(self.system, record=recorder)

    @property
    def done(self) -> int:
        """Frames of this run that could be read."""
        return self.frames - self.before

    @torch.no_grad()
    @mode_free
    def run(self) -> Result:
        """All frames, and what they leave."""
        self.timer.seconds.clear()
        self.timer.seconds.update(self.seconds_before)
        # sums of another number of threads round otherwise: runs of plain functions are the same bit for bit
        with keep_memory(), share_cores(adapt=self.compile) as decide_threads, compilation(self.compile):
            return self.run_compiled(seconds_compiling(), decide_threads)

    def run_compiled(self, compiling_before: float, decide_threads: Callable[[], None]) -> Result:
        """All frames, and what they leave; compiling took so many seconds before. `decide_threads` is called between
        frames, see `share_cores`."""
        try:
            for index, frame in self.timer.iterate("read", self.frames_left()):
                self.is_whole = False
                watched = nullcontext() if isinstance(frame, FrameError) else self.slow_frames.watch(index)
                with defer_interrupts(), watched:
                    self.process(index, frame)
                    self.following, self.is_whole = index + 1, True
                self.save_if_due()
                decide_threads()
        except KeyboardInterrupt:
            if not self.done:
                raise
            self.interrupted = True
            log.warning("interrupted after %d of %d frames", self.done, len(self.sequence))
        except (MemoryError, torch.OutOfMemoryError) as error:
            if not self.done:
                raise
            self.interrupted = True
            log.warning("out of memory after %d of %d frames: %s", self.done, len(self.sequence), error)
        if not self.done:
            name, count = self.sequence.name, len(self.sequence)
            raise ValueError(f"{name}: none of its {count} frames could be read: {self.skipped[:1]}")
        self.save()
        return self.result(seconds_compiling() - compiling_before)

    def frames_left(self) -> Iterator[IndexedFrame]:
        """Those that come, or those of the sequence from the next one on."""
        if self.incoming is not None:
            yield from self.incoming
            return
        first = self.following
        for index, frame in prefetch(self.sequence[first:] if first else self.sequence):
            yield first + index, frame

    def save_if_due(self) -> None:
        """Write the state where it is time to, if frames wait for it."""
        if self.state_writer is not None and self.incoming is None and self.following < len(self.sequence):
            with self.timer.measure("save"), defer_interrupts():
                self.state_writer.after_frame(self.saved, self.about)

    def save(self) -> None:
        """Write the state after the last frame."""
        if self.state_writer is None or not self.is_whole:
            return
        try:
            with self.timer.measure("save"), defer_interrupts():
                self.state_writer.save(self.saved, self.about)
        except KeyboardInterrupt:  # the frames are done, and so is this
            self.interrupted = True

    def saved(self) -> dict[str, Any]:
        """All that the run carries from frame to frame, for `restore`."""
        numbers = {name: getattr(self, name) for name in CARRIED}
        return {"tracker": self.tracker.saved(), "seconds": dict(self.timer.seconds), "numbers": numbers}

    def restore(self, path: Path) -> None:
        """Go on from the state in a file.

        Raises:
            FileNotFoundError, ValueError: no such file, or no state of a run of this system over this sequence.
        """
        saved = self.load(path, describe_run(self.system, self.sequence, self.tracker.submap.loops))
        self.seconds_before = saved["seconds"]
        for name in CARRIED:
            setattr(self, name, saved["numbers"][name])

    def begin_in(self, path: Path) -> None:
        """Begin with the map of the run whose state is in a file, its camera lost: it is looked for there.

        Raises:
            FileNotFoundError, ValueError: no such file, no state of a run of such a system, or a system that cannot
                look for a camera.
        """
        if not self.tracker.can_be_found:
            raise ValueError(f"earlier: expected a system that finds a lost camera, got {type(self.system).__name__}")
        expected = describe_run(self.system, self.sequence, self.tracker.submap.loops)
        saved = self.load(path, {name: expected[name] for name in ("format", "version", "system", "loops")})
        self.before = self.frames = saved["numbers"]["frames"]
        self.closed_before = self.tracker.closed
        self.home = self.tracker.leave(saved["numbers"]["home"])

    def load(self, path: Path, expected: dict[str, Any]) -> dict[str, Any]:
        """The tree of the state in a file, of a run that is as expected, from which the tracker goes on."""
        loops = self.tracker.submap.loops
        check_run(path, expected)
        types = (*SAVED_TYPES, TimedFrame, *(() if loops is None else loops.saved_types))
        saved = load_tree(path, types, self.system.device)
        self.tracker.restore(saved["tracker"])
        return saved

    def process(self, index: int, frame: RGBDFrames | FrameError) -> None:
        """One frame, or the error in its place."""
        if isinstance(frame, FrameError):
            log.warning("skipped: %s", frame)
            self.skipped.append(str(frame))
            return
        seconds = index / FRAME_RATE if frame.timestamps is None else float(frame.timestamps)
        self.tracker.track(TimedFrame(self.frames, seconds, frame.to(self.system.device)))
        self.frames += 1
        if self.on_frame is not None and self.tracker.submap.state is not None:
            self.on_frame(index, self.tracker.submap.state)

    def result(self, seconds: float) -> Result:
        """What the run leaves; seconds: spent compiling."""
        tracker = self.tracker
        submaps = [submap for submap in tracker.submaps if submap.records]
        parts = [self.finalize(submap) for submap in submaps]
        connections = tracker.link_search.connections([T_oc for _, T_oc in parts])
        whole = join(submaps, parts, connections, self.home, self.before)
        return Result(
            whole.map,
            whole.trajectory,
            whole.statuses,
            whole.covariances,
            self.skipped,
            {name: 1e3 * spent / self.done for name, spent in self.timer.seconds.items()},
            self.interrupted,
            tracker.closed - self.closed_before,
            sorted(i for submap in submaps for number in submap.relocalized if (i := number - self.before) >= 0),
            seconds,
            whole.submaps,
            whole.others,
            self.loop_frames(),
            partial(stored_parts, submaps, whole.motions, whole.map.origin, self.before),
        )

    def loop_frames(self) -> list[tuple[int, int]]:
        """The two frames of each loop closed, among those of this run that could be read."""
        found = []
        for submap in self.tracker.submaps:
            pairs = [] if submap.loops is None else submap.loops.loop_frames()
            numbers = submap.numbers - self.before
            found += [(a, b) for i, j in pairs if min(a := int(numbers[i]), b := int(numbers[j])) >= 0]
        return found

    def finalize(self, submap: Submap) -> tuple[Map, Tensor]:
        """The map after the last frame and the poses T_oc (L, 4, 4) of its frames, corrected by the loops closed."""
        state = submap.state_after
        map_, T_oc = self.system.mapper.finalize(state.map), torch.stack([x.T_oc for x in submap.records]).cpu()
        if submap.loops is not None:
            try:
                with self.timer.measure("loops"), defer_interrupts():
                    map_, T_oc = submap.loops.finalize(map_)
            except KeyboardInterrupt:  # the frames are done, and so is this
                self.interrupted = True
        return replace(submap.renumber(map_, self.before), origin=state.origin), T_oc.cpu()[: len(submap.records)]
