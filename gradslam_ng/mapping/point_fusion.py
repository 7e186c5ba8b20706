"""Point-based fusion (Keller et al. 2013): depth measurements are averaged into surfels or become new ones."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import TIE
from gradslam_ng.compute.discrete import discrete as discrete_choice
from gradslam_ng.compute.masks import heaviside, pad, stack_last
from gradslam_ng.compute.safe import denominator, divide
from gradslam_ng.geometry import camera, se3
from gradslam_ng.mapping.dynamics import DYNAMIC_WEIGHT, STATIC_AFTER, dynamic_mask
from gradslam_ng.mapping.frame_surfels import surfels_from_frame
from gradslam_ng.mapping.mapper import Mapper
from gradslam_ng.mapping.soft_fusion import SoftGates, fuse_softly
from gradslam_ng.rendering.index_map import nearest_per_pixel, pixel_index, visible_pixels
from gradslam_ng.structures import LiveFrame, SurfelMap


class Association(NamedTuple):
    """Which surfel each depth measurement matches: constants of the gradient. P = H W measurements, n slots."""

    surfel: Tensor  # (B, P) int64, -1 for none
    unmatched: Tensor  # (B, P) bool: no surfel of the measurement's surface lies within one pixel
    dynamic: Tensor  # (B, P) bool: it, or the surface it is part of, hides a reliable surfel, and matches no static one
    retention: Tensor  # (B, n): what a surfel keeps of its confidence, less than 1 in what was seen to be free space


class Gates(NamedTuple):
    """How close a measurement and a surfel must be to match."""

    depth: float  # meters, beside three standard deviations of the depth noise
    cosine: float  # of the angle between their normals


class Reliability(NamedTuple):
    """Which surfels are known for long enough."""

    stable_confidence: float | Tensor
    min_track_length: int  # frames from which a twentieth of that is enough to be reliable

    def reliable_confidence(self, map_: SurfelMap) -> Tensor:
        """The confidence (B, N) from which each surfel is more than an outlier."""
        persistent = map_.updated - map_.created >= self.min_track_length
        return self.stable_confidence * torch.where(persistent, map_.confidences.new_full((), 0.05), 1.0)

    def reliable(self, map_: SurfelMap) -> Tensor:
        """Which surfels (B, N) were seen for long enough to be more than outliers."""
        return map_.confidences >= self.reliable_confidence(map_)

    def static(self, map_: SurfelMap) -> Tensor:
        """Which surfels (B, N) are part of the static scene, whatever they hide."""
        return (map_.confidences >= self.stable_confidence) | (map_.updated - map_.created >= STATIC_AFTER)


class PointFuser(Mapper[SurfelMap]):
    """Point fusion after Keller et al. 2013, section 4.

    What stands before a surface that is known, where nothing stood, has come there since, and may go: it counts for
    little until it has stood for a second. So somebody who walks by is not tracked against, and is removed behind
    them.

    Args:
        sigma: width of the weight's fall towards the image's edge, relative to the half diagonal; an `nn.Parameter` is
            learned.
        depth_gate: a measurement matches a surfel when their depths differ by less than this, meters, plus three
            standard deviations of the depth noise.
        max_angle: and when their normals differ by less than this, degrees.
        stable_confidence: confidence from which a surfel counts as part of the surface, and at which it weighs half in
            tracking; the gradient of an `nn.Parameter` is that of the weight.
        max_unseen_frames: frames for which a surfel that is not yet stable may go unseen before it is removed.
        min_track_length: frames between a surfel's first measurement and its last from which a twentieth of that
            confidence is enough to stay: what is far away or at the image's edge gathers it slowly, but outliers are
            not measured again.
        prune_every: frames between removals.
        association: "hard", or "soft" for a map that is continuous in depth and poses, so that its gradients hold over
            finite steps; see `soft_fusion`. Nothing is taken for dynamic then.

    Raises:
        ValueError: a setting that is not more than 0, or an association that is neither.
        TypeError: a parameter in the place of another setting: they decide what matches and what is removed.
    """

    map_type = SurfelMap
    capturable = True
    learnable = ("sigma", "stable_confidence")
    discrete = ("depth_gate", "max_angle", "max_unseen_frames", "min_track_length", "prune_every", "association")

    def __init__(
        self,
        sigma: float | Tensor = 0.6,
        *,
        depth_gate: float = 0.01,
        max_angle: float = 45.0,
        stable_confidence: float | Tensor = 1.0,
        max_unseen_frames: int = 20,
        min_track_length: int = 5,
        prune_every: int = 10,
        association: str = "hard",
    ) -> None:
        super().__init__()
        if association not in ("hard", "soft"):
            raise ValueError(f"association: expected hard or soft, got {association!r}")
        self.association, self.capturable = association, association == "hard"
        settings = {"sigma": sigma, "depth_gate": depth_gate, "max_angle": max_angle}
        settings |= {"stable_confidence": stable_confidence, "max_unseen_frames": max_unseen_frames}
        settings |= {"min_track_length": min_track_length, "prune_every": prune_every}
        for name, value in settings.items():
            if not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")
        if not max_angle <= 180:
            raise ValueError(f"max_angle: expected at most 180 degrees, got {max_angle}")
        self.sigma, self.depth_gate, self.max_angle = sigma, depth_gate, max_angle
        self.stable_confidence, self.max_unseen_frames = stable_confidence, max_unseen_frames
        self.min_track_length, self.prune_every = min_track_length, prune_every

    def forward(
        self,
        map_: SurfelMap,
        live: LiveFrame,
        T_wc: Tensor,  # (B, 4, 4)
        ok: Tensor,  # (B,) bool
        frame: int | Tensor,  # number of the frame, a tensor () int64
    ) -> SurfelMap:
        """The map with one frame, seen from T_wc, fused in where `ok` holds. Nothing is removed: see `prune`."""
        number = torch.zeros((), dtype=torch.int64, device=T_wc.device) + frame
        if self.association == "soft":
            known = map_.prefix(map_.num_slots)
            gates = SoftGates(self.depth_gate, self.min_cosine, self.reliability.reliable_confidence(known))
            return fuse_softly(map_, live, T_wc, ok, number, gates, self.sigma)
        pairs = self.associate(map_, live, T_wc, ok)
        map_ = self.decay_free_space(map_, pairs.retention)
        map_, new_slots = map_.allocate(pairs.unmatched)
        slots = torch.where(pairs.surfel >= 0, pairs.surfel, new_slots)
        return merge(map_, slots, pairs, live, T_wc, number, self.sigma)

    @discrete_choice
    def associate(
        self,
        map_: SurfelMap,
        live: LiveFrame,
        T_wc: Tensor,  # (B, 4, 4)
        ok: Tensor,  # (B,) bool
    ) -> Association:
        """Which surfel each depth measurement matches. A discrete choice."""
        gates = Gates(self.depth_gate, self.min_cosine)
        surfel, unmatched, retention, pixel, hidden, candidate = match(
            map_.prefix(map_.num_slots), live, T_wc, ok, gates, self.reliability
        )
        dynamic = dynamic_mask(pixel, hidden, candidate, live.surface.vertices[..., 2])
        return Association(surfel, unmatched > 0, dynamic.flatten(1), retention)

    def decay_free_space(self, map_: SurfelMap, retention: Tensor) -> SurfelMap:  # retention (B, n)
        """Confidence halved for surfels found in free space: a few frames that see through one remove it.

        Those that are not reliable go at once.
        """
        n = retention.shape[1]
        confidences = map_.confidences[:, :n]
        if not torch.is_grad_enabled():
            confidences.mul_(retention)
            return map_
        decayed = torch.cat([confidences * retention, map_.confidences[:, n:]], dim=1)
        return dataclasses.replace(map_, confidences=decayed)

    def prune(
        self,
        map_: SurfelMap,
        ok: Tensor,  # (B,) bool
        frame: int | Tensor,  # number of the last frame
    ) -> SurfelMap:
        """Without the surfels that were seen for too short a time to be trusted, and are not any more."""
        return map_.compact(self.keep_mask(map_, ok, frame, self.max_unseen_frames))

    def finalize(self, map_: SurfelMap) -> SurfelMap:
        """The map after the last frame: without the surfels that wait for more, but for those fused last."""
        last = map_.updated.amax(-1, keepdim=True) if map_.capacity else 0
        ok = torch.ones_like(map_.count, dtype=torch.bool)
        return map_.compact(self.keep_mask(map_, ok, last, min(self.max_unseen_frames, self.min_track_length)))

    @discrete_choice
    def keep_mask(
        self,
        map_: SurfelMap,
        ok: Tensor,  # (B,) bool
        frame: int | Tensor,  # (), or (B, 1)
        max_unseen_frames: int,
    ) -> Tensor:
        """Which surfels (B, N) to keep: a discrete choice. A lost camera cannot tell."""
        recent = (frame - map_.updated < max_unseen_frames) & (map_.confidences > 0)
        return self.reliability.reliable(map_) | recent | ~ok[:, None]

    @property
    def reliability(self) -> Reliability:
        """Which surfels are known for long enough, by this mapper's settings."""
        return Reliability(self.stable_confidence, self.min_track_length)

    @property
    def min_cosine(self) -> float:
        """Between the normals of a surfel and of a measurement that matches it."""
        return math.cos(math.radians(self.max_angle))


