"""Maps of several passes: surfels put away, moved with their keyframes, and brought back where they are seen again."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.rendering.index_map import index_map, nearest_per_pixel, pixel_index, visible_pixels
from gradslam_ng.rendering.surfels import gather
from gradslam_ng.structures import LiveFrame, SurfelMap


def joined(first: SurfelMap, second: SurfelMap) -> SurfelMap:
    """All surfels of two maps (batches of one)."""
    a, b = first[0], second[0]
    together = {k: torch.cat([v, b.attributes()[k]], 1) for k, v in a.attributes().items()}
    return SurfelMap(**together, count=a.count + b.count)


def split(map_: SurfelMap, away: Tensor) -> tuple[SurfelMap, SurfelMap]:
    """The surfels that stay, and those of `away` (1, N)."""
    away = away & map_.mask
    gone = SurfelMap(**{k: v[away][None] for k, v in map_.attributes().items()}, count=away.sum(-1))
    return map_.compact(~away), gone


def moved(map_: SurfelMap, owner: Tensor, delta: Tensor) -> SurfelMap:
    """Surfels moved rigidly with their keyframes: owner (1, N) of each, delta (K, 4, 4) in the world."""
    T = delta.to(map_.points)[owner]  # (1, N, 4, 4)
    points = se3.transform(T, map_.points[..., None, :])[..., 0, :]
    normals = se3.rotate(T, map_.normals[..., None, :])[..., 0, :]
    attributes = map_.attributes() | {"points": points, "normals": normals}
    return SurfelMap(**attributes, count=map_.count)


def bring_back(
    active: SurfelMap, archive: SurfelMap, live: LiveFrame, T_wc: Tensor, frame: int, gate: float = 0.03
) -> tuple[SurfelMap, SurfelMap]:
    """Archived surfels that a frame at T_wc (1, 4, 4) sees again become active, fused with newer ones in their pixels.

    Of two passes' surfels on one surface the older stays in its place along the surface; off the surface, and in
    colour, they are averaged by confidence. gate: greatest difference in depth, metres, between a reading and what it
    shows.
    """
    size, K = live.surface.size, live.surface.K
    depth = live.surface.vertices[..., 2].flatten(1)

    def seen(map_: SurfelMap) -> tuple[Tensor, Tensor, Tensor]:
        u, v, z, inside = visible_pixels(map_.points, map_.mask, se3.inverse(T_wc), K, size, near=0.05)
        pixel = pixel_index(u, v, inside, size[1])
        off = (depth.gather(1, pixel) - z).abs()
        facing = (se3.rotate(se3.inverse(T_wc), map_.normals)[..., 2] < 0) & (inside > 0)
        return pixel, off, facing & (depth.gather(1, pixel) > 0) & (off < gate)

    old_pixel, _, again = seen(archive)
    archive, back = split(archive, again)
    back.updated.fill_(frame)
    pixel, off, here = seen(active)
    newer = nearest_per_pixel(pixel, off, here, size[0] * size[1]).gather(1, old_pixel[again][None])  # -1 for none
    back = fused(back, active, newer)
    occupied = torch.zeros(1, size[0] * size[1], dtype=torch.bool, device=depth.device)
    occupied[:, old_pixel[again]] = True
    covered = here & occupied.gather(1, pixel)
    return joined(active.compact(~covered), back), archive


def fused(older: SurfelMap, newer: SurfelMap, partner: Tensor) -> SurfelMap:
    """Surfels (1, N) of an older pass averaged with their partners (1, N) in a newer one, -1 where there is none."""
    theirs, both = newer.gather(partner.clamp(min=0)), partner >= 0
    total = older.confidences + theirs["confidences"]
    met = both & (total > 0)
    share = torch.where(met, theirs["confidences"] / torch.where(met, total, 1.0), 0.0)[..., None]
    off = ((theirs["points"] - older.points) * older.normals).sum(-1, keepdim=True)
    attributes = older.attributes() | {
        "points": older.points + share * off * older.normals,
        "colors": torch.lerp(older.colors, theirs["colors"], share),
        "confidences": torch.where(met, total, older.confidences),
    }
    return SurfelMap(**attributes, count=older.count)


def colors_seen(map_: SurfelMap, T_wc: Tensor, K: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Colour (1, P, 3) of the nearest surfel in each pixel, and its depth (1, P), 0 where there is none."""
    index = index_map(map_.points, map_.mask, T_wc, K, size)
    p_c = se3.transform(se3.inverse(T_wc), gather(map_.points, index).flatten(1, 2))
    return gather(map_.colors, index).flatten(1, 2), torch.where(index.flatten(1) >= 0, p_c[..., 2], 0.0)
