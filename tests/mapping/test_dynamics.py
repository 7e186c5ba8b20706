"""Doubt spreads from a patch over the surface that it is part of, and no farther."""

from __future__ import annotations

import torch

from gradslam_ng.mapping.dynamics import dilate_at, grow_regions

SIZE = (48, 64)


def patch(rows: slice, columns: slice) -> torch.Tensor:
    image = torch.zeros(1, *SIZE)
    image[:, rows, columns] = 1
    return image


def test_a_patch_spreads_over_its_surface_alone():
    depth = torch.full((1, *SIZE), 3.0)
    box = patch(slice(8, 40), slice(12, 36))
    depth[box > 0] = 1.3
    candidate = torch.ones_like(box)
    grown = grow_regions(patch(slice(16, 24), slice(16, 24)), candidate, depth)
    assert (grown * box).sum() > 0.8 * box.sum()
    assert (grown * (1 - box)).sum() < 0.25 * box.sum()  # the rim of a cell of four pixels


def test_lines_do_not_spread_nor_does_anything_to_what_is_no_candidate():
    depth, everywhere = torch.full((1, *SIZE), 2.0), patch(slice(None), slice(None))
    line = patch(slice(None), slice(20, 22))
    assert grow_regions(line, everywhere, depth).equal(line)
    seed, open_ = patch(slice(8, 20), slice(8, 20)), patch(slice(None), slice(0, 32))
    grown = grow_regions(seed, open_, depth)
    assert (grown * (1 - open_)).sum() == 0 and grown.sum() > 4 * seed.sum()
    assert not grow_regions(seed, torch.zeros_like(seed), depth).any()


def test_pixels_near_chosen_surfels():
    pixel = torch.tensor([[5 * SIZE[1] + 7, 20 * SIZE[1] + 30, 0]])
    near = dilate_at(pixel, torch.tensor([[1.0, 0.0, 1.0]]), SIZE)
    assert near.equal(patch(slice(4, 7), slice(6, 9)) + patch(slice(0, 2), slice(0, 2)))
