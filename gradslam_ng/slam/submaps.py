"""Submaps: a camera that is not found again begins a new map, which is joined with the others where they meet.

After the Atlas of ORB-SLAM3 (Campos et al. 2021) and the sessions of RTAB-Map (Labbe and Michaud 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.odometry import TrackingResult, TrackingStatus
from gradslam_ng.slam.loop_closure import LoopClosure
from gradslam_ng.slam.recovery import Recovery
from gradslam_ng.slam.state import Map, State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.structures.origin import to_world
from gradslam_ng.structures.surfels import concatenate, transform_surfels

UNKNOWN = -1  # status of a frame before any submap was asked
MIN_TRACKED = 2  # frames of a submap that is kept though it is not joined: one alone tells of no motion
# T_ij (4, 4) float64, from coordinates of submap j to those of submap i < j
Connections = dict[tuple[int, int], Tensor]


@dataclass(eq=False)
class Submap:
    """A map with its own poses. What belongs to it is relative to its origin."""

    recovery: Recovery | None  # None where poses come with the frames
    loops: LoopClosure | None
    state: State | None = None  # after the last of its frames
    is_lost: bool = False
    records: list[Record] = field(default_factory=list)  # of its frames
    _searched: tuple[State, SurfelMap, State] | None = None  # a state, an archive, and the state with both for its map

    @property
    def state_after(self) -> State:
        """The state after its last frame.

        Raises:
            ValueError: there was none.
        """
        if self.state is None:
            raise ValueError("submap: expected a frame at least")
        return self.state

    def saved(self) -> dict[str, Any]:
        """All of it, for `restore`."""
        return {
            "state": self.state,
            "is_lost": self.is_lost,
            "records": self.records,
            "recovery": None if self.recovery is None else self.recovery.saved(),
            "loops": None if self.loops is None else self.loops.saved(),
        }

    def restore(self, saved: dict[str, Any], system: System) -> None:
        """Go on from where another one was."""
        self.state, self.is_lost, self.records = (saved[name] for name in ("state", "is_lost", "records"))
        if self.recovery is not None:
            self.recovery.restore(saved["recovery"])
        if self.loops is not None:
            self.loops.restore(saved["loops"], system)

    @property
    def searched(self) -> State:
        """The state after its last frame with all of its map: a camera may return to what has not been seen for long.

        Raises:
            ValueError: there was no frame.
        """
        state = self.state_after
        if self.loops is None or not int(self.loops.archive.count[0]):
            return state
        archive = self.loops.archive
        if self._searched is None or self._searched[0] is not state or self._searched[1] is not archive:
            self._searched = state, archive, replace(state, map=concatenate(state.surfels, archive))
        return self._searched[2]

    def recall(self, places: Sequence[int]) -> None:
        """The map near these keyframes is in memory, to be searched."""
        if self.loops is not None and self.recovery is not None and self.recovery.relocalizer is not None and places:
            T_wk = self.recovery.relocalizer.keyframes.T_wk
            self.loops.recall([T_wk[k] for k in places])

    def leave(self) -> None:
        """The camera is no longer here, but somewhere: it is looked for, unless poses come with the frames."""
        if self.state is not None:
            T_oc, no = self.state.T_oc, torch.zeros_like(self.state.initialized)
            lost = TrackingResult.from_pose(T_oc, no, TrackingStatus.NO_OVERLAP)
            nowhere = torch.full_like(self.state.T_prior, torch.nan)  # another source's world may be another by now
            self.state = replace(self.state, tracking=lost, T_prior=nowhere)
        if self.recovery is not None:
            self.is_lost, self.recovery.last = True, None

    def follow_loops(self) -> None:
        """Places where a camera is looked for go with the map that loops have moved."""
        if self.loops is not None and self.recovery is not None and self.recovery.relocalizer is not None:
            self.recovery.relocalizer.keyframes.follow(self.loops.poses())

    @property
    def relocalized(self) -> list[int]:
        """Numbers of the frames in which a lost camera was found in it."""
        if self.recovery is None or self.recovery.relocalizer is None:
            return []
        return self.recovery.relocalizer.relocalized

    @property
    def poses(self) -> Tensor:
        """The poses T_oc (L, 4, 4) float64 of its frames, on the CPU, as the loops closed so far have them."""
        if self.loops is not None and self.loops.loops:
            return self.loops.poses()[: len(self.records)]
        return se3.renormalize(torch.stack([record.T_oc for record in self.records]).cpu())

    @property
    def numbers(self) -> Tensor:
        """(L,) int64, on the CPU, of its frames among those of the run."""
        return torch.tensor([record.number for record in self.records], dtype=torch.int64, device="cpu")

    def numbers_of(self, own: Tensor) -> Tensor:
        """Among those of the run, of frames (...) int64 that are counted within the submap."""
        numbers = self.numbers.to(own.device)
        return numbers[own.clamp(max=len(numbers) - 1)]

    def renumber(self, map_: Map, before: int) -> Map:
        """Its map with frames numbered as in the run, less so many before it."""
        if not isinstance(map_, SurfelMap):
            return map_
        created, updated = (self.numbers_of(x) - before for x in (map_.created, map_.updated))
        return replace(map_, created=created, updated=updated)

    @property
    def statuses(self) -> Tensor:
        """(L,) int64, on the CPU, of its frames."""
        return torch.stack([record.status for record in self.records]).cpu()

    def has_pose(self, before: int = 0) -> Tensor:
        """(L,) bool, of its frames, but for those of so many first ones of the run."""
        return TrackingStatus.is_tracked(self.statuses) & (self.numbers >= before)

    @property
    def tracked(self) -> int:
        """How many of its frames have a pose."""
        return int(self.has_pose().sum())


@dataclass(frozen=True, eq=False)
class Record:
    """What is kept of a frame."""

    number: int  # among the frames of the run
    seconds: float
    T_oc: Tensor  # (4, 4) float64
    status: Tensor  # ()
    covariance: Tensor  # (6, 6), as in `TrackingResult`


def main_component(submaps: list[Submap], connections: Connections, home: int | None = None) -> dict[int, Tensor]:
    """The submaps of the connected component of one of them, by default of that with most tracked frames: by number,
    that one (by default the first of them) before all, each with the motion (4, 4) float64 from its coordinates to
    those of that one."""
    edges = connections | {(j, i): se3.inverse(T) for (i, j), T in connections.items()}
    components: list[dict[int, Tensor]] = []
    for first in range(len(submaps)) if home is None else [home]:
        motions, waiting = {first: torch.eye(4, dtype=torch.float64, device="cpu")}, [first]
        while waiting:
            i = waiting.pop()
            new = [j for j in range(len(submaps)) if (i, j) in edges and j not in motions]
            motions |= {j: motions[i] @ edges[i, j] for j in new}
            waiting += new
        components.append(motions)
    return max(components, key=lambda motions: sum(submaps[i].tracked for i in motions))


class Connected(NamedTuple):
    """What the submaps of a run make together."""

    map: Map
    motions: dict[int, Tensor]  # of the submaps that are in it, see `main_component`
    trajectory: Trajectory  # of all frames; where one is not in the largest component, the pose of the one before
    statuses: Tensor  # (L,) int64
    covariances: Tensor  # (L, 6, 6) float64, NaN where a frame has no pose
    submaps: list[int]  # of frames with a pose, of each submap, the joined ones first counted together
    others: list[tuple[Map, Trajectory]]  # of the submaps that are not joined, of more than one frame


def join(
    submaps: list[Submap],
    parts: list[tuple[Map, Tensor]],
    connections: Connections,
    home: int | None = None,
    before: int = 0,
) -> Connected:
    """The maps and poses, relative to their origins, of the submaps of the main component in the world of the first of
    them, and those of all others; see `main_component`.

    before: so many frames come before the run, whose maps count but not their poses.
    """
    motions = main_component(submaps, connections, home)
    first = next(iter(motions))
    count = 1 + max(record.number for submap in submaps for record in submap.records)
    T_oc = torch.full((count, 4, 4), torch.nan, dtype=torch.float64, device="cpu")
    statuses = torch.full((count,), UNKNOWN, device="cpu")
    seconds = torch.zeros(count, dtype=torch.float64, device="cpu")
    covariances = torch.full((count, 6, 6), torch.nan, dtype=torch.float64, device="cpu")
    for i in sorted(range(len(submaps)), key=lambda i: (i not in motions, i)):
        numbers = submaps[i].numbers
        found, so_far = submaps[i].statuses, statuses[numbers]
        seconds[numbers] = torch.tensor(
            [record.seconds for record in submaps[i].records], dtype=torch.float64, device="cpu"
        )
        # a frame lost in one submap may have been tracked in a later one
        if i in motions:
            T_oc[numbers] = motions[i] @ parts[i][1]
            statuses[numbers] = found
            covariances[numbers] = torch.stack([record.covariance for record in submaps[i].records]).double().cpu()
        else:
            apart = TrackingStatus.is_tracked(found)
            why = TrackingStatus.UNCONNECTED if submaps[i].tracked >= MIN_TRACKED else TrackingStatus.NO_OVERLAP
            found = torch.where(apart, int(why), found)
            takes = torch.where(apart, ~TrackingStatus.is_tracked(so_far), so_far == UNKNOWN)
            statuses[numbers] = torch.where(takes, found, so_far)
    origin = submaps[first].state_after.origin[0].cpu()
    trajectory = Trajectory(seconds[before:], to_world(hold_last(T_oc)[before:], origin, torch.float64))
    map_ = parts[first][0]
    for i in sorted(set(motions) - {first}):
        map_ = append_moved(map_, parts[i][0], motions[i])
    sizes = [int(submap.has_pose(before).sum()) for submap in submaps]
    rest = [i for i in range(len(submaps)) if i not in motions and sizes[i] >= MIN_TRACKED]
    others = [(parts[i][0], own_trajectory(submaps[i], parts[i][1], before)) for i in rest]
    covariances[~TrackingStatus.is_tracked(statuses)] = torch.nan
    counts = [sum(sizes[i] for i in motions), *(sizes[i] for i in rest)]
    return Connected(map_, motions, trajectory, statuses[before:], covariances[before:], counts, others)


def stored_parts(
    submaps: list[Submap], motions: dict[int, Tensor], origin: Tensor | None, before: int
) -> Iterator[SurfelMap]:
    """The surfels of submaps that are on disk, in parts, in the world and with the frame numbers of `join`."""
    for i, T in motions.items():
        submap = submaps[i]
        for part in () if submap.loops is None else submap.loops.stored():
            numbered = submap.renumber(part, before)
            assert isinstance(numbered, SurfelMap)
            yield replace(transform_surfels(numbered, T), origin=origin)


def own_trajectory(submap: Submap, T_oc: Tensor, before: int) -> Trajectory:  # T_oc (L, 4, 4)
    """The poses of the frames of a submap that were tracked, in its own world, but for those of so many first frames of
    the run."""
    ok = submap.has_pose(before)
    seconds = torch.tensor([record.seconds for record in submap.records], dtype=torch.float64, device="cpu")
    return Trajectory(seconds[ok], to_world(T_oc[ok], submap.state_after.origin[0].cpu(), torch.float64))


def hold_last(
    T: Tensor,  # (L, 4, 4), NaN where unknown
) -> Tensor:
    """The same with the last pose known, or the first one known, where there is none."""
    return T[last_known(T.isfinite().flatten(1).all(-1))]


def last_known(
    known: Tensor,  # (L,) bool
) -> Tensor:
    """For each the last one known (L,) int64, or the first one known, where there is none before."""
    last = torch.where(known, torch.arange(len(known), device=known.device), -1).cummax(0).values
    return torch.where(last < 0, known.int().argmax(), last)


def append_moved(map_: Map, other: Map, T: Tensor) -> Map:  # T (4, 4)
    """A surfel map with the surfels of another, moved by T (both batches of one)."""
    assert isinstance(map_, SurfelMap) and isinstance(other, SurfelMap)
    return concatenate(map_, replace(transform_surfels(other, T), origin=map_.origin))
