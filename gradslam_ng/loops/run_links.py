"""Places of one run found in another: alike, with features in common, and of one shape and brightness.

What a keyframe of a run saw is gone when the run is done; the run's own map shows it again from the same pose.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from gradslam_ng.geometry import camera, images, se3
from gradslam_ng.geometry.depth_noise import axial_sigma
from gradslam_ng.loops.finished_submaps import FinishedSubmap
from gradslam_ng.mapping import PointFuser
from gradslam_ng.places import PlaceVerifier
from gradslam_ng.places.feature_alignment import estimate_motion
from gradslam_ng.places.keyframes import tiny_image_descriptor
from gradslam_ng.places.repetition import REACH, is_within
from gradslam_ng.rendering import predict_surfels
from gradslam_ng.rendering.surfels import render
from gradslam_ng.slam.link_search import MIN_SIMILARITY, Link
from gradslam_ng.structures import LiveFrame, SurfaceView, SurfelMap

CANDIDATES = 3  # keyframes of another run that one is compared with, and of those elsewhere where it is found
MIN_COVERED = 0.05  # share of a view where another map must show something, to be compared with it
TOLERANCE = 0.1  # meters, beside three standard deviations, by which maps that are joined may be apart


@dataclass(eq=False)
class Comparison:
    """What came of comparing the keyframes of two submaps."""

    compared: int = 0
    similar: int = 0  # keyframes for which the other submap has a similar one
    matched: int = 0  # pairs of keyframes between which features say a motion
    links: list[Link] = field(default_factory=list)  # what they say, verified or not

    @property
    def verified(self) -> int:
        """How many are."""
        return sum(link.verified for link in self.links)


def view_again(
    map_: SurfelMap,
    T_wc: Tensor,  # (4, 4)
    like: LiveFrame,
) -> LiveFrame:
    """What a map shows from a pose relative to its origin, as a frame of a camera like that of another frame."""
    K, size = like.surface.K, like.surface.size
    seen = render(replace(map_, origin=None), T_wc.to(K)[None], K, size)
    depth, intensity = seen.depth[..., 0], images.intensity(seen.color)[..., 0]
    weights = (seen.alpha[..., 0] > 0).to(depth)
    surface = SurfaceView(camera.unproject(seen.depth, K), seen.normal, weights, K, intensity)
    return LiveFrame(surface, seen.color, depth, axial_sigma(depth), None)


class RunLinkSearch:
    """Finds places of submaps in the keyframes of another."""

    def __init__(self, submaps: list[FinishedSubmap]) -> None:
        self.submaps, self.verifier = submaps, PlaceVerifier.for_loop_closure()
        self.stable_confidence = PointFuser().stable_confidence

    @torch.no_grad()
    def search(self, number: int, others: list[int]) -> dict[int, Comparison]:
        """What comes of comparing all keyframes of the submap of that number with those of others, by their numbers."""
        submap, found = self.submaps[number], {i: Comparison() for i in others}
        last = submap.submap.state_after.live
        for k, frame in enumerate(submap.places.frames):
            live = view_again(submap.map, submap.T_oc[frame], last)
            descriptors = tiny_image_descriptor(live)
            for i in others:
                found[i].compared += 1
                values = self.submaps[i].places.similarities(descriptors)
                near = most_similar(values)
                found[i].similar += bool(near)
                link = self.compare(found[i], (i, number), near, k, live)
                if link is not None:
                    values[near], values[~self.is_elsewhere(link)] = -1.0, -1.0
                    self.compare(found[i], (i, number), most_similar(values), k, None)
        return found

    def compare(
        self, comparison: Comparison, pair: tuple[int, int], near: list[int], k: int, live: LiveFrame | None
    ) -> Link | None:
        """Look for keyframe k of the second submap near keyframes of the first: the first that is verified.

        It is among the links, and so is, not verified, what features say of the others: all ought to say the same.

        live: what the second map shows from there; None: nothing is to be verified.
        """
        found = None
        for n in near:
            link = self.match(pair, n, k)
            if link is None:
                continue
            comparison.matched += 1
            if live is not None and found is None:
                found = self.verify(link, live)
                link = found or link
            comparison.links.append(link)
        return found

    def is_elsewhere(self, link: Link) -> Tensor:
        """Which keyframes (K,) of the first submap lie far from where a link finds a frame of the second."""
        first = self.submaps[link.i]
        return ~is_within(first.T_oc[first.places.frames], first.T_oc[link.a] @ link.T_ab, REACH)

    def match(self, pair: tuple[int, int], n: int, k: int) -> Link | None:
        """What local features of keyframes n and k of two submaps say."""
        first, second = (self.submaps[i] for i in pair)
        motion = estimate_motion(first.places.images[n].features, second.places.images[k].features)
        if motion is None:
            return None
        return Link(pair[0], first.places.frames[n], pair[1], second.places.frames[k], motion.T_ab, verified=False)

    def verify(self, link: Link, live: LiveFrame) -> Link | None:
        """The link as what the first map shows has it; None where the second frame does not fit that."""
        first = self.submaps[link.i]
        T_init = (first.T_oc[link.a] @ link.T_ab).to(live.depth)[None]
        match = self.verifier.locate(live, partial(self.predict, first.map, live), T_init, T_init)
        if match is None:
            return None
        T_ab = se3.inverse(first.T_oc[link.a]) @ match.T_wc[0].double()
        return replace(link, T_ab=T_ab, verified=True)

    def predict(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor) -> SurfaceView:  # T_wc (1, 4, 4)
        """What a map shows from a pose relative to its origin."""
        K, size = live.surface.K, live.surface.size
        return predict_surfels(replace(map_, origin=None), T_wc, K, size, self.stable_confidence)

    @torch.no_grad()
    def agreement(self, first: FinishedSubmap, second: FinishedSubmap, most: int = 40) -> float:
        """Share of what two submaps in one world show at which their surfaces agree, rather than that one camera looked
        through what the other map shows; 1 where neither sees what the other shows.

        most: keyframes of each that are looked from.
        """
        agree = through = 0
        for seen, by in ((first, second), (second, first)):
            frames = by.places.frames
            for frame in frames[:: -(-len(frames) // most)]:
                live = view_again(by.map, by.T_oc[frame], by.submap.state_after.live)
                model = self.predict(seen.map, live, by.T_oc[frame].to(live.depth)[None])
                both, off = _front_differences(live, model)
                if int(both.sum()) < MIN_COVERED * both.numel():
                    continue
                tolerance = TOLERANCE + 3 * live.sigma
                agree += int((both & (off.abs() < tolerance)).sum())
                through += int((both & (off > tolerance)).sum())  # behind what is measured it may be hidden
        return agree / max(agree + through, 1) if agree + through else 1.0


def most_similar(values: Tensor) -> list[int]:  # (K,)
    """Those of the greatest values, if they are similar at all."""
    best = values.topk(min(CANDIDATES, len(values)))
    return [n for value, n in zip(*map(Tensor.tolist, best), strict=True) if value > MIN_SIMILARITY]


def _front_differences(live: LiveFrame, model: SurfaceView) -> tuple[Tensor, Tensor]:
    """Where a view and a map that is seen from its front both show something (B, H, W), and how much nearer that is."""
    facing = (model.normals * model.vertices).sum(-1) < 0
    both = (live.depth > 0) & (model.weights > 0) & facing
    return both, live.depth - model.vertices[..., 2]
