"""Detection of dynamic objects during surfel fusion (dynamics estimation, Keller et al. 2013, section 5).

Depth measurements that hide a surface which is well known belong to something that has come there since, and so does
what is on one surface with them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.masks import heaviside, pad

# Of its confidence, what a measurement keeps that lies where one could see through before. At half a meter one counts
# a thousand times as much as at five meters (`depth_noise`), and thirty join a surfel until it counts as static: what
# has come close to the camera must count for less than the wall behind it even so.
DYNAMIC_WEIGHT = 1e-5
STATIC_AFTER = 30  # frames from which a surfel counts as static, whatever its confidence
MAX_GROWTH = 10  # steps of four pixels by which regions grow
DEPTH_CONTINUITY = 0.04  # of the depth, by which it differs at most between pixels four apart on one surface


def dynamic_mask(
    pixel: Tensor,  # (B, n) int64, of each surfel
    hidden: Tensor,  # (B, n), 1 for a reliable surfel that is hidden there, else 0
    candidate: Tensor,  # (B, H, W), 1 for measurements that match no static surfel, else 0
    depth: Tensor,  # (B, H, W), meters
) -> Tensor:
    """Which depth measurements (B, H, W) bool belong to dynamic objects. A discrete choice."""
    size = (candidate.shape[1], candidate.shape[2])
    return grow_regions(dilate_at(pixel, hidden, size), candidate, depth) > 0


@compiled(dynamic=("pixel", "chosen"), batched=True)
def dilate_at(
    pixel: Tensor,  # (B, n) int64
    chosen: Tensor,  # (B, n), 1 or 0
    size: tuple[int, int],
) -> Tensor:
    """1 for pixels (B, H, W) that are, or are next to, the `pixel` of a surfel for which `chosen` is 1."""
    pixels = size[0] * size[1]
    mark = torch.zeros(len(pixel), pixels + 1, dtype=chosen.dtype, device=pixel.device)
    mark = mark.scatter(1, torch.where(chosen > 0, pixel, pixels), 1.0)[:, :pixels].unflatten(1, size)
    return heaviside(box_sum(mark, 1))


def box_sum(image: Tensor, radius: int) -> Tensor:  # image (B, H, W)
    """Sums (B, H, W) over squares of 2 radius + 1 pixels."""
    for dim in (-1, -2):
        wide, size = pad(image, radius, dim), image.shape[dim]
        image = wide.narrow(dim, 0, size)
        for i in range(1, 2 * radius + 1):
            image = image + wide.narrow(dim, i, size)
    return image


@compiled(dynamic=(), batched=True)
def grow_regions(
    seed: Tensor,  # (B, H, W), 1 or 0
    candidate: Tensor,  # (B, H, W), 1 or 0
    depth: Tensor,  # (B, H, W), meters
) -> Tensor:
    """Candidates that are seeds, or on one surface with a patch of seeds: 1 or 0, (B, H, W).

    Regions grow as by Keller et al. 2013, section 5, over every fourth pixel of every fourth row, MAX_GROWTH at most.
    """
    seed = seed * candidate
    patch = 1.0 - heaviside(box_sum(1.0 - seed, 2))
    some = (slice(None), slice(2, None, 4), slice(2, None, 4))
    z, grown, open_ = depth[some], patch[some], candidate[some]
    links = []
    for dim in (-1, -2):
        size = z.shape[dim]
        a, b = z.narrow(dim, 0, size - 1), z.narrow(dim, 1, size - 1)
        links.append(heaviside(DEPTH_CONTINUITY * torch.minimum(a, b) - (a - b).abs()))
    for _ in range(MAX_GROWTH):
        for dim, link in zip((-1, -2), links, strict=True):
            size = z.shape[dim]
            forward = pad(grown.narrow(dim, 0, size - 1) * link, 1, dim).narrow(dim, 0, size)
            backward = pad(grown.narrow(dim, 1, size - 1) * link, 1, dim).narrow(dim, 1, size)
            grown = torch.maximum(grown, torch.maximum(forward, backward) * open_)
    spread = grown.repeat_interleave(4, 1).repeat_interleave(4, 2)
    height, width = seed.shape[1:]
    spread = torch.nn.functional.pad(spread, (0, max(0, width - spread.shape[2]), 0, max(0, height - spread.shape[1])))
    return torch.maximum(seed, heaviside(spread[:, :height, :width]) * candidate)
