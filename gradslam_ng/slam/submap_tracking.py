"""Frames tracked in submaps: the one at hand, another in which a lost camera is found again, or a new one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from gradslam_ng.places import FeatureFrame, Relocalizer, SearchTurns, sift
from gradslam_ng.slam.link_search import LinkSearch
from gradslam_ng.slam.loop_closure import LoopClosure
from gradslam_ng.slam.recovery import TRUSTED_STEP, Recovery
from gradslam_ng.slam.runtime import defer_interrupts
from gradslam_ng.slam.state import State
from gradslam_ng.slam.submaps import Record, Submap, main_component
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, RGBDFrames, SurfelMap

log = logging.getLogger("gradslam_ng")
LOST_SECONDS = 1.0  # after which a new submap begins
MAX_WAITING = 60  # frames that are kept until it begins, however close their time stamps, if they have any order at all
Step = Callable[[State | None, RGBDFrames], State]


class TimedFrame(NamedTuple):
    """A frame as it was read."""

    number: int  # among those that could be read
    seconds: float
    frame: RGBDFrames


class SubmapTracker:
    """Tracks the frames of a run in its submaps.

    Args:
        system: whose frames they are.
        new_step: makes the system's step, which may be recorded to be replayed.
        relocalizer: finds a camera that was lost, by default `Relocalizer()`; not used where a system does not support
            it or odometry knows the poses.
        loops: closes the loops of the first submap.
    """

    def __init__(
        self,
        system: System,
        *,
        new_step: Callable[[], Step],
        relocalizer: Relocalizer | None,
        loops: LoopClosure | None,
    ) -> None:
        self.system, self.new_step, self.extract = system, new_step, sift
        tracks = not system.odometry.provides_pose
        relocalizer = (relocalizer or Relocalizer()) if system.supports_relocalization and tracks else None
        recovery = Recovery(system, relocalizer=relocalizer, extract=self.extract) if tracks else None
        self.submaps, self.current = [Submap(recovery, loops)], 0
        self.step = new_step()
        self.link_search = LinkSearch(system)
        self.waiting: list[TimedFrame] = []  # since the camera was lost
        self.search_turns = SearchTurns()

    @property
    def submap(self) -> Submap:
        """The one that frames are tracked in."""
        return self.submaps[self.current]

    @property
    def can_be_found(self) -> bool:
        """Whether the camera is looked for where it is lost, or needs no looking for: poses come with the frames."""
        recovery = self.submap.recovery
        return recovery is None or recovery.relocalizer is not None

    @property
    def closed(self) -> int:
        """Loops closed, those before this run included."""
        return sum(len(submap.loops.loops) for submap in self.submaps if submap.loops is not None)

    def go_on_in(self, number: int) -> None:
        """The submap of that number is the one at hand."""
        if number != self.current:
            self.current, self.step = number, self.new_step()

    def saved(self) -> dict[str, Any]:
        """All that it carries from frame to frame, for `restore`."""
        return {
            "submaps": [submap.saved() for submap in self.submaps],
            "links": self.link_search.links,
            "waiting": self.waiting,
            "current": self.current,
            "search_turns": self.search_turns,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from where another one was."""
        self.submaps += [self.new_submap() for _ in saved["submaps"][1:]]
        for submap, values in zip(self.submaps, saved["submaps"], strict=True):
            submap.restore(values, self.system)
        self.link_search.links, self.waiting, self.current = saved["links"], saved["waiting"], saved["current"]
        self.search_turns = saved["search_turns"]
        self.step = self.new_step()

    def leave(self, home: int | None) -> int:
        """The camera is no longer here, but somewhere: it is looked for in all submaps.

        Returns the number of the one at hand, whose world is that of all that are joined to the submap `home`, or of
        the largest that are joined.
        """
        connections = self.link_search.connections([submap.poses for submap in self.submaps])
        self.current = next(iter(main_component(self.submaps, connections, home)))
        self.step, self.search_turns = self.new_step(), SearchTurns()
        for submap in self.submaps:
            submap.leave()
        return self.current

    def new_submap(self) -> Submap:
        """One without a frame, of the same settings as those there are."""
        recovery, loops = self.submap.recovery, self.submap.loops
        if recovery is not None:
            relocalizer = None if recovery.relocalizer is None else recovery.relocalizer.fresh()
            recovery = Recovery(self.system, relocalizer=relocalizer, extract=self.extract)
        return Submap(recovery, None if loops is None else loops.fresh())

    def track(self, timed: TimedFrame) -> None:
        """One frame in the submap at hand, or in another one where the camera is found."""
        in_map = not self.submap.is_lost  # a camera that is found again is tracked from the next frame on
        state = self.localize(timed)
        submap = self.submap
        if submap.loops is not None:
            closed = len(submap.loops.loops)
            with self.system.timer.measure("loops"), defer_interrupts():
                state = submap.loops.process(self.system, state, state.live, in_map)
            if submap.loops.moves_map and len(submap.loops.loops) > closed:
                submap.follow_loops()
        submap.state = state
        status, covariance = state.tracking.status[0], state.tracking.covariance[0]
        submap.records.append(Record(timed.number, timed.seconds, state.T_oc[0].double(), status, covariance))
        if not submap.is_lost:
            self.waiting.clear()
            self.search_turns.found()
            return
        if self.system.map_type is not SurfelMap:
            return
        self.waiting.append(timed)
        if timed.seconds - self.waiting[0].seconds > LOST_SECONDS or len(self.waiting) >= MAX_WAITING:
            self.begin_submap()

    def localize(self, timed: TimedFrame) -> State:
        """The state after a frame, which is looked for in more than one way where a step does not find it."""
        submap, state, frame = self.submap, self.submap.state, timed.frame
        if submap.recovery is None:
            return self.step(state, frame)
        if submap.is_lost and state is not None:
            with self.system.timer.measure("relocalize"):
                return self.relocalize(state, timed)
        after = self.step(state, frame)
        if state is None:
            after = replace(after, trusted_step=after.trusted_step.new_tensor(TRUSTED_STEP))
        with self.system.timer.measure("localize"):  # where a run waits for the device
            ok, initialized = torch.stack([after.tracking.ok[0], after.initialized[0]]).tolist()
        if initialized and not ok:
            with self.system.timer.measure("relocalize"):
                after = submap.recovery.recover(after, frame)
                ok = bool(after.tracking.ok[0])
        submap.is_lost = self.system.supports_relocalization and initialized and not ok
        if ok:
            submap.recovery.add_tracked(after, frame)
            self.link_search.search(self.submaps, self.current, after)
        return after

    def relocalize(self, state: State, timed: TimedFrame) -> State:
        """The state after a frame of a camera that is lost, which is fused nowhere: lost still, or found in the submap
        at hand or in another one, which is then that at hand."""
        live = self.system.preprocess(timed.frame)
        if bool((live.surface.weights > 0).any()):
            image = FeatureFrame(timed.frame, max_depth=self.system.max_depth, extract=self.extract)
            for number, near in self.places(live).items():
                submap = self.submaps[number]
                assert submap.recovery is not None
                submap.recall(near)
                tracking = submap.recovery.relocalize(submap.searched, live, image, timed.number, near)
                if tracking is not None:
                    self.go_on_in(number)
                    submap.is_lost = False
                    after = submap.state_after.advance_without_fusion(tracking, live)
                    after = after if submap.loops is None else submap.loops.reactivate(after)
                    submap.recovery.add_tracked(after, timed.frame)
                    return after
        return state.advance_without_fusion(state.tracking, live)

    def places(self, live: LiveFrame) -> dict[int, list[int]]:
        """By submap, the keyframes near which a lost camera is looked for in a frame: however many places there are,
        the one that is most alike, and of the next ones one a frame; none in a frame whose turn it is not."""
        relocalizers = {
            number: submap.recovery.relocalizer
            for number, submap in enumerate(self.submaps)
            if submap.state is not None and submap.recovery is not None and submap.recovery.relocalizer is not None
        }
        near: dict[int, list[int]] = {}
        if relocalizers:
            some = next(iter(relocalizers.values()))  # all are of the same settings
            descriptors = some.describe(live)
            if not self.search_turns.is_due(descriptors) and live.T_prior is None:
                return {}
            found = [
                (value, number, k)
                for number, relocalizer in relocalizers.items()
                for k, value in enumerate(relocalizer.keyframes.similarities(descriptors).tolist())
            ]
            for _, number, k in self.search_turns.choose(sorted(found, reverse=True)[: some.num_candidates]):
                near.setdefault(number, []).append(k)
        if live.T_prior is not None:
            near = {self.current: [], **near}  # where another source says that the camera has gone
        return near or {self.current: []}  # the last pose known is left

    def begin_submap(self) -> None:
        """The frames since the camera was lost become the first of a new submap, from the first with depth on."""
        waiting, self.waiting = self.waiting, []
        start = next((i for i, timed in enumerate(waiting) if self.has_depth(timed.frame)), len(waiting))
        if start == len(waiting) or self.submap.recovery is None or not self.can_be_found:
            return
        log.info("lost for %d frames: a new submap begins", len(waiting))
        self.submaps.append(self.new_submap())
        self.go_on_in(len(self.submaps) - 1)
        for timed in waiting[start:]:  # where its world lies in that of the others is not known
            self.track(timed._replace(frame=replace(timed.frame, T_wc=None)))
        del self.waiting[:-1]  # lost again: the next one begins in a second, not with each frame

    def has_depth(self, frame: RGBDFrames) -> bool:
        """Whether a map can begin with a frame: a tenth of its pixels at least have depth."""
        return bool(((frame.depth > 0) & (frame.depth <= self.system.max_depth)).double().mean() > 0.1)