@compiled(dynamic=("map_",), batched=True)
def match(
    map_: SurfelMap,  # n slots
    live: LiveFrame,
    T_wc: Tensor,  # (B, 4, 4)
    ok: Tensor,  # (B,) bool
    gates: Gates,
    reliability: Reliability,
) -> tuple[Tensor, ...]:
    """The kernel of `PointFuser.associate`: pairs by projection.

    Returns surfel and unmatched (B, P), and retention (B, n), as in `Association`; the pixel of each surfel, and
    whether it is reliable and hidden there, (B, n); and which measurements (B, H, W) match no static surfel. What
    is so or not is 1 or 0, as numbers: compiled, images of bool are written byte by byte.
    """
    surface = live.surface
    height, width = surface.weights.shape[-2:]
    valid = (surface.weights > 0) & ok[:, None, None]
    depth = torch.where(valid, surface.vertices[..., 2], 0.0)
    gate = torch.where(valid, gates.depth + 3 * live.sigma, 0.0)
    nx, ny, nz = surface.normals.flatten(1, 2).unbind(-1)
    n = se3.rotate_soa(T_wc, (nx, ny, nz))
    u, v, z, inside = visible_pixels(map_.points, map_.mask, se3.inverse(T_wc), surface.K, (height, width), near=0.05)

    pixel = pixel_index(u, v, inside, width)
    behind = depth.flatten(1).gather(1, pixel) - z  # positive where the surfel lies in front of the measurement
    cosine = sum(a * b.gather(1, pixel) for a, b in zip(map_.normals.unbind(-1), n, strict=True))
    within = inside * gate.flatten(1).gather(1, pixel)  # 0 where it is not seen or there is a hole
    belongs = (behind.abs() < within) & (cosine > gates.cosine)
    surfel = nearest_per_pixel(pixel, behind.abs(), belongs, height * width)
    reliable = reliability.reliable(map_).to(z.dtype)
    retention = 1.0 - heaviside(within) * heaviside(behind - 5 * within) * (1.0 - 0.5 * reliable)
    matched, slot = surfel.unflatten(1, (height, width)) >= 0, surfel.clamp(min=0)
    u, v, z_surfel = (x.gather(1, slot).unflatten(1, (height, width)) for x in (u, v, z))
    z_surfel = torch.where(matched, z_surfel, -1.0)  # nothing is near it
    unmatched = heaviside(gate) * (1.0 - is_represented(u, v, z_surfel, depth, gate))
    hidden = reliable * heaviside(within) * heaviside(-behind - 5 * within)
    on_static = matched & reliability.static(map_).gather(1, slot).unflatten(1, (height, width))
    candidate = heaviside(gate) * (1.0 - on_static.to(z.dtype))
    return surfel, unmatched.flatten(1), retention, pixel, hidden, candidate


