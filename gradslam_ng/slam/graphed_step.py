"""A frame of PointFusion as a CUDA graph: recorded once, then replayed without Python and without waiting.

A frame is some thirteen thousand small operations, which a GPU works off faster than the host can ask for them.
Recorded, they are launched as one. What that asks of a frame is kept here: its images and the state lie in buffers that
never move; maps are worked on whole (`static_shapes`), with room that is known to do; what differs from frame to frame
is in tensors, also the frame's number. Only what is done now and then (removing surfels, growing) stays outside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import static_shapes
from gradslam_ng.compute.tree import tree_leaves, tree_unflatten
from gradslam_ng.slam.state import State
from gradslam_ng.structures import LiveFrame, RGBDFrames

if TYPE_CHECKING:
    from gradslam_ng.slam.systems import PointFusion

log = logging.getLogger("gradslam_ng")
WARM_UP = 3  # runs before a capture, in which libraries set themselves up: as many as PyTorch's documentation has
ROOM = 4  # frames of nothing but new surfels that a map has room for when a graph is recorded: warming up takes some

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
        # other threads may go on: loops are looked for beside tracking
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = function(*buffers)

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return outputs

    return replay


class GraphedStep:
    """`System.advance` of PointFusion without gradients, recorded once and replayed for each frame.

    What it returns stays as it is, but for the map, which is updated in place. Settings are those of the time of
    recording. A frame that cannot be recorded is said so once, and it and those after it run as they are.

    Args:
        system: whose frames they are.
        record: what records and replays a function of buffers, see `cuda_graph`.
    """

    def __init__(self, system: PointFusion, record: Recorder = cuda_graph) -> None:
        self.system, self.record = system, record
        self.works = True
        self.replay: Replay | None = None
        self.frame: RGBDFrames | None = None  # buffers; the frame that is worked on,
        self.state: State | None = None  # the state before it, and after it again,
        self.live: LiveFrame | None = None  # the frame made ready, which the graph writes anew
        self.returned: State | None = None  # the state in the buffers, as it was handed out
        self.room = 0  # slots known to be free, but for the one that `SurfelMap.scatter` wants

    @torch.no_grad()
    def __call__(self, state: State | None, frame: RGBDFrames) -> tuple[State, LiveFrame]:
        """The state after one frame more, and the frame made ready; see `System.step`."""
        if state is not None and self.works:
            frame = replace(frame, timestamps=None)
            try:
                self.load(state, frame)
            except Exception as error:  # of many kinds: the frame's own fault, if it has one, is raised below
                self.works, self.replay, self.frame, self.state, self.live = False, None, None, None, None
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                log.warning("frames run one operation at a time, since they cannot be captured: %s", reason)
        if state is None or not self.works:
            return self.system.advance(state, frame)
        with self.system.stage("replay"):
            outputs = self.replay()
            self.room -= self.live.depth[0].numel()
            live = tree_unflatten(self.live, (value.clone() for value in outputs))
            self.prune(state.frames)
            after = replace(self.state, map=None, frames=state.frames + 1)
            after = tree_unflatten(after, (value.clone() for value in tree_leaves(after)))
            self.returned = replace(after, map=self.state.map)
        return self.returned, live

    def load(self, state: State, frame: RGBDFrames) -> None:
        """State and frame into the buffers, which are made anew, and the graph with them, where they do not fit."""
        pixels = state.last.weights[0].numel()
        count = None
        if state is not self.returned or self.room < pixels:
            count = state.map.num_slots  # the host waits for the device here, and only here
            self.room = 0 if self.state is None else self.state.map.capacity - 1 - count
        if self.replay is None or self.room < pixels or form(frame) != form(self.frame):
            count = state.map.num_slots if count is None else count
            self.make(state, frame, count + ROOM * pixels + 1)
            self.room = self.state.map.capacity - 1 - count
            self.fill(state)
        elif state is not self.returned:
            self.fill(state)
        copy(self.frame, frame)

    def make(self, state: State, frame: RGBDFrames, capacity: int) -> None:
        """Buffers for such a state and frame, with room for that many surfels, and a graph that works on them."""
        self.replay = self.live = None  # their memory may be had again
        own = numbered(replace(state, map=state.map.reserve(capacity)))
        self.state, self.frame = (
            tree_unflatten(value, (x.clone(memory_format=torch.contiguous_format) for x in tree_leaves(value)))
            for value in (own, frame)
        )

        def step(*buffers: Tensor) -> tuple[Tensor, ...]:
            parts = iter(buffers)
            before, frame = tree_unflatten(self.state, parts), tree_unflatten(self.frame, parts)
            with static_shapes():
                self.live = self.system.prepare(frame)
                after = self.system.track(before, self.live)
            copy(before, after)
            return tuple(tree_leaves(self.live))

        self.replay = self.record(step, list(chain(tree_leaves(self.state), tree_leaves(self.frame))))

    def fill(self, state: State) -> None:
        """A state into the buffers. Its map may be shorter or longer than theirs: slots beyond its count are empty."""
        slots = min(self.state.map.capacity, state.map.capacity)
        copy(*(replace(x, map=x.map.prefix(slots)) for x in (self.state, numbered(state))))

    def prune(self, number: int) -> None:
        """What `PointFuser` does every so many frames, after the frame of that number."""
        mapper, map_ = self.system.mapper, self.state.map
        if number % mapper.prune_every == 0:
            copy(map_, mapper.prune(map_, self.state.tracking.ok, number))


def numbered(state: State) -> State:
    """The state with its number of frames as a tensor beside the others."""
    return replace(state, frames=torch.full((), state.frames, device=state.T_wc.device))


def copy(to: object, value: object) -> None:
    """The tensors of a value into those of another like it, but for those that it was updated in."""
    for mine, theirs in zip(tree_leaves(to), tree_leaves(value), strict=True):
        if mine is not theirs:
            mine.copy_(theirs)


def form(frame: RGBDFrames) -> list[tuple | None]:
    """What of a frame a graph is made for: which parts there are, their shapes and types."""
    values = (getattr(frame, part.name) for part in fields(frame))
    return [None if value is None else (value.shape, value.dtype) for value in values]
