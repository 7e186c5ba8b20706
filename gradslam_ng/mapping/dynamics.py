"""What has come into a room since it was mapped: readings that hide what was seen there, and what those belong to."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.masks import heaviside, pad

MAX_GROWTH = 10  # steps of four pixels that doubt spreads over a surface
DEPTH_CONTINUITY = 0.04  # of the depth, by which it differs at most between pixels four apart on one surface


@compiled(dynamic=("pixel", "chosen"))
def dilate_at(pixel: Tensor, chosen: Tensor, size: tuple[int, int]) -> Tensor:
    """1 for pixels (B, H, W) that are, or are next to, the `pixel` (B, n) of a surfel for which chosen (B, n) is 1."""
    pixels = size[0] * size[1]
    mark = torch.zeros(len(pixel), pixels + 1, dtype=chosen.dtype, device=pixel.device)
    mark = mark.scatter(1, torch.where(chosen > 0, pixel, pixels), 1.0)[:, :pixels].unflatten(1, size)
    return heaviside(box_sum(mark, 1))


def box_sum(image: Tensor, reach: int) -> Tensor:
    """Sums of an image (B, H, W) over squares of 2 reach + 1 pixels."""
    for dim in (-1, -2):
        wide = pad(image, reach, dim)
        image = sum(wide.narrow(dim, i, image.shape[dim]) for i in range(2 * reach + 1))
    return image


@compiled(dynamic=())
def grow_regions(seed: Tensor, candidate: Tensor, depth: Tensor) -> Tensor:
    """Candidates that are seeds, or on one surface with a patch of seeds: 1 or 0, all (B, H, W); depth, metres.

    Regions grow as by Keller et al. 2013, section 5, over every fourth pixel of every fourth row, GROWTH at most.
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