def is_represented(
    u: Tensor,  # (B, H, W), pixels, of the surfel whose center falls into a pixel
    v: Tensor,  # (B, H, W)
    z: Tensor,  # (B, H, W), meters, negative where there is no such surfel
    depth: Tensor,  # (B, H, W), meters
    gate: Tensor,  # (B, H, W), meters
) -> Tensor:
    """1 for measurements (B, H, W) next to a surfel of their surface: among the four pixels around its center, and
    within `gate`."""
    height, width = z.shape[-2:]
    grid = camera.pixel_grid(height, width, z.device, z.dtype)
    off = torch.stack([u, v], -1) + TIE - grid
    right, lower = (off[..., 0] >= 0).to(z.dtype), (off[..., 1] >= 0).to(z.dtype)  # the side it reaches to
    z, right, lower = (pad(pad(image, 1, -1), 1, -2) for image in (z, right, lower))
    result = torch.zeros_like(depth)
    for dv in (-1, 0, 1):
        for du in (-1, 0, 1):
            shifted = (image[:, 1 + dv : 1 + dv + height, 1 + du : 1 + du + width] for image in (z, right, lower))
            neighbor, to_right, to_lower = shifted
            near = heaviside(gate - (neighbor - depth).abs())
            near = near if du == 0 else near * (to_right if du < 0 else 1.0 - to_right)
            near = near if dv == 0 else near * (to_lower if dv < 0 else 1.0 - to_lower)
            result = torch.maximum(result, near)
    return result


