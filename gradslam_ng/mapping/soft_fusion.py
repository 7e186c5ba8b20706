"""Point fusion with soft association: maps that are continuous in depth and poses.

In Keller et al. 2013 a measurement joins the one surfel in its pixel, or becomes a new one; with the pose both change
by jumps. Here it is the surfel that looks for measurements: it averages those of the 3 x 3 pixels around its
projection, weighted by splines and by how well they fit, and a measurement becomes a new surfel as far as none
represents it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.safe import divide, rsqrt
from gradslam_ng.compute.soft import fade, smoothstep, spline_footprint
from gradslam_ng.geometry import camera, se3
from gradslam_ng.mapping.frame_surfels import surfels_from_frame
from gradslam_ng.structures import LiveFrame, SurfelMap

FAINT = 0.5  # confidence of a surfel that takes part by half, in measurements: new ones come without a jump


class SoftGates(NamedTuple):
    """How close a measurement and a surfel must be to match in full, and when a surfel is reliable.

    Up to twice the distance, and up to a right angle, they match in part.
    """

    depth: float  # meters, beside three standard deviations of the depth noise
    cosine: float  # of the angle between their normals
    reliable: Tensor  # (B, n), confidence


class Fused(NamedTuple):
    """Surfels after a frame, and what of the frame is new."""

    values: dict[str, Tensor]  # attributes (B, n, ...)
    matched: Tensor  # (B, n), sum of the shares of the measurements that joined
    represented: Tensor  # (B, P), how much surfels represent each measurement


def fuse_softly(
    map_: SurfelMap,
    live: LiveFrame,
    T_wc: Tensor,  # (B, 4, 4)
    ok: Tensor,  # (B,) bool
    frame: Tensor,  # () int64
    gates: SoftGates,
    sigma: float | Tensor,
) -> SurfelMap:
    """The map with one frame, seen from T_wc, fused in where `ok` holds."""
    n = map_.num_slots
    known = map_.prefix(n)
    new = checkpoint(surfels_from_frame, live, T_wc, sigma)
    new["confidences"] = new["confidences"] * ok[:, None]
    fused = checkpoint(join, known, new, live, T_wc, gates)
    new["confidences"] = new["confidences"] * smoothstep(1.0 - 2.0 * fused.represented)
    created = new["confidences"].detach() > 0
    updated = torch.where(fused.matched.detach() > 0.5, frame, known.updated)
    own, before, present = torch.arange(n, device=T_wc.device).expand(len(T_wc), n), known.created.clone(), known.mask
    map_, slots = map_.allocate(created)
    map_ = map_.scatter(own, present, **fused.values, created=before, updated=updated)
    number = frame.expand_as(slots)
    return map_.scatter(slots, created, **new, created=number, updated=number)


def join(
    known: SurfelMap,  # n slots
    new: dict[str, Tensor],  # attributes (B, P, ...)
    live: LiveFrame,
    T_wc: Tensor,  # (B, 4, 4)
    gates: SoftGates,
) -> Fused:
    """Each surfel averaged with the measurements around its projection."""
    height, width = size = live.surface.size
    x, y, z = se3.transform(se3.inverse(T_wc), known.points).unbind(-1)
    u, v, in_front = camera.project_soa((x, y, z), live.surface.K, 0.05)
    pixel, footprint = spline_footprint(u, v, in_front & known.mask, size)
    depth, sigma = live.surface.vertices[..., 2].flatten(1), live.sigma.flatten(1)
    scalars = torch.stack([new["radii"], new["confidences"], depth, gates.depth + 3 * sigma], -1)
    table = torch.cat([new["points"], new["normals"], new["colors"], scalars], -1).flatten(0, 1)
    there = table[pixel + torch.arange(len(z), device=z.device)[:, None, None] * (height * width)]
    p, normal, (measured, depth_there, reach) = there[..., :3], there[..., 3:6], there[..., 10:].unbind(-1)
    footprint = torch.where(measured.detach() > 0, footprint, 0.0)
    distance = ((known.points[..., None, :] - p) * normal).sum(-1)
    near = footprint * fade(0.5 * distance.abs() / reach)
    confidence = known.confidences
    present = divide(confidence[..., None], confidence[..., None] + FAINT * measured, measured.detach() > 0)
    cosine = (known.normals[..., None, :] * normal).sum(-1)
    share = near * present * smoothstep(cosine / gates.cosine)
    weight = share * measured
    matched, total, sums = share.sum(-1), weight.sum(-1), (weight[..., None] * there[..., :10]).sum(-2)
    free_space = (footprint * smoothstep(0.2 * (depth_there - z[..., None]) / reach - 1.0)).sum(-1)
    represented = torch.zeros_like(depth)
    represented = represented.scatter_add(1, pixel.flatten(1), ((1.0 + FAINT) * near * present).flatten(1))
    reliable = 0.5 * smoothstep(confidence / gates.reliable)
    kept = confidence * (1.0 - free_space.clamp(max=1.0) * (1.0 - reliable))
    return Fused(averaged(known, kept, total, sums, matched), matched, represented)


def averaged(
    known: SurfelMap,
    kept: Tensor,  # (B, n), confidence
    total: Tensor,  # (B, n), that of the measurements
    sums: Tensor,  # (B, n, 10), weighted points, normals, colors and radii of the measurements
    matched: Tensor,  # (B, n)
) -> dict[str, Tensor]:
    """Confidence-weighted averages (Keller et al. 2013, equations 1 to 4)."""
    met = total.detach() > 1e-9
    means = divide(sums, total[..., None], met[..., None])
    after = kept + total
    share = divide(total, after, met & (after.detach() > 1e-9))[..., None]
    points, colors = (
        torch.lerp(old, mean, share) for old, mean in ((known.points, means[..., :3]), (known.colors, means[..., 6:9]))
    )
    normals = torch.lerp(known.normals, means[..., 3:6], share)
    square = normals.square().sum(-1, keepdim=True)
    usable = square.detach() > 1e-12
    normals = torch.where(usable, normals * rsqrt(square, usable), known.normals)
    smaller = torch.minimum(known.radii, torch.where(met, means[..., 9], known.radii)) - known.radii
    return {
        "points": points, "normals": normals, "colors": colors,
        "radii": known.radii + matched.clamp(max=1.0) * smaller, "confidences": after,
    }  # fmt: skip
