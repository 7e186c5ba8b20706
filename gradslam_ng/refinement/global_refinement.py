"""Refinement of a finished run: keyframes and surfels by direct bundle adjustment, then all frames and the map.

In rounds: which pixels of the keyframes see which surfels, the poses of the keyframes, surfels to where these say. What
the run claims of its poses' errors is a prior. One surfel in four takes no part, and judges: where they fit the refined
poses no better than those of the run, the run stays as it is; so it does where it would be moved farther than it claims
to be off, and depth and brightness do not agree on that. Frames between keyframes follow them, and the whole recording
is fused anew.
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
from gradslam_ng.refinement.adjustment import Unconnected, adjust, compare, hold_out
from gradslam_ng.refinement.bundle_adjustment import Surfels
from gradslam_ng.refinement.keyframes import choose_keyframes, frames_of_run, read_keyframes
from gradslam_ng.refinement.prior import PosePrior
from gradslam_ng.refinement.propagation import follow_keyframes, fuse_again
from gradslam_ng.refinement.witnesses import is_supported
from gradslam_ng.slam import Result
from gradslam_ng.slam.state import Map
from gradslam_ng.slam.system import System
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.structures.origin import relative_to_origin, to_world

log = logging.getLogger("gradslam_ng")

KEYFRAMES, SURFELS = 100, 4000  # at most
MIN_KEYFRAMES, MIN_SURFELS = 3, 100
MIN_CONFIDENCE = 1.0  # of a surfel that takes part: that of the surface


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
    hundred surfels, keyframes do not see the same surfels, surfels held out fit no better afterwards, or poses would
    move farther than their covariances allow while depth and brightness, each alone, do not agree on it. Frames that
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
    prior = PosePrior.of_run(result, keyframes.number, before)
    taking_part, judging = hold_out(surfels)
    try:
        after = adjust(keyframes, taking_part, before, brightness, prior)
    except Unconnected as error:
        return _refuse(result, len(before), len(surfels.points), str(error))
    misfit = compare(keyframes, judging, before, after, brightness)
    why = None
    if not misfit[1] < misfit[0]:
        why = WORSE
    elif not is_supported(keyframes, taking_part, prior, after, brightness):
        why = UNSUPPORTED
    if why is not None:
        return replace(_refuse(result, len(before), len(surfels.points), why), misfit=misfit)
    T_oc = follow_keyframes(T_oc, keyframes.number, after)
    refined = rebuild(system, sequence, result, frames, T_oc)
    return Refinement(result, refined, len(before), len(surfels.points), misfit, None)


WORSE = "surfels that took no part fit the refined poses no better than those of the run"
UNSUPPORTED = "poses would move farther than their covariances allow, and depth and brightness do not agree on it"


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
