"""Maps of several passes: surfels put away, moved with their keyframes, and brought back where they are seen again."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.rendering.index_map import index_map, pixel_index, visible_pixels
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
    return map_.keep(~away), gone


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
    """Archived surfels that a frame at T_wc (1, 4, 4) sees again become active, in place of newer ones in their pixels.

    gate: greatest difference in depth, metres, between a reading and what it shows.
    """
    size, K = live.surface.size, live.surface.K
    depth = live.surface.vertices[..., 2].flatten(1)

    def seen(map_: SurfelMap) -> tuple[Tensor, Tensor, Tensor]:
        u, v, z, inside = visible_pixels(map_.points, map_.mask, se3.inverse(T_wc), K, size, near=0.05)
        pixel = pixel_index(u, v, inside, size[1])
        reading = depth.gather(1, pixel)
        facing = (se3.rotate(se3.inverse(T_wc), map_.normals)[..., 2] < 0) & inside
        return pixel, (reading - z).abs(), facing & (reading > 0) & ((reading - z).abs() < gate)

    pixel, _, again = seen(archive)
    archive, back = split(archive, again)
    back.updated.fill_(frame)
    occupied = torch.zeros(1, size[0] * size[1] + 1, dtype=torch.bool, device=depth.device)
    occupied.scatter_(1, torch.where(again, pixel, size[0] * size[1]), True)
    occupied[:, -1] = False
    pixel, _, here = seen(active)
    covered = here & occupied.gather(1, pixel)
    return joined(active.keep(~covered), back), archive


def colors_seen(map_: SurfelMap, T_wc: Tensor, K: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Colour (1, P, 3) of the nearest surfel in each pixel, and its depth (1, P), 0 where there is none."""
    index = index_map(map_.points, map_.mask, T_wc, K, size)
    p_c = se3.transform(se3.inverse(T_wc), gather(map_.points, index).flatten(1, 2))
    return gather(map_.colors, index).flatten(1, 2), torch.where(index.flatten(1) >= 0, p_c[..., 2], 0.0)
