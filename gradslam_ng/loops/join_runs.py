"""Maps of several runs joined where they show the same places, poses and submaps corrected together.

Precision before recall, as for the submaps of one run (`slam.link_search`): two verified links that agree connect two
submaps. Then one pose graph of all, odometry, loops and links, moves keyframes, and frames and surfels with them. What
is connected and then shows surfaces through which the other's camera looked is taken apart again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph.edges import Edge
from gradslam_ng.loops.finished_submaps import FinishedRun, FinishedSubmap
from gradslam_ng.loops.pose_graph import optimize_pose_graph
from gradslam_ng.loops.run_links import Comparison, RunLinkSearch
from gradslam_ng.places.repetition import DRIFT, is_within
from gradslam_ng.slam.link_search import Evidence, Link, gather_evidence
from gradslam_ng.slam.submaps import Connections, main_component
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.structures.origin import to_world
from gradslam_ng.structures.surfels import concatenate

LINK_SIGMA = (0.01,) * 3 + (0.005,) * 3  # meters and radians, of a link: what maps are off within themselves
MIN_AGREEMENT = 0.8  # of what two joined maps both show; see `RunLinkSearch.agreement`


@dataclass(frozen=True, eq=False)
class RunOutcome:
    """What became of one run."""

    name: str
    trajectory: Trajectory | None  # of its frames with a pose in the joined world; None where it is not joined
    frames: int
    why: str  # what it was joined by, or why not


@dataclass(frozen=True, eq=False)
class JoinedRuns:
    """What several runs make together, in the world of the first that is joined."""

    map: SurfelMap  # frame numbers counted through all runs, one after another
    runs: list[RunOutcome]
    links: int  # that are in the pose graph

    @property
    def trajectory(self) -> Trajectory:
        """All frames with a pose, by their time."""
        parts = [run.trajectory for run in self.runs if run.trajectory is not None]
        return Trajectory(torch.cat([part.timestamps for part in parts]), torch.cat([part.T_wc for part in parts]))

    @property
    def num_joined(self) -> int:
        """How many runs are."""
        return sum(run.trajectory is not None for run in self.runs)


class RunJoiner:
    """Joins runs.

    Args:
        runs: in the order in which their worlds are preferred.
        on_progress: called with the name of each run before its keyframes are compared with those of runs before it.
    """

    def __init__(self, runs: list[FinishedRun], *, on_progress: Callable[[str], None] | None = None) -> None:
        self.runs, self.on_progress = runs, on_progress
        self.submaps = [submap for run in runs for submap in run.submaps]
        self.run_of = [number for number, run in enumerate(runs) for _ in run.submaps]
        self.search = RunLinkSearch(self.submaps)
        self.comparisons: dict[tuple[int, int], Comparison] = {}  # by pair of submaps
        self.evidence: dict[tuple[int, int], Evidence] = {}  # what links say of pairs of submaps
        self.contradictory: dict[tuple[int, int], float] = {}  # pairs that are not joined, and how far they agree

    @torch.no_grad()
    def join(self) -> JoinedRuns:
        """All of it."""
        links = self.find_links()
        self.evidence = gather_evidence(links, [submap.T_oc for submap in self.submaps])
        while True:
            used = [link for link in links if _pair(link) not in self.contradictory]
            connected = {pair: x.T_ij for pair, x in self.evidence.items() if x.is_unique}
            connections = {pair: T for pair, T in connected.items() if pair not in self.contradictory}
            motions = main_component([submap.submap for submap in self.submaps], connections)
            used = [link for link in used if self.is_used(link, motions)]
            corrected = self.correct(motions, used)
            if not self.find_contradictions(corrected, connections):
                return self.conclude(corrected, used)

    def find_links(self) -> list[Link]:
        """Those within runs, and those between them."""
        links, first = [], 0
        for run in self.runs:
            links += [replace(link, i=link.i + first, j=link.j + first) for link in run.links]
            first += len(run.submaps)
        for number, submap_run in enumerate(self.run_of):
            if self.on_progress is not None:
                self.on_progress(self.runs[submap_run].name)
            others = [i for i in range(number) if self.run_of[i] != submap_run]
            for i, comparison in self.search.search(number, others).items():
                self.comparisons[i, number] = comparison
                links += comparison.links
        return links

    def is_used(self, link: Link, motions: dict[int, Tensor]) -> bool:
        """Whether a link is verified, of submaps that are joined, and says what the others do, but for drift."""
        if not link.verified or link.i not in motions or link.j not in motions:
            return False
        found = motions[link.i] @ self.submaps[link.i].T_oc[link.a] @ link.T_ab
        return bool(is_within(found, motions[link.j] @ self.submaps[link.j].T_oc[link.b], DRIFT))

    def correct(self, motions: dict[int, Tensor], links: list[Link]) -> dict[int, FinishedSubmap]:
        """The submaps that are joined, in the coordinates of the first, as one pose graph has them."""
        poses: list[Tensor] = []
        edges: list[Edge] = []
        loops: list[Edge] = []
        starts: dict[int, int] = {}
        for i, T_0i in motions.items():
            submap, start = self.submaps[i], sum(map(len, poses))
            starts[i] = start
            poses.append(T_0i @ submap.T_oc[submap.vertices])
            for own, all_ in ((submap.odometry_edges, edges), (submap.loops, loops)):
                all_ += [replace(edge, i=edge.i + start, j=edge.j + start) for edge in own]
        loops += [self.as_edge(link, starts) for link in links]
        T_wv = torch.cat(poses)
        T_wv = optimize_pose_graph(T_wv, edges, loops) if links else T_wv
        parts = T_wv.split([len(part) for part in poses])
        return {i: self.submaps[i].transform(part) for i, part in zip(motions, parts, strict=True)}

    def as_edge(self, link: Link, starts: dict[int, int]) -> Edge:
        """A link between two frames as an edge between the vertices that these move with."""
        ends = []
        for i, frame in ((link.i, link.a), (link.j, link.b)):
            submap = self.submaps[i]
            vertex = int(submap.vertex_of(torch.tensor(frame)))
            T_vf = se3.inverse(submap.T_oc[submap.vertices[vertex]]) @ submap.T_oc[frame]
            ends.append((starts[i] + vertex, T_vf))
        (u, T_ua), (v, T_vb) = ends
        T_uv = T_ua @ link.T_ab @ se3.inverse(T_vb)
        return Edge(u, v, T_uv, optim.FullWeight(torch.diag(1 / T_uv.new_tensor(LINK_SIGMA))[None]))

    def find_contradictions(self, corrected: dict[int, FinishedSubmap], connections: Connections) -> bool:
        """Whether submaps of different runs that are connected turn out to contradict each other."""
        found = False
        for i, j in connections:
            if i in corrected and j in corrected and self.run_of[i] != self.run_of[j]:
                agreement = self.search.agreement(corrected[i], corrected[j])
                if agreement < MIN_AGREEMENT:
                    self.contradictory[i, j], found = agreement, True
        return found

    def conclude(self, corrected: dict[int, FinishedSubmap], used: list[Link]) -> JoinedRuns:
        """The joined map, and what became of each run."""
        origin = next(iter(corrected.values())).submap.state_after.origin
        map_, outcomes, before = None, [], 0
        for number, run in enumerate(self.runs):
            own = {i: corrected[i] for i in corrected if self.run_of[i] == number}
            for submap in own.values():
                part = submap.submap.renumber(submap.map, run.before - before)
                assert isinstance(part, SurfelMap)
                part = replace(part, origin=origin)
                map_ = part if map_ is None else concatenate(map_, part)
            trajectory = _trajectory(list(own.values()), run.before, origin[0]) if own else None
            outcomes.append(RunOutcome(run.name, trajectory, run.frames, self.explain(number, corrected, used)))
            before += run.frames
        assert map_ is not None  # a component has a submap
        between = [link for link in used if self.run_of[link.i] != self.run_of[link.j]]
        return JoinedRuns(map_, outcomes, len(between))

    def runs_of(self, pair: tuple[int, int]) -> set[int]:
        """The numbers of the runs that two submaps are of."""
        return {self.run_of[i] for i in pair}

    def explain(self, number: int, corrected: dict[int, FinishedSubmap], used: list[Link]) -> str:
        """Why a run is joined with others, or is not."""
        counts: dict[str, int] = {}
        for link in used:
            runs = self.runs_of((link.i, link.j))
            if number in runs and len(runs) == 2:
                other = self.runs[min(runs - {number})].name
                counts[other] = counts.get(other, 0) + 1
        if counts:
            return ", ".join(f"{count} links with {name}" for name, count in counts.items())
        against = [share for pair, share in self.contradictory.items() if number in self.runs_of(pair)]
        if against:
            return f"its map contradicts that of a place that looks alike: {max(against):.0%} of what both show agrees"
        if repeated := [x for pair, x in self.evidence.items() if not x.is_unique and number in self.runs_of(pair)]:
            best = max(repeated, key=lambda x: x.agreeing / x.otherwise)
            return f"what it shows repeats: {best.agreeing} pairs of keyframes say one place, {best.otherwise} others"
        mine = {pair: found for pair, found in self.comparisons.items() if number in self.runs_of(pair)}
        compared, similar = (sum(getattr(x, name) for x in mine.values()) for name in ("compared", "similar"))
        matched, verified = sum(x.matched for x in mine.values()), sum(x.verified for x in mine.values())
        return (
            f"{compared} comparisons of keyframes, {similar} alike, {matched} with features in common, {verified} "
            "verified; two that agree are needed"
        )


def _pair(link: Link) -> tuple[int, int]:
    return min(link.i, link.j), max(link.i, link.j)


def _trajectory(submaps: list[FinishedSubmap], before: int, origin: Tensor) -> Trajectory:  # origin (3,)
    """The frames of a run that were tracked, in order."""
    rows: dict[int, tuple[float, Tensor]] = {}
    for submap in submaps:
        ok = submap.submap.has_pose(before).tolist()
        for record, T, tracked in zip(submap.submap.records, submap.T_oc, ok, strict=True):
            if tracked:
                rows[record.number] = record.seconds, T
    order = [rows[number] for number in sorted(rows)]
    seconds = torch.tensor([second for second, _ in order], dtype=torch.float64)
    T_oc = torch.stack([T for _, T in order]) if order else torch.zeros(0, 4, 4, dtype=torch.float64)
    return Trajectory(seconds, to_world(T_oc, origin.cpu(), torch.float64))
