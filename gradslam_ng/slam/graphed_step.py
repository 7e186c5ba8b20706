"""CUDA graph of a SLAM step: recorded once, then replayed for each frame without Python and without waiting.

A frame is some thirteen thousand small operations, which a GPU works off faster than the host can ask for them.
Recorded, they are launched as one. What that asks of a step is kept here: images and state lie in buffers that never
move; maps are worked on whole (`static_shapes`), with room that is known to do; what differs from frame to frame is in
tensors. Only what is done now and then (pruning, growing) stays outside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import static_shapes
from gradslam_ng.compute.tree import tree_leaves, tree_map, tree_unflatten
from gradslam_ng.slam.state import State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import RGBDFrames

T = TypeVar("T")
log = logging.getLogger("gradslam_ng")
WARM_UP = 3  # runs before a capture, in which libraries set themselves up: as many as PyTorch's documentation has
SPARE_FRAMES = 4  # of nothing but new surfels that a map has room for when a graph is recorded: warming up takes some

Replay = Callable[[], tuple[Tensor, ...]]
Recorder = Callable[[Callable[..., tuple[Tensor, ...]], list[Tensor]], Replay]


def cuda_graph(function: Callable[..., tuple[Tensor, ...]], buffers: list[Tensor]) -> Replay:
    """function(*buffers), which may also write to them, as a CUDA graph.

    It is run a few times beforehand: what the buffers held is then gone. Returns what does the same as the function to
    whatever they hold at the time, and returns the same tensors each time, overwritten.

    Raises:
        RuntimeError: something in the function waits for the device, or cannot be captured for another reason.
    """
    with torch.cuda.device(buffers[0].device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*buffers)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # other threads may go on: loops are detected beside tracking
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = function(*buffers)

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return outputs

    return replay


@dataclass(eq=False)
class Recording:
    """A recorded step and the buffers that it works on."""

    replay: Replay
    frame: RGBDFrames  # to localize and fuse
    state: State  # before it, and after it again


class GraphedStep:
    """`System.step` without gradients, recorded once and replayed for each frame.

    What it returns stays as it is, but for the map, which is updated in place. Settings are those of the time of
    recording. A frame that cannot be recorded is said so once, and it and those after it run as they are.

    Args:
        system: whose step it is; its parts are `capturable`, its map one of surfels.
        record: what records and replays a function of buffers, see `cuda_graph`.
    """

    def __init__(self, system: System, *, record: Recorder = cuda_graph) -> None:
        self.system, self.record_graph = system, record
        self.works = True
        self.recording: Recording | None = None
        self.returned: State | None = None  # the state that the buffers hold, as it was handed out
        self.spare = 0  # slots known to be free, but for the one that `SurfelMap.scatter` wants

    @torch.no_grad()
    def __call__(self, state: State | None, frame: RGBDFrames) -> State:
        """The state after one frame more; see `System.step`."""
        if state is None or not self.works:
            return self.system.step(state, frame)
        state.check_current()
        recording = self.load(state, replace(frame, timestamps=None))
        if recording is None:
            return self.system.step(state, frame)
        with self.system.timer.measure("replay"):
            recording.replay()
            after = recording.state
            self.spare -= after.live.depth[0].numel()
            copy_tensors(after.map, self.system.maintain(after.map, after.tracking.ok, state.frames))
            self.returned = clone_but_map(replace(after, frames=state.frames + 1))
            state.supersede()
        return self.returned

    def load(self, state: State, frame: RGBDFrames) -> Recording | None:
        """State and frame in the buffers of a recording that fits them; None if there can be none."""
        try:
            recording = self.find_recording(state, frame)
        except Exception as error:  # of many kinds: the frame's own fault, if it has one, is raised by the step itself
            self.works, self.recording, self.returned = False, None, None
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.warning("frames run one operation at a time, since they cannot be captured: %s", reason)
            return None
        copy_tensors(recording.frame, frame)
        return recording

    def find_recording(self, state: State, frame: RGBDFrames) -> Recording:
        """The recording, made anew where it does not fit, with the state in its buffers."""
        pixels, recording = state.last.weights[0].numel(), self.recording
        if recording is not None and signature(frame) != signature(recording.frame):
            recording = None
        held = recording is not None and state is self.returned  # nothing has been done to it since
        if recording is not None and held and self.spare >= pixels:
            return recording
        count = state.surfels.num_slots  # synchronizes host and device, here and only here
        if recording is None or recording.state.surfels.capacity - 1 - count < pixels:
            recording = self.record(state, frame, count + SPARE_FRAMES * pixels + 1)
            held = False
        self.spare = recording.state.surfels.capacity - 1 - count
        if not held:
            load_state(recording.state, state)
        return recording

    def record(self, state: State, frame: RGBDFrames, capacity: int) -> Recording:
        """A recording for such a state and frame, with room for that many surfels."""
        self.recording = None  # frees its memory
        live = self.system.preprocess(frame)  # as in the states to come
        buffers = clone_tensors(replace(state, map=state.surfels.reserve(capacity), live=live))
        frame = clone_tensors(frame)

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            leaves = iter(tensors)
            before = tree_unflatten(buffers, leaves)
            with static_shapes():
                after = self.system.step(before, tree_unflatten(frame, leaves))
            copy_tensors(before, after)
            return (after.T_wc,)

        replay = self.record_graph(step, list(chain(tree_leaves(buffers), tree_leaves(frame))))
        self.recording = Recording(replay, frame, buffers)
        return self.recording


def clone_tensors(value: T) -> T:
    """The value in tensors of its own, laid out row by row."""
    return tree_map(lambda x: x.clone(memory_format=torch.contiguous_format), value)


def load_state(buffers: State, state: State) -> None:
    """A state into buffers. Its map may be shorter or longer than theirs: slots beyond its count are empty."""
    slots = min(buffers.surfels.capacity, state.surfels.capacity)
    # a step does not read the frame before
    copy_tensors(*(replace(x, map=x.surfels.prefix(slots), live=buffers.live) for x in (buffers, state)))


def copy_tensors(to: object, value: object) -> None:
    """The tensors of a value into those of another like it, but for those that it was updated in."""
    for mine, theirs in zip(tree_leaves(to), tree_leaves(value), strict=True):
        if mine is not theirs:
            mine.copy_(theirs)


def clone_but_map(state: State) -> State:
    """The state in tensors of its own, but for its map."""
    others = {x.name: getattr(state, x.name) for x in fields(state) if x.init and x.name != "map"}
    return State(state.map, **tree_map(torch.clone, others))


def signature(frame: RGBDFrames) -> list[tuple | None]:
    """What of a frame a graph is made for: which parts there are, their shapes and types."""
    values = (getattr(frame, part.name) for part in fields(frame))
    return [None if value is None else (value.shape, value.dtype) for value in values]
