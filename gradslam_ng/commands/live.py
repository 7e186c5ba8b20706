"""A run seen while it goes on: what the page in the browser shows of its stream, now and then."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.slam.stream import Stream
from gradslam_ng.slam.submaps import Submap, last_known, main_component
from gradslam_ng.viz.browser import BrowserView
from gradslam_ng.viz.scene import Cloud, Scene, outcomes_of, place_aside, sample

LIVE_POINTS = 40_000  # shown of a map that grows
PERIOD, LONGEST = 0.5, 5.0  # seconds between two updates, at least and at most
SHARE = 0.005  # of the run's time that updates may take, besides what the thread of the server takes


class LiveView:
    """Updates a page from within a run, at most twice a second, and seldom enough to take `SHARE` of its time."""

    def __init__(self, page: BrowserView) -> None:
        self.page = page
        self.due: float | None = None  # None: nothing was shown yet

    def update(self, stream: Stream, note: str) -> None:
        """After each frame; note: a line about the run."""
        if self.due is not None and time.perf_counter() < self.due:
            return
        began = time.thread_time()  # of the processor: what others take of it meanwhile is no cost of the page
        self.show(stream, note)
        spent = time.thread_time() - began
        # what is drawn for the first time takes long, once
        wait = PERIOD if self.due is None else min(max(PERIOD, spent / SHARE), LONGEST)
        self.due = time.perf_counter() + wait

    def show(self, stream: Stream, note: str) -> None:
        """What there is now."""
        self.page.show(scene_of(stream), note, image_of(stream))

    def finish(self, stream: Stream, note: str) -> None:
        """What there is at the end."""
        if stream.done:
            self.show(stream, note)


def image_of(stream: Stream) -> np.ndarray:
    """What the camera sees now, (H, W, 3) uint8, at working size: it need not be read again."""
    color = stream.tracker.submap.state_after.live.color[0]
    return (color.clamp(0, 1) * 255).byte().cpu().numpy()


def scene_of(stream: Stream, most: int = LIVE_POINTS) -> Scene:
    """What a run has so far: submaps that are connected in one world, each of the others beside."""
    submaps = [submap for submap in stream.tracker.submaps if submap.records]
    poses = [submap.poses for submap in submaps]
    motions = main_component(submaps, stream.tracker.link_search.connections(poses), stream.home)
    numbers = [submap.numbers for submap in submaps]
    count = 1 + max(int(each.max()) for each in numbers)
    T_wc = torch.full((count, 4, 4), torch.nan, dtype=torch.float64)
    statuses = torch.full((count,), int(TrackingStatus.NO_OVERLAP))
    seconds, worlds = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.int64)
    clouds: list[Cloud] = []
    up = torch.tensor([0.0, -1.0, 0.0])
    for i in sorted(range(len(submaps)), key=lambda i: (i not in motions, i)):
        T_oc, found = poses[i], submaps[i].statuses
        cloud = cloud_of(submaps[i], most, i, stream.before)
        motion = motions[i] if i in motions else place_aside(clouds, cloud, T_oc, up)
        clouds.append(cloud.transform(motion))
        ok = TrackingStatus.is_tracked(found)
        T_wc[numbers[i][ok]], worlds[numbers[i][ok]] = motion @ T_oc[ok], 0 if i in motions else 1 + i
        statuses[numbers[i]] = torch.where(ok, found, statuses[numbers[i]])
        seconds[numbers[i]] = torch.tensor([record.seconds for record in submaps[i].records], dtype=torch.float64)
    known = T_wc.isfinite().flatten(1).all(-1)
    held = last_known(known)[stream.before :]  # where one is lost, the last one that was not
    T_wc = T_wc if bool(known.any()) else torch.eye(4, dtype=torch.float64).expand(count, 4, 4)
    loops, outcomes = tuple(stream.loop_frames()), outcomes_of(statuses)[stream.before :]
    return Scene(Cloud.join(clouds), T_wc[held], outcomes, seconds[stream.before :], loops, worlds[held])


def cloud_of(submap: Submap, most: int, number: int, before: int) -> Cloud:
    """Some points of a submap, those that wait in its archive too, relative to its origin; frames are counted from
    those before the run on."""
    state = submap.state_after
    parts = [sample(state.map, most, number)]
    if submap.loops is not None and int(submap.loops.archive.count[0]):
        parts.append(sample(submap.loops.archive, most, number))
    cloud = Cloud.join(parts)
    return replace(cloud, created=submap.numbers_of(cloud.created) - before)
