"""Refinement of a finished run: keyframes and surfels by direct bundle adjustment, then all frames and the map.

In rounds: which pixels of the keyframes see which surfels, the poses of the keyframes, surfels to where these say. One
surfel in four takes no part, and judges: where they fit the refined poses no better than those of the run, the run
stays as it is. Frames between keyframes follow them, and the whole recording is fused anew.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.meshing import tsdf_to_surfels
from gradslam_ng.refinement.bundle_adjustment import BundleAdjustment, Surfels
from gradslam_ng.refinement.keyframes import Keyframes, choose_keyframes, frames_of_run, read_keyframes
from gradslam_ng.refinement.observations import Observations, associate
from gradslam_ng.refinement.propagation import follow_keyframes, fuse_again
from gradslam_ng.slam import Result
from gradslam_ng.slam.state import Map
from gradslam_ng.slam.system import System
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.structures.origin import relative_to_origin, to_world

log = logging.getLogger("gradslam_ng")

KEYFRAMES, SURFELS = 100, 4000  # at most
MIN_KEYFRAMES, MIN_SURFELS = 3, 100
ROUNDS, ITERATIONS = 3, 4  # of association; of the solver after each
HELD_OUT = 4  # every so many-th surfel takes no part, and judges
MIN_CONFIDENCE = 1.0  # of a surfel that takes part: that of the surface
MIN_PAIRS = 30  # measurements of surfels that a keyframe shares with others, else it says nothing of its pose


@dataclass(frozen=True, eq=False)
class Refinement:
    """What came of refining a run."""

    before: Result
    result: Result  # the refined one, or `before` where it is not better
    keyframes: int
    surfels: int
    misfit: tuple[float, float] | None  # of surfels held out, mean robust cost from 0 to 1, before and after
    refused: str | None  # why the run stayed as it was

    @property
    def taken(self) -> bool:
        """Whether the result is the refined one."""
        return self.refused is None


@torch.no_grad()
@mode_free
def refine(
    system: System,
    sequence: RGBDSequence,
    result: Result,
    *,
    max_keyframes: int = KEYFRAMES,
    brightness: bool = True,
) -> Refinement:
    """A run's poses and map refined together, by direct bundle adjustment (Schoeps, Sattler and Pollefeys 2019).

    The run stays as it is, and `refused` says why, where fewer than three frames were tracked, the map has fewer than a
    hundred surfels, keyframes do not see the same surfels, or surfels held out fit no better afterwards. Frames that
    were lost follow their neighbors but enter no map, as in the run; submaps that are not joined stay as they are;
    without texture depth alone is aligned. Covariances stay those of the run.

    Args:
        system: that of the run; it fuses the recording anew.
        sequence: what was run.
        result: of the run.
        max_keyframes: memory and time grow with them, the normal equations with their square.
        brightness: align brightness beside depth.

    Raises:
        ValueError: the sequence is not the one that was run, or fewer than three keyframes asked for.
    """
    if max_keyframes < MIN_KEYFRAMES:
        raise ValueError(f"max_keyframes: expected at least {MIN_KEYFRAMES}, got {max_keyframes}")
    frames = frames_of_run(result.trajectory.timestamps, sequence)
    surfels = choose_surfels(result.map)
    numbers = choose_keyframes(result.tracked, max_keyframes).tolist()
    few = None
    if len(numbers) < MIN_KEYFRAMES:
        few = f"{len(numbers)} tracked frames, expected at least {MIN_KEYFRAMES}"
    elif len(surfels.points) < MIN_SURFELS:
        few = f"{len(surfels.points)} surfels in the map, expected at least {MIN_SURFELS}"
    if few is not None:
        return _refuse(result, len(numbers), len(surfels.points), few)
    keyframes = read_keyframes(sequence, numbers, frames, system.noise, system.max_depth, system.device)
    T_oc = relative_to_origin(result.trajectory.T_wc, _origin(result.map), torch.float64)
    before = T_oc[keyframes.number]
    try:
        after, misfit = adjust(keyframes, surfels, before, brightness)
    except Unconnected as error:
        return _refuse(result, len(before), len(surfels.points), str(error))
    if not misfit[1] < misfit[0]:
        return replace(_refuse(result, len(before), len(surfels.points), WORSE), misfit=misfit)
    T_oc = follow_keyframes(T_oc, keyframes.number, after)
    refined = rebuild(system, sequence, result, frames, T_oc)
    return Refinement(result, refined, len(before), len(surfels.points), misfit, None)


WORSE = "surfels that took no part fit the refined poses no better than those of the run"


class Unconnected(ValueError):
    """Keyframes that do not see the same surfels."""


def adjust(
    keyframes: Keyframes,
    surfels: Surfels,
    T_wk: Tensor,  # (K, 4, 4) float64
    brightness: bool = True,
) -> tuple[Tensor, tuple[float, float]]:
    """The poses (K, 4, 4) of the keyframes refined, the first where it is; and the misfit of surfels held out, before
    and after.

    Raises:
        Unconnected: keyframes share too few surfels with others.
    """
    held = torch.arange(len(surfels.points), device=T_wk.device) % HELD_OUT == HELD_OUT - 1
    judging, taking_part = Surfels(*(x[held] for x in surfels)), Surfels(*(x[~held] for x in surfels))
    before = T_wk
    for _ in range(ROUNDS):
        observed = associate(keyframes, *taking_part, T_wk)
        check_connected(observed)
        problem = BundleAdjustment(observed, surfels=taking_part, brightness=brightness)
        T_wk = problem.solve(T_wk, ITERATIONS)
        taking_part = problem.place_surfels(T_wk)
    return T_wk, compare(keyframes, judging, before, T_wk, brightness)


def check_connected(observed: Observations) -> None:
    """Raise `Unconnected` where a keyframe shares less than `MIN_PAIRS` surfels with others, or two parts of the
    keyframes share none."""
    seen = (observed.depth_information > 0).double()
    shared = seen @ seen.mT > MIN_PAIRS
    alone = int((shared.sum(1) - shared.diagonal().long() == 0).sum())
    reached = shared[0] | (torch.arange(len(seen), device=seen.device) == 0)
    for _ in range(len(seen)):
        reached = shared[reached].any(0) | reached
    if alone or not bool(reached.all()):
        apart = int((~reached).sum())
        raise Unconnected(f"{apart} of {len(seen)} keyframes share fewer than {MIN_PAIRS} surfels with the others")


def compare(
    keyframes: Keyframes,
    surfels: Surfels,
    before: Tensor,  # (K, 4, 4)
    after: Tensor,  # (K, 4, 4)
    brightness: bool,
) -> tuple[float, float]:
    """The mean cost of surfels' measurements, from 0 to 1, at two sets of poses. What is measured at one of them alone
    costs at the other what an outlier does."""
    noise = associate(keyframes, *surfels, before).noise  # for both: what is judged must not judge itself
    costs, seen = [], []
    for T_wk in (before, after):
        placed = BundleAdjustment(associate(keyframes, *surfels, T_wk, noise), surfels=surfels).place_surfels(T_wk)
        observed = associate(keyframes, *placed, T_wk, noise)
        costs.append(torch.stack(BundleAdjustment(observed, surfels=placed).costs(T_wk)))
        seen.append(torch.stack([observed.depth_information > 0, observed.brightness_information > 0]))
    either = seen[0] | seen[1]
    if not brightness:
        costs, seen, either = [x[:1] for x in costs], [x[:1] for x in seen], either[:1]
    count = either.sum().clamp(min=1)
    mean = [torch.where(there, cost, 1.0)[either].sum() / count for there, cost in zip(seen, costs, strict=True)]
    return float(mean[0]), float(mean[1])


@discrete
def choose_surfels(map_: Map) -> Surfels:
    """At most `SURFELS` of those that count as part of the surface, spread evenly over the map, float64, relative to
    its origin."""
    whole = map_ if isinstance(map_, SurfelMap) else tsdf_to_surfels(map_)
    one = whole[0]
    usable = (one.normals[0].norm(dim=-1) > 0.5) & (one.confidences[0] > MIN_CONFIDENCE)
    there = usable.nonzero()[:, 0]
    generator = torch.Generator(device="cpu").manual_seed(0)
    picked = torch.randperm(len(there), generator=generator)[:SURFELS].to(there.device)
    chosen = there[picked]
    normals = torch.nn.functional.normalize(one.normals[0][chosen].double(), dim=-1)
    return Surfels(one.points[0][chosen].double().cpu(), normals.cpu())


def rebuild(
    system: System,
    sequence: RGBDSequence,
    result: Result,
    frames: list[int],
    T_oc: Tensor,  # (L, 4, 4) float64, relative to the origin of the map
) -> Result:
    """The result with its frames at T_oc, and with the map that they make from there."""
    ok = result.tracked.clone()
    ok[result.relocalized] = False  # found again: tracked, and fused, from the next frame on
    with compilation(False):
        map_ = fuse_again(system, sequence, frames, T_oc, ok)
    origin = result.map.origin
    T_wc = to_world(T_oc, _origin(result.map), torch.float64)
    return replace(result, map=replace(map_, origin=origin), trajectory=Trajectory(result.trajectory.timestamps, T_wc))


def _origin(map_: Map) -> Tensor | None:
    """(3,) float64 on the CPU, where poses are."""
    return None if map_.origin is None else map_.origin[0].cpu()


def _refuse(result: Result, keyframes: int, surfels: int, why: str) -> Refinement:
    log.warning("not refined: %s", why)
    return Refinement(result, result, keyframes, surfels, None, why)
