"""Point-based fusion (Keller et al. 2013): depth measurements are averaged into surfels or become new ones."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.compute.masks import heaviside, pad, stack_last
from gradslam_ng.geometry import camera, se3
from gradslam_ng.mapping.dynamics import dilate_at, grow_regions
from gradslam_ng.mapping.frame_surfels import surfels_from_frame
from gradslam_ng.rendering.index_map import nearest_per_pixel, pixel_index, visible_pixels
from gradslam_ng.structures import LiveFrame, SurfelMap

# Of its confidence, what a reading keeps that stands where one could see through before. At half a metre a reading says
# a thousand times what one at five metres does (`depth_noise`), and thirty join a surfel until it counts as static:
# what has come close to the camera must count for less than the wall behind it even so.
DYNAMIC_WEIGHT = 1e-5
STATIC_AFTER = 30  # frames after which it is believed to stay


class PointFuser(nn.Module):
    """Point fusion after Keller et al. 2013, section 4.

    What stands before a surface that is known, where nothing stood, has come there since, and may go: it counts for
    little until it has stood for a second. So somebody who walks by is not tracked against, and is carved away behind
    them.

    Args:
        sigma: width of the weight's fall towards the image's edge, relative to the half diagonal.
        depth_gate: a reading belongs to a surfel when their depths differ by less than this, metres, plus three
            standard deviations of the depth noise.
        max_angle: and when their normals differ by less than this, degrees.
        stable_confidence: confidence from which a surfel counts as part of the surface.
        max_unseen_frames: frames for which a surfel that is not yet stable may go unseen before it is removed.
        min_track_length: frames between a surfel's first measurement and its last from which a twentieth of that
            confidence is enough to stay: what is far away or at the image's edge gathers it slowly, but outliers are
            not measured again.
        prune_every: frames between removals.

    Raises:
        ValueError: a setting that is not more than 0.
    """

    capturable = True

    def __init__(
        self,
        sigma: float = 0.6,
        depth_gate: float = 0.01,
        max_angle: float = 45.0,
        stable_confidence: float = 1.0,
        max_unseen_frames: int = 20,
        min_track_length: int = 5,
        prune_every: int = 10,
    ) -> None:
        super().__init__()
        settings = {"sigma": sigma, "depth_gate": depth_gate, "max_angle": max_angle}
        settings |= {"stable_confidence": stable_confidence, "max_unseen_frames": max_unseen_frames}
        settings |= {"min_track_length": min_track_length, "prune_every": prune_every}
        for name, value in settings.items():
            if not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")
        self.sigma, self.depth_gate, self.max_angle = sigma, depth_gate, max_angle
        self.stable_confidence, self.max_unseen_frames = stable_confidence, max_unseen_frames
        self.min_track_length, self.prune_every = min_track_length, prune_every

    def forward(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int | Tensor) -> SurfelMap:
        """map_ with one frame, seen from T_wc (B, 4, 4), fused in where ok (B,) holds.

        frame: its number. Where that is a tensor () int64, nothing is removed: the host would have to wait to know
        whether it is time to; call `prune` when it is.
        """
        reliable = self.reliable_mask(map_)
        surfel, unmatched, dynamic, free_space_violation = self.associate(map_, live, T_wc, ok, reliable)
        map_, slots = self.decay_free_space(map_, free_space_violation, reliable).allocate(unmatched)
        matched = surfel >= 0
        number = frame if isinstance(frame, Tensor) else torch.full((), frame, device=slots.device)
        slots = torch.where(matched, surfel, slots)
        map_ = merge(map_, slots, matched, unmatched, dynamic, live, T_wc, number, self.sigma)
        return self.prune(map_, ok, frame) if number is not frame and frame % self.prune_every == 0 else map_

    @discrete
    def associate(
        self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, reliable: Tensor
    ) -> tuple[Tensor, ...]:
        """Which surfel each reading belongs to, given those `reliable` (B, N). Discrete: constants of the gradient.

        Returns surfel (B, P) int64, -1 for none; unmatched (B, P) bool: no surfel of the reading's surface lies within
        one pixel; dynamic (B, P) bool: it, or the surface that it is part of, hides a reliable surfel, and it joins no
        static one; free_space_violation (B, n) bool, the first n slots: a surfel in what was seen to be free space.
        """
        n, surface = map_.num_slots, live.surface
        valid = (surface.weights > 0) & ok[:, None, None]
        surfel, unmatched, free_space_violation, pixel, hidden, free = match(
            map_.points[:, :n], map_.normals[:, :n], map_.mask[:, :n], reliable[:, :n],
            self.static_mask(map_)[:, :n], surface.vertices, surface.normals, valid,
            live.sigma, T_wc, surface.K, self.depth_gate, math.cos(math.radians(self.max_angle)),
        )  # fmt: skip
        dynamic = grow_regions(dilate_at(pixel, hidden, surface.size), free, surface.vertices[..., 2])
        return surfel, unmatched > 0, dynamic.flatten(1) > 0, free_space_violation > 0

    def decay_free_space(self, map_: SurfelMap, free_space_violation: Tensor, reliable: Tensor) -> SurfelMap:
        """Confidence halved for surfels found in free space: a few frames that see through one remove it.

        Those that are not `reliable` (B, N) go at once."""
        n = free_space_violation.shape[1]
        confidences = map_.confidences[:, :n]
        halved = torch.where(free_space_violation, torch.where(reliable[:, :n], 0.5, 0.0) * confidences, confidences)
        if not torch.is_grad_enabled():
            confidences.copy_(halved)
            return map_
        return dataclasses.replace(map_, confidences=torch.cat([halved, map_.confidences[:, n:]], dim=1))

    def prune(self, map_: SurfelMap, ok: Tensor, frame: int) -> SurfelMap:
        """Without the surfels that were seen for too short a time to be trusted, and are not any more."""
        return map_.compact(self.keep_mask(map_, ok, frame, self.max_unseen_frames))

    def finalize(self, map_: SurfelMap) -> SurfelMap:
        """The map after the last frame: without the surfels that wait for more, but for those fused last."""
        last = map_.updated.amax(-1, keepdim=True) if map_.capacity else 0
        ok = torch.ones_like(map_.count, dtype=torch.bool)
        return map_.compact(self.keep_mask(map_, ok, last, min(self.max_unseen_frames, self.min_track_length)))

    @discrete
    def keep_mask(self, map_: SurfelMap, ok: Tensor, frame: int | Tensor, max_unseen_frames: int) -> Tensor:
        """Which surfels (B, N) to keep: a discrete choice. A lost camera cannot tell."""
        recent = (frame - map_.updated < max_unseen_frames) & (map_.confidences > 0)
        return self.reliable_mask(map_) | recent | ~ok[:, None]

    def reliable_mask(self, map_: SurfelMap) -> Tensor:
        """Which surfels (B, N) were seen for long enough to be more than strays."""
        persistent = map_.updated - map_.created >= self.min_track_length
        return map_.confidences >= self.stable_confidence * torch.where(persistent, 0.05, 1.0)

    def static_mask(self, map_: SurfelMap) -> Tensor:
        """Which surfels (B, N) are part of the room, whatever they hide."""
        return (map_.confidences >= self.stable_confidence) | (map_.updated - map_.created >= STATIC_AFTER)


@compiled(dynamic=("points", "normals", "mask", "reliable", "static"))
def match(
    points: Tensor,
    normals: Tensor,
    mask: Tensor,
    reliable: Tensor,
    static: Tensor,
    vertices: Tensor,
    seen_normals: Tensor,
    valid: Tensor,
    sigma: Tensor,
    T_wc: Tensor,
    K: Tensor,
    depth_gate: float,
    cosine: float,
) -> tuple[Tensor, ...]:
    """See `PointFuser.associate`. Surfels points, normals (B, n, 3), world, mask, reliable and static (B, n); a frame's
    vertices and normals (B, H, W, 3), camera, valid and sigma (B, H, W).

    Returns surfel, unmatched and free_space_violation; the pixel of each surfel, and whether it is reliable and hidden
    there, (B, n); and which readings (B, H, W) join no static surfel. What is so or not is 1 or 0, as numbers:
    compiled, images of bool are written byte by byte.
    """
    height, width = valid.shape[-2:]
    depth = torch.where(valid, vertices[..., 2], 0.0)
    gate = torch.where(valid, depth_gate + 3 * sigma, 0.0)
    n = se3.rotate_soa(T_wc, seen_normals.flatten(1, 2).unbind(-1))
    u, v, z, inside = visible_pixels(points, mask, se3.inverse(T_wc), K, (height, width), near=0.05)

    pixel = pixel_index(u, v, inside, width)
    behind = depth.flatten(1).gather(1, pixel) - z  # positive where the surfel lies in front of the reading
    agreement = sum(a * b.gather(1, pixel) for a, b in zip(normals.unbind(-1), n, strict=True))
    within = inside * gate.flatten(1).gather(1, pixel)  # 0 where it is not seen or there is no reading
    belongs = (behind.abs() < within) & (agreement > cosine)
    surfel = nearest_per_pixel(pixel, behind.abs(), belongs, height * width)
    free_space_violation = heaviside(within) * heaviside(behind - 5 * within)
    there, seen = surfel.unflatten(1, (height, width)) >= 0, surfel.clamp(min=0)
    planes = (plane.gather(1, seen).unflatten(1, (height, width)) for plane in (u, v, z))
    unmatched = heaviside(gate) * (1.0 - is_represented(*planes, there, depth, gate))
    hidden = reliable.to(z.dtype) * heaviside(within) * heaviside(-behind - 5 * within)
    free = heaviside(gate) * (1.0 - (there & static.gather(1, seen).unflatten(1, (height, width))).to(z.dtype))
    return surfel, unmatched.flatten(1), free_space_violation, pixel, hidden, free


def is_represented(u: Tensor, v: Tensor, z: Tensor, there: Tensor, depth: Tensor, gate: Tensor) -> Tensor:
    """1 for readings next to a surfel of their surface: among the four pixels around its centre, and within `gate`.

    All (B, H, W): u, v, pixels, and z, metres, of the surfel whose centre falls into a pixel, where `there`; the depth.
    """
    height, width = z.shape[-2:]
    grid = camera.pixel_grid(height, width, z.device, z.dtype)
    z = torch.where(there, z, -1.0)  # nothing is near it
    right, lower = (u >= grid[..., 0]).to(z.dtype), (v >= grid[..., 1]).to(z.dtype)  # the side it reaches to
    z, right, lower = (pad(pad(plane, 1, -1), 1, -2) for plane in (z, right, lower))
    result = torch.zeros_like(depth)
    for dv in (-1, 0, 1):
        for du in (-1, 0, 1):
            theirs = (plane[:, 1 + dv : 1 + dv + height, 1 + du : 1 + du + width] for plane in (z, right, lower))
            neighbour, to_right, to_lower = theirs
            near = heaviside(gate - (neighbour - depth).abs())
            near = near if du == 0 else near * (to_right if du < 0 else 1.0 - to_right)
            near = near if dv == 0 else near * (to_lower if dv < 0 else 1.0 - to_lower)
            result = torch.maximum(result, near)
    return result


@compiled(dynamic=("map_",))
def merge(
    map_: SurfelMap,
    slots: Tensor,
    matched: Tensor,
    unmatched: Tensor,
    dynamic: Tensor,
    live: LiveFrame,
    T_wc: Tensor,
    frame: Tensor,
    sigma: float | Tensor,
) -> SurfelMap:
    """The map with the readings of a frame averaged into `slots` (B, P) where matched, written where unmatched."""
    old = map_.gather(slots)
    created = torch.where(matched, old.pop("created"), frame)
    del old["updated"]
    values = checkpoint(average, old, matched, dynamic, live, T_wc, sigma)
    return map_.scatter(slots, matched | unmatched, **values, created=created, updated=frame.expand_as(created))


def average(
    old: dict[str, Tensor], matched: Tensor, dynamic: Tensor, live: LiveFrame, T_wc: Tensor, sigma: float | Tensor
) -> dict[str, Tensor]:
    """The surfels that readings leave: confidence-weighted averages where they join one (equations 1 to 4).

    old: the surfel of each reading, attributes (B, P, ...), where matched (B, P) holds; elsewhere it makes one. Those
    that are dynamic (B, P) count less.
    """
    new = surfels_from_frame(live, T_wc, sigma)
    new["confidences"] = torch.where(dynamic, DYNAMIC_WEIGHT, 1.0) * new["confidences"]
    total = torch.where(matched, old["confidences"], 0.0) + new["confidences"]
    averaged = matched & (total > 0)
    share = torch.where(averaged, new["confidences"] / torch.where(averaged, total, 1.0), 1.0)
    points, normals, colors = (
        [torch.lerp(a, b, share) for a, b in zip(old[name].unbind(-1), new[name].unbind(-1), strict=True)]
        for name in ("points", "normals", "colors")
    )
    square = sum(n * n for n in normals)
    usable = square > 1e-12
    shrink = torch.where(usable, square, 1.0).rsqrt()
    normals = (torch.where(usable, n * shrink, was) for n, was in zip(normals, old["normals"].unbind(-1), strict=True))
    return {
        "points": stack_last(*points),
        "normals": stack_last(*normals),
        "colors": stack_last(*colors),
        "radii": torch.where(matched, torch.minimum(old["radii"], new["radii"]), new["radii"]),
        "confidences": total,
    }