@compiled(dynamic=("map_", "pairs"), recompute=False, batched=True)
def merge(
    map_: SurfelMap,
    slots: Tensor,  # (B, P) int64
    pairs: Association,
    live: LiveFrame,
    T_wc: Tensor,  # (B, 4, 4)
    frame: Tensor,  # () int64
    sigma: float | Tensor,
) -> SurfelMap:
    """The map with the measurements of a frame averaged into `slots` where they match, written there where not."""
    matched = pairs.surfel >= 0
    old = map_.gather(slots)
    created = torch.where(matched, old.pop("created"), frame)
    del old["updated"]
    values = checkpoint(average, old, matched, pairs.dynamic, live, T_wc, sigma)
    return map_.scatter(slots, matched | pairs.unmatched, **values, created=created, updated=frame.expand_as(created))


def keeps_radius(old: Tensor, new: Tensor) -> Tensor:  # (B, P), meters
    """Where the old radius is the smaller one (B, P) bool, also by rounding: one wall has the same ever again."""
    return old.detach() <= (1 + TIE) * new.detach()


@compiled(dynamic=(), batched=True)
def average(
    old: dict[str, Tensor],  # attributes (B, P, ...) of the surfel that each measurement matches
    matched: Tensor,  # (B, P) bool
    dynamic: Tensor,  # (B, P) bool
    live: LiveFrame,
    T_wc: Tensor,  # (B, 4, 4)
    sigma: float | Tensor,
) -> dict[str, Tensor]:
    """The surfels after a frame: confidence-weighted averages where `matched` (equations 1 to 4), new ones elsewhere.

    Dynamic measurements count less.
    """
    new = surfels_from_frame(live, T_wc, sigma)
    new["confidences"] = torch.where(dynamic, DYNAMIC_WEIGHT * new["confidences"], new["confidences"])
    total = torch.where(matched, old["confidences"], 0.0) + new["confidences"]
    share = divide(new["confidences"], total, matched & (total > 0), otherwise=1.0)
    points, normals, colors = (
        [torch.lerp(a, b, share) for a, b in zip(old[name].unbind(-1), new[name].unbind(-1), strict=True)]
        for name in ("points", "normals", "colors")
    )
    nx, ny, nz = normals
    square = nx * nx + ny * ny + nz * nz
    usable = square > 1e-12
    scale = denominator(square, usable).rsqrt()
    normals = [torch.where(usable, n * scale, was) for n, was in zip(normals, old["normals"].unbind(-1), strict=True)]
    return {
        "points": stack_last(*points),
        "normals": stack_last(*normals),
        "colors": stack_last(*colors),
        "radii": torch.where(matched & keeps_radius(old["radii"], new["radii"]), old["radii"], new["radii"]),
        "confidences": total,
    }
