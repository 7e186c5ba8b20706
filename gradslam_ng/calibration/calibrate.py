"""Self-calibration: the cameras of a recording from nothing but its images, through SLAM and joint refinement.

SLAM with the cameras as told finds where each frame was. Then the poses of keyframes and all of the cameras (focal
lengths, centers, distortion of depth, motion from one camera to the other, time between them) are refined together,
coarse to fine, by Levenberg-Marquardt on how far surfaces and brightness of pairs of keyframes differ; as the direct
bundle adjustment of Schoeps, Sattler and Pollefeys 2019 (BAD SLAM) does, but between keyframes instead of with surfels.
Then once more from the poses of a second run, with the cameras found: where late color was is told by poses between
keyframes, which the refinement takes as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.calibration.association import Associator, Keyframes
from gradslam_ng.calibration.cameras import NAMES, CameraPair
from gradslam_ng.calibration.consistency import disagreement, split
from gradslam_ng.calibration.keyframes import KeyframeImages, choose_pairs, read_keyframes, told_cameras
from gradslam_ng.calibration.observability import open_unknowns, prior_sigma, standard_deviations
from gradslam_ng.calibration.problem import JointRefinement, Unknowns
from gradslam_ng.calibration.scale import Scale, scale_of_depth
from gradslam_ng.calibration.second_run import Track, run_again, track_plainly
from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.slam import PointFusion

KERNEL = optim.Tukey(4.685)
MUCH_WORSE = 1.05  # times the misfit
CERTAIN = 2.0  # standard errors
FAR = 4.0  # standard deviations of what is told
HELD_OUT = 4  # every so many-th pair of keyframes takes no part, and judges the result
STRATEGY = optim.LevenbergMarquardt(damping=1e-6, error_noise=1e-3)  # of pixels between which a point falls


@dataclass(frozen=True)
class Level:
    """One stage of the refinement, at images shrunk to about `width` pixels across."""

    width: int
    samples: int  # pixels of each keyframe, for either kind of residual
    rounds: int  # of association, with `steps` of the solver after each
    steps: int = 4
    smooth: bool = False  # depth; at images shrunk much that would bend surfaces


# The first run's poses are not worth the finest
LEVELS = Level(80, 200, 4), Level(160, 350, 4), Level(320, 500, 5, smooth=True)


def rounds(levels: Sequence[Level] = LEVELS) -> int:
    """How many times `on_round` is called."""
    return sum(level.rounds for level in (*_after_first(levels), *levels[-2:]))


def _after_first(levels: Sequence[Level]) -> Sequence[Level]:
    return levels[:-1] or levels


@dataclass(frozen=True, eq=False)
class Calibration:
    """The cameras of a recording, and how far to trust them."""

    told: CameraPair
    cameras: CameraPair  # as found; what the recording leaves open is as told
    sigma: Tensor  # (17,), standard deviations of `NAMES`; infinite for what is left open
    keyframes: int
    pairs: int
    misfit: dict[str, tuple[float, float]]  # of surfaces and of brightness, of pairs held out: as told, and as found
    size: tuple[int, int]  # of depth images, height and width
    scale: Scale | None  # of depth, where poses in meters tell it
    certainty: float  # by how many standard errors of their mean the pairs held out fit better with what was found

    @property
    def is_better(self) -> bool:
        """Whether pairs of keyframes that took no part fit better than with the cameras as told, by more than they
        differ, and neither surfaces nor brightness much worse; or poses in meters tell another scale of depth alone."""
        if not self._is_moved:
            return not self.is_as_told
        ratios = [found / told for told, found in self.misfit.values() if told > 0]
        return math.prod(ratios) < 1 and max(ratios, default=1.0) < MUCH_WORSE and self.certainty > CERTAIN

    @property
    def is_as_told(self) -> bool:
        """Whether nothing of what was told is changed, the scale of depth beyond doubt."""
        same = self.scale is None or abs(self.scale.factor - 1) < CERTAIN * self.scale.sigma
        return same and not self._is_moved

    @property
    def _is_moved(self) -> bool:
        return bool(self.told.local(self.cameras).any())

    @property
    def astray(self) -> tuple[str, ...]:
        """What was found farther from what was told than any device is."""
        off = self.told.local(self.cameras).abs() / prior_sigma(self.size[1])
        return tuple(name for name, each in zip(NAMES, off.tolist(), strict=True) if each > FAR)

    @property
    def open(self) -> tuple[str, ...]:
        """What the recording does not determine."""
        return tuple(name for name, sigma in zip(NAMES, self.sigma.tolist(), strict=True) if sigma == math.inf)


@torch.no_grad()
@mode_free
def calibrate_sequence(
    sequence: RGBDSequence,
    *,
    keyframes: int = 24,
    track: Track = track_plainly,
    levels: Sequence[Level] = LEVELS,
    on_round: Callable[[], None] = lambda: None,
) -> Calibration:
    """The cameras of a recording.

    The scale of depth is among them only where the sequence has poses in meters from elsewhere (`with_prior`): a world
    of another size, with depth, motions and the distance between the cameras in proportion, gives the same images.
    Lengths in `cameras` are in the meters that depth is told in.

    Args:
        sequence: the frames, as its loader takes them.
        keyframes: how many, at most.
        track: runs a system over frames; it is called two or three times.
        levels: of the refinement, coarse to fine.
        on_round: called after rounds of refinement, `rounds(levels)` times.

    Raises:
        ValueError: the camera hardly moves, is mostly lost, or never sees one surface twice.
    """
    told = told_cameras(sequence)
    first = track(PointFusion(), sequence)
    rough = Refinement(read_keyframes(sequence, first, keyframes), told=told)
    x, _ = rough.refine_levels((rough.views.T_wc, told), _after_first(levels), on_round)
    result = run_again(sequence, x[1], first, track)
    refinement = Refinement(read_keyframes(sequence, result, keyframes), told=told)
    views = refinement.views
    start, last = (views.T_wc, x[1]), levels[-1]
    x, before = refinement.refine_levels(start, levels[-2:], on_round)
    halves, disagreed = refinement.agree(x, last)
    if disagreed.any():
        x, before = refinement.refine_without(disagreed, start, levels[-2:])
        halves, disagreed = refinement.agree(x, last)
        x = refinement.refine_without(disagreed, x, levels[-1:])[0] if disagreed.any() else x
    # What changes from one size of images to the next, or from one half to the other, is what pairs of views share
    sigma = standard_deviations(refinement.problem, x)
    for more in (before.local(x[1]), 0.5 * halves[0].local(halves[1])):
        sigma = torch.hypot(sigma, more)
    misfit, certainty = refinement.compare(x, levels[-2:])
    scale = scale_of_depth(sequence, views.frames, x[0])
    count = len(views.depth), len(refinement.pairs[0])
    return Calibration(told, x[1], sigma, *count, misfit, sequence.size, scale, certainty)


def _shrink(views: KeyframeImages, level: Level) -> Keyframes:
    factors = [max(1, round(image.shape[-1] / level.width)) for image in (views.depth, views.intensity)]
    return Keyframes.of(views.depth, views.intensity, views.motion, (factors[0], factors[1]), smooth=level.smooth)


class Refinement:
    """Poses of keyframes and cameras refined together, level by level."""

    def __init__(self, views: KeyframeImages, *, told: CameraPair) -> None:
        self.views, self.told = views, told
        i, j = choose_pairs(views, told)
        held_out = torch.arange(len(i)) % HELD_OUT == HELD_OUT - 1
        self.pairs, self.held_out = (i[~held_out], j[~held_out]), (i[held_out], j[held_out])
        self.prior = prior_sigma(views.depth.shape[-1])
        self.sought = torch.ones(len(NAMES), dtype=torch.bool)
        self.free = self.sought

    def refine_levels(
        self, x: Unknowns, levels: Sequence[Level], on_round: Callable[[], None] = lambda: None
    ) -> tuple[Unknowns, CameraPair]:
        """Coarse to fine, what a level leaves open held from there on; and the cameras before the last level."""
        changed, before = False, x[1]
        for level in levels:
            before = x[1]
            x, changed = self.hold_open(self.refine(x, level, on_round))
        if changed:
            x = self.refine(x, replace(levels[-1], rounds=2))
        return x, before

    def refine(self, x: Unknowns, level: Level, on_round: Callable[[], None] = lambda: None) -> Unknowns:
        """At one size of images."""
        for problem, solved in self._refine(x, level, self.pairs):
            self.problem, x = problem, solved
            on_round()
        return x

    def _refine(
        self, x: Unknowns, level: Level, pairs: tuple[Tensor, Tensor]
    ) -> Iterator[tuple[JointRefinement, Unknowns]]:
        """The problem of each round and its solution.

        Each pair both ways: what is found where is then as noisy in the one frame as in the other, so that a world in
        which depth is stretched where the second frame looks is no better.
        """
        (i, j), shrunk = pairs, _shrink(self.views, level)
        both = torch.cat([i, j]), torch.cat([j, i])
        associator = Associator(shrunk, pairs=both, cameras=x[1], count=level.samples)
        for _ in range(level.rounds):
            planes, brightness = associator.planes(*x), associator.brightness(*x)
            problem = JointRefinement(*both, planes, brightness, KERNEL, self.told, self.prior, self.free)
            x = cast(Unknowns, optim.solve(problem, x, STRATEGY, level.steps).x)
            yield problem, x

    def agree(self, x: Unknowns, level: Level) -> tuple[tuple[CameraPair, CameraPair], Tensor]:
        """The cameras that each half of the recording tells, from x, and what they disagree about (17,) bool."""
        halves = [list(self._refine(x, replace(level, rounds=2), pairs))[-1][1][1] for pairs in split(*self.pairs)]
        found = halves[0], halves[1]
        size = self.views.depth.shape[1], self.views.depth.shape[2]
        return found, self.sought & disagreement(self.told, x[1], found, size)

    def refine_without(self, fixed: Tensor, x: Unknowns, levels: Sequence[Level]) -> tuple[Unknowns, CameraPair]:
        """As `refine_levels`, with unknowns (17,) bool of the cameras as told."""
        self.sought = self.free = self.sought & ~fixed
        T_wc, cameras = x
        return self.refine_levels((T_wc, self.told.retract(self.free * self.told.local(cameras))), levels)

    def hold_open(self, x: Unknowns) -> tuple[Unknowns, bool]:
        """Hold what the last problem leaves open, as told, and nothing else. Returns where that is, and whether more is
        fixed than before."""
        before = self.free
        everything = replace(self.problem, free=self.sought)
        self.free = self.sought & ~open_unknowns(everything.linearize(x)[0], everything.free)
        T_wc, cameras = x
        held = self.told.retract(self.free * self.told.local(cameras))
        return (T_wc, held), bool((before & ~self.free).any())

    def compare(self, x: Unknowns, levels: Sequence[Level]) -> tuple[dict[str, tuple[float, float]], float]:
        """Median misfit of surfaces and of brightness of the pairs held out: with the cameras as told, to which the
        poses are refined over the levels that x is from, and at x; and by how many standard errors x is better, pair by
        pair."""
        free, self.free = self.free, torch.zeros_like(self.free)
        at_told = self.views.T_wc, self.told
        for level in levels:
            at_told = self.refine(at_told, level)
        self.free = free
        level = levels[-1]
        shrunk, misfits, spreads = _shrink(self.views, level), [], []
        for T_wc, cameras in (at_told, x):
            associator = Associator(shrunk, pairs=self.held_out, cameras=cameras, count=level.samples)
            whole, of_pairs = associator.misfits(T_wc, cameras)
            misfits.append(whole)
            spreads.append(of_pairs)
        less = (spreads[0] / spreads[1]).log().sum(0)
        less = less[less.isfinite()]
        certainty = float(less.mean() / less.std() * len(less) ** 0.5) if len(less) > 1 and less.any() else 0.0
        return dict(zip(("surfaces", "brightness"), zip(*misfits, strict=True), strict=True)), certainty
