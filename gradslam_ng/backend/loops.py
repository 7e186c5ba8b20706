"""Loop closure: places seen before are recognised, verified and closed, and the map follows.

The scheme of ElasticFusion (Whelan et al. 2016) with keyframes for its deformation graph. Surfels not seen for a while
leave the map that is tracked against and wait in an archive; so tracking never mixes passes that have drifted apart.
At each keyframe the archive is looked up where the camera believes to be (local loops) and where it looks alike (global
ones), and the frame aligned with what the archive shows there. What holds becomes an edge between keyframes; a robust
pose graph moves these, surfels ride on their keyframes, and those seen again join the map once more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.backend.graph import FactorGraph
from gradslam_ng.backend.information import alignment_weight
from gradslam_ng.backend.keyframes import Describe, Keyframes, distance, thumbnail
from gradslam_ng.backend.layers import bring_back, colors_seen, joined, moved, split
from gradslam_ng.backend.robust import graduated
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ICPOdometer
from gradslam_ng.optim import Diagonal, Full
from gradslam_ng.rendering import predict
from gradslam_ng.slam.state import State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, SurfelMap

# Tracking slips now and then, and a loop may be false. Giving up a loop costs 8^2, more than steady drift or a slip
# of decimetres does, and less than the two slips, there and back, that a false loop among true ones needs.
SLIP, FALSE = optim.Cauchy(3.0), optim.GemanMcClure(8.0)


@dataclass(frozen=True, eq=False)
class Loop:
    """Keyframe j seen to lie at T_ij from keyframe i."""

    i: int
    j: int
    T_ij: Tensor  # (4, 4) float64
    W: Tensor  # (6, 6), square-root information
    overlap: float
    likeness: float  # correlation of the two passes' colours


class LoopCloser:
    """Follows a system frame by frame; see `System.run`.

    Args:
        window: frames after which surfels that are no longer seen go to the archive.
        spacing: of keyframes, metres and degrees.
        reach: of local loops, metres and degrees between a keyframe and where the camera believes to be.
        similarity: of codes from which a global loop is looked into.
        overlap: least share of the frame's readings where the archive shows something.
        agreement: least share of these at which depths agree, within 2 cm and three standard deviations.
        likeness: least correlation of brightness there.
        sigma: of an alignment, metres: what is systematic in it.
        drift: of odometry, per metre and radian travelled.
        describe: code (D,) of unit length of a frame, for instance a learned one.
    """

    def __init__(
        self,
        window: int = 200,
        spacing: tuple[float, float] = (0.2, 12.0),
        reach: tuple[float, float] = (0.6, 30.0),
        similarity: float = 0.75,
        overlap: float = 0.35,
        agreement: float = 0.8,
        likeness: float = 0.6,
        sigma: float = 0.003,
        drift: float = 0.02,
        describe: Describe = thumbnail,
    ) -> None:
        self.window, self.spacing, self.reach = window, spacing, reach
        self.similarity, self.overlap = similarity, overlap
        self.agreement, self.likeness = agreement, likeness
        self.sigma, self.drift, self.describe = sigma, drift, describe
        self.coarse = ICPOdometer(
            iterations=(10, 6, 0), max_distance=0.3, max_angle=45.0, scale=15.0, max_step=1.5, min_overlap=0.3
        )
        self.fine = ICPOdometer(iterations=(0, 2, 4), max_step=0.3, min_overlap=0.3)
        self.keyframes, self.loops = Keyframes(), []
        self.steps: list[tuple[Tensor, float, float]] = []  # between keyframes: T, metres and radians travelled
        self.travelled = [0.0, 0.0]
        self.archive: SurfelMap | None = None
        self.pending: Tensor | None = None  # a large correction that waits for a second one to agree

    @torch.no_grad()
    def follow(self, system: System, state: State, live: LiveFrame) -> State:
        """After each step: the state, corrected if a loop was closed."""
        T_wc = state.T_wc[0].double().cpu()
        number = state.frames - 1
        if not len(self.keyframes):
            self.keyframes.add(number, T_wc, self.describe(live))
            self.keyframes.hang(T_wc)
            self.archive = SurfelMap.empty(device=state.map.points.device, dtype=state.map.points.dtype)
            self.before = T_wc
            return state
        metres, radians = map(float, distance(self.before, T_wc))
        self.travelled = [self.travelled[0] + metres, self.travelled[1] + radians]
        self.before = T_wc
        metres, radians = map(float, distance(self.keyframes.T_wk[-1], T_wc))
        ok = bool(state.tracking.ok[0])
        if not ok or (metres < self.spacing[0] and math.degrees(radians) < self.spacing[1]):
            self.keyframes.hang(T_wc)
            return state
        self.steps.append((se3.inverse(self.keyframes.T_wk[-1]) @ T_wc, *self.travelled))
        self.travelled = [0.0, 0.0]
        self.keyframes.add(number, T_wc, self.describe(live))
        self.keyframes.hang(T_wc)
        active, old = split(state.map, state.map.updated < number - self.window)
        self.archive = joined(self.archive, old)
        state = replace(state, map=active)
        loop = self.find(system, live, number)
        return state if loop is None else self.close(state, loop, live, number)

    def find(self, system: System, live: LiveFrame, number: int) -> Loop | None:
        """The first loop from the last keyframe that holds."""
        if not int(self.archive.count[0]):
            return None
        T_wc = self.keyframes.T_wk[-1]
        before = number - self.window
        metres, radians = self.keyframes.apart(T_wc, before)
        away = metres / self.reach[0] + radians / math.radians(self.reach[1])
        similar = self.keyframes.alike(self.keyframes.codes[-1], before)
        if not len(away):
            return None
        starts = []
        near = int(away.argmin())
        if float(away[near]) < 1:
            starts.append((near, T_wc))
        alike = int(similar.argmax())
        if float(similar[alike]) > self.similarity and (not starts or alike != near):
            starts.append((alike, self.keyframes.T_wk[alike]))
        for k, start in starts:
            loop = self.verify(system, live, k, start)
            if loop is not None:
                return loop
        return None

    def verify(self, system: System, live: LiveFrame, k: int, start: Tensor) -> Loop | None:
        """The last keyframe aligned with what the archive shows from keyframe k; None where it does not hold."""
        like = live.surface.vertices
        K, size, stable = live.surface.K, live.surface.size, getattr(system.mapper, "stable", 1.0)
        reading = live.surface.vertices[..., 2].flatten(1)
        readings = max(float((reading > 0).sum()), 1.0)
        T_wm = self.keyframes.T_wk[k].to(like)[None]
        T_wc = start.to(like)[None]
        shown = colors_seen(self.archive, T_wc, K, size)[1]
        if float((shown > 0).sum()) < 0.8 * self.overlap * readings:  # most has come back already, or is elsewhere
            return None
        for align in (self.coarse, self.fine):  # to the keyframe's view, then to what the place found shows
            model = predict(self.archive, T_wm, K, size, stable)
            found = align(live, model, T_wm, T_wc)
            if not bool(found.ok[0]):
                return None
            T_wc = T_wm = found.T_wc
        color, depth = colors_seen(self.archive, T_wc, K, size)
        both = (depth > 0) & (reading > 0)
        agree = both & ((depth - reading).abs() < 0.02 + 3 * live.sigma.flatten(1))
        overlap = float(both.sum()) / readings
        agreement = float(agree.sum()) / max(float(both.sum()), 1.0)
        likeness = _correlation(color[agree], live.color.flatten(1, 2)[agree]) if bool(agree.any()) else 0.0
        if overlap < self.overlap or agreement < self.agreement or likeness < self.likeness:
            return None
        # the edge: to the keyframe, in whose frame the equations are formed
        T_wk = self.keyframes.T_wk[k]
        model = predict(self.archive, T_wc, K, size, stable)
        H, _, _ = self.fine.problem(live, model, 0).linearize(torch.eye(4).to(like)[None])
        T_kc = se3.inverse(T_wk) @ T_wc[0].double().cpu()
        # H is of an update of c by c's own frame, and so in the frame of j, where `Between` measures
        weight = alignment_weight(H[0].double().cpu() / self.sigma**2, torch.eye(4, dtype=torch.float64))
        return Loop(k, len(self.keyframes) - 1, T_kc, weight.value, overlap, likeness)

    def close(self, state: State, loop: Loop, live: LiveFrame, number: int) -> State:
        """The loop joins the graph, keyframes and map follow, and surfels seen again come back."""
        T_wc = self.keyframes.T_wk[-1]
        correction = self.keyframes.T_wk[loop.i] @ loop.T_ij @ se3.inverse(T_wc)
        metres, radians = map(float, distance(T_wc, correction @ T_wc))
        path, turn = (sum(step[k] for step in self.steps[loop.i :]) for k in (1, 2))
        if metres > 0.1 + 5 * self.drift * (path + turn) or radians > 0.1 + 5 * self.drift * turn:
            return state  # more than odometry can have drifted: it looks the same and is not
        if metres > 0.3 or radians > math.radians(15):
            agrees = self.pending is not None and _agree(self.pending, correction, T_wc)
            self.pending = correction
            if not agrees:
                return state
        self.pending = None
        self.loops.append(loop)
        if metres > 0.003 or radians > math.radians(0.2):
            state = self.deform(state)
        active, self.archive = bring_back(state.map, self.archive, live, state.T_wc, number)
        return replace(state, map=active)

    def deform(self, state: State) -> State:
        """Keyframes at the optimum of the graph, map and camera moved with them."""
        before, after = torch.stack(self.keyframes.T_wk), self.optimum()
        delta = after @ se3.inverse(before)
        self.keyframes.T_wk = list(after.unbind(0))
        maps = [moved(m, self.keyframes.owner(m.created), delta) for m in (state.map, self.archive)]
        self.archive = maps[1]
        T_wc = se3.renormalize(delta[-1].to(state.T_wc) @ state.T_wc)
        self.before = T_wc[0].double().cpu()
        return replace(state, map=maps[0], T_wc=T_wc, tracking=replace(state.tracking, T_wc=T_wc))

    def optimum(self) -> Tensor:
        """Keyframe poses (K, 4, 4) from odometry and loops."""
        graph = FactorGraph()
        graph.add_variables("pose", optim.SE3(), torch.stack(self.keyframes.T_wk))
        graph.hold("pose", [0])
        T, metres, radians = zip(*self.steps, strict=True)
        metres, radians = torch.tensor([metres, radians], dtype=torch.float64)
        sigma = torch.stack([0.001 + self.drift * (metres + 0.3 * radians), 0.0005 + 0.5 * self.drift * radians], -1)
        k = torch.arange(len(T))
        weight = Diagonal(1 / sigma.repeat_interleave(3, -1))
        graph.add_between("pose", k, k + 1, torch.stack(T), weight=weight, kernel=SLIP)
        if self.loops:
            i, j, z, W = zip(*((loop.i, loop.j, loop.T_ij, loop.W) for loop in self.loops), strict=True)
            weight = Full(torch.stack(W))
            graph.add_between("pose", i, j, torch.stack(z), weight=weight, kernel=FALSE)
            # two optima may compete: loops believed and odometry slipped, or the other way round
            solutions = [start.optimize(iterations=30, tolerance=1e-6) for start in (graph, graduated(graph))]
            return min(solutions, key=lambda solution: float(solution.error))["pose"]
        return graph.optimize(iterations=30, tolerance=1e-6)["pose"]

    @torch.no_grad()
    def finish(self, map_: SurfelMap) -> tuple[SurfelMap, Tensor]:
        """The whole map and all frames' poses (L, 4, 4) float64, as the last optimum has them."""
        everything = joined(map_, self.archive)
        if self.loops:
            before, after = torch.stack(self.keyframes.T_wk), self.optimum()
            delta = after @ se3.inverse(before)
            self.keyframes.T_wk = list(after.unbind(0))
            everything = moved(everything, self.keyframes.owner(everything.created), delta)
        return everything, self.keyframes.trajectory()


def _agree(first: Tensor, second: Tensor, T_wc: Tensor) -> bool:
    metres, radians = map(float, distance(first @ T_wc, second @ T_wc))
    return metres < 0.05 and radians < math.radians(3)


def _correlation(a: Tensor, b: Tensor) -> float:
    """Of brightness, (N, 3) each; the mean of both taken off."""
    a, b = a.mean(-1), b.mean(-1)
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-9))
