"""Submaps of runs that are done, read from the states that the runs have saved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.graph.edges import Edge
from gradslam_ng.io.tensor_tree import load_tree
from gradslam_ng.loops.loop_closure import LoopCloser, surfels_of
from gradslam_ng.loops.pose_graph import odometry_weight
from gradslam_ng.loops.submaps import transform
from gradslam_ng.places import Relocalizer, sift
from gradslam_ng.places.keyframes import Keyframes, last_at_or_before
from gradslam_ng.slam.link_search import Link
from gradslam_ng.slam.recovery import Recovery
from gradslam_ng.slam.saved_run import SAVED_TYPES, read_about
from gradslam_ng.slam.submap_tracking import TimedFrame
from gradslam_ng.slam.submaps import MIN_TRACKED, Submap
from gradslam_ng.slam.systems import PointFusion
from gradslam_ng.structures import SurfelMap
from gradslam_ng.structures.surfels import concatenate

SPACING = 0.2, math.radians(12.0)  # meters and radians between vertices of a run that closed no loops
SIGMA, DRIFT = 0.001, 0.005  # of its odometry: meters where every pixel constrains; per meter and radian of the path


@dataclass(frozen=True, eq=False)
class FinishedSubmap:
    """A submap after its last frame: its surfels, all of its poses, and the pose graph that can bend it."""

    submap: Submap
    map: SurfelMap  # all surfels, numbers of frames counted within the submap
    T_oc: Tensor  # (L, 4, 4) float64, of its frames, relative to its origin
    vertices: list[int]  # of its frames, those that are vertices of the pose graph
    odometry_edges: list[Edge]  # between vertices
    loops: list[Edge]

    @property
    def places(self) -> Keyframes:
        """Keyframes with descriptors and features."""
        assert self.submap.recovery is not None and self.submap.recovery.relocalizer is not None
        return self.submap.recovery.relocalizer.keyframes

    def vertex_of(
        self,
        frames: Tensor,  # (...) int64
    ) -> Tensor:
        """The vertex (...) that frames, or surfels created in them, move with."""
        return last_at_or_before(self.vertices, frames)

    def transform(
        self,
        T_wv: Tensor,  # (V, 4, 4) float64
    ) -> FinishedSubmap:
        """The same with its vertices at T_wv, frames and surfels with them."""
        delta = T_wv @ se3.inverse(self.T_oc[self.vertices])
        own = self.vertex_of(torch.arange(len(self.T_oc), device=self.T_oc.device))
        map_ = transform(self.map, self.vertex_of(self.map.created), delta)
        return replace(self, map=map_, T_oc=se3.renormalize(delta[own] @ self.T_oc))


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a run left in its state."""

    name: str
    submaps: list[FinishedSubmap]
    links: list[Link]  # between them
    before: int  # of its frames, so many are of the run in whose map it went on
    frames: int  # that could be read, those before not counted


def read_finished_run(path: Path, name: str) -> FinishedRun:
    """The run whose state is in a file.

    Raises:
        FileNotFoundError, ValueError: no such file, no state of this version, or a run whose submaps cannot be joined
            with others; says why.
    """
    about = read_about(path)
    if about.get("system") != "PointFusion":
        raise ValueError(
            f"{path}: expected a run of pointfusion, whose surfels can be moved, got {about.get('system')}"
        )
    try:
        saved = load_tree(path, (*SAVED_TYPES, TimedFrame, *LoopCloser.saved_types))
        tracker, numbers = saved["tracker"], saved["numbers"]
        if any(values["recovery"] is None for values in tracker["submaps"]):
            raise ValueError(
                f"{path}: expected a run that tracked by itself: one whose poses are given keeps no places"
            )
        found = [_restore(values) for values in tracker["submaps"]]
        kept = [i for i, submap in enumerate(found) if submap.state is not None and submap.tracked >= MIN_TRACKED]
        links = [link for link in tracker["links"] if link.i in kept and link.j in kept]
        links = [replace(link, i=kept.index(link.i), j=kept.index(link.j)) for link in links]
        submaps = [_finish(found[i]) for i in kept]
        before, frames = int(numbers["before"]), int(numbers["frames"])
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path}: not a whole state: {type(error).__name__}: {error}") from error
    if not submaps:
        raise ValueError(f"{path}: expected frames that were tracked; there are none")
    return FinishedRun(name, submaps, links, before, frames - before)


def _restore(values: dict) -> Submap:
    """A submap as it was saved."""
    system = PointFusion()
    recovery = Recovery(system, relocalizer=Relocalizer(), extract=sift)
    submap = Submap(recovery, None if values["loops"] is None else LoopCloser())
    submap.restore(values, system)
    return submap


def _finish(submap: Submap) -> FinishedSubmap:
    """A submap with all of its map, and its pose graph: that of its loops, or one of frames that are far apart."""
    map_ = submap.state_after.surfels
    if not isinstance(submap.loops, LoopCloser):
        T_oc = submap.poses
        vertices, edges = _spaced(T_oc)
        return FinishedSubmap(submap, map_[0], T_oc, vertices, edges, [])
    whole, T_oc = submap.loops.finalize(map_)
    whole = reduce(concatenate, submap.loops.stored(), surfels_of(whole)[0])
    count, keyframes = len(submap.records), submap.loops.keyframes
    return FinishedSubmap(
        submap, whole, T_oc[:count], keyframes.frames, submap.loops.odometry_edges, list(submap.loops.loops)
    )


def _spaced(
    T_oc: Tensor,  # (L, 4, 4)
) -> tuple[list[int], list[Edge]]:
    """Frames that are far apart, and the motions between them, weighed by the path from one to the next."""
    steps = torch.stack(se3.distance(T_oc[:-1], T_oc[1:]), -1).tolist()
    vertices, edges, path = [0], [], [0.0, 0.0]
    for frame, (meters, radians) in enumerate(steps, start=1):
        path = [path[0] + meters, path[1] + radians]
        if path[0] < SPACING[0] and path[1] < SPACING[1] and frame < len(T_oc) - 1:
            continue
        T_ij = se3.inverse(T_oc[vertices[-1]]) @ T_oc[frame]
        eye = torch.eye(6, dtype=T_ij.dtype, device=T_ij.device)
        weight = odometry_weight(eye, path[0], path[1], sigma=SIGMA, drift=DRIFT)
        edges.append(Edge(len(vertices) - 1, len(vertices), T_ij, weight))
        vertices.append(frame)
        path = [0.0, 0.0]
    return vertices, edges
