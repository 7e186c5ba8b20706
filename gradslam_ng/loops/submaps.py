"""Submaps of several passes: surfels archived, moved with keyframes, and reactivated where they are seen again."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.rendering.index_map import nearest_per_pixel, pixel_index, visible_pixels
from gradslam_ng.structures import LiveFrame, SurfelMap
from gradslam_ng.structures.surfels import concatenate


def partition(
    map_: SurfelMap,
    chosen: Tensor,  # (1, N) bool
) -> tuple[SurfelMap, SurfelMap]:
    """The surfels that are not chosen, and those that are."""
    chosen = chosen & map_.mask
    values = {k: v[chosen][None] for k, v in map_.attributes().items()}
    taken = replace(map_, **values, count=chosen.sum(-1))
    return map_.compact(~chosen), taken


def transform(
    map_: SurfelMap,
    keyframe: Tensor,  # (1, N) int64, of each surfel
    delta: Tensor,  # (K, 4, 4), motion of each keyframe in the world
) -> SurfelMap:
    """Surfels moved rigidly with their keyframes."""
    T = delta.to(map_.points)[keyframe]  # (1, N, 4, 4)
    points = se3.transform(T, map_.points[..., None, :])[..., 0, :]
    normals = se3.rotate(T, map_.normals[..., None, :])[..., 0, :]
    return replace(map_, points=points, normals=normals)


def reactivate(
    active: SurfelMap,
    archive: SurfelMap,
    live: LiveFrame,
    T_wc: Tensor,  # (1, 4, 4)
    frame: int,
    max_distance: float = 0.03,
) -> tuple[SurfelMap, SurfelMap]:
    """Archived surfels that a frame at T_wc sees again become active, merged with newer ones in their pixels.

    Of two passes' surfels on one surface the older stays in its place along the surface; off the surface, and in
    color, they are averaged by confidence. max_distance: greatest difference, meters, between a depth measured and what
    it shows.
    """
    size, K = live.surface.size, live.surface.K
    depth = live.surface.vertices[..., 2].flatten(1)  # (1, H W)
    T_cw = se3.inverse(T_wc)

    def visible(map_: SurfelMap) -> tuple[Tensor, Tensor, Tensor]:
        """Pixel, distance from the depth there, and whether the surfel is on the surface that the frame sees."""
        u, v, z, inside = visible_pixels(map_.points, map_.mask, T_cw, K, size, near=0.05)
        pixel = pixel_index(u, v, inside, size[1])
        off = (depth.gather(1, pixel) - z).abs()
        facing = (se3.rotate(T_cw, map_.normals)[..., 2] < 0) & (inside > 0)
        return pixel, off, facing & (depth.gather(1, pixel) > 0) & (off < max_distance)

    old_pixel, _, again = visible(archive)
    archive, back = partition(archive, again)
    back.updated.fill_(frame)
    pixel, off, here = visible(active)
    newer = nearest_per_pixel(pixel, off, here, size[0] * size[1]).gather(1, old_pixel[again][None])  # -1 for none
    back = merge_passes(back, active, newer)
    taken = torch.zeros(1, size[0] * size[1], dtype=torch.bool, device=depth.device)
    taken[:, old_pixel[again]] = True
    replaced = here & taken.gather(1, pixel)
    return concatenate(active.compact(~replaced), back), archive


def merge_passes(
    older: SurfelMap,
    newer: SurfelMap,
    partner: Tensor,  # (1, N) int64
) -> SurfelMap:
    """Surfels (1, N) of an older pass averaged with their partners in a newer one, -1 where there is none."""
    theirs, both = newer.gather(partner.clamp(min=0)), partner >= 0
    total = older.confidences + theirs["confidences"]
    matched = both & (total > 0)
    share = torch.where(matched, theirs["confidences"] / torch.where(matched, total, 1.0), 0.0)[..., None]
    off = ((theirs["points"] - older.points) * older.normals).sum(-1, keepdim=True)
    return replace(
        older,
        points=older.points + share * off * older.normals,
        colors=torch.lerp(older.colors, theirs["colors"], share),
        confidences=torch.where(matched, total, older.confidences),
    )
