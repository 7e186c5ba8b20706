"""Weights that fade: where they are level, where they end, and that splines share a point out between pixels."""

import torch

from gradslam_ng.compute.soft import fade, smoothstep, spline_footprint


def test_what_is_well_within_a_gate_counts_in_full_and_what_is_beyond_it_nothing():
    assert torch.equal(fade(torch.tensor([0.0, 0.3, 0.5, 1.0, 7.0])), torch.tensor([1.0, 1, 1, 0, 0]))
    x = torch.linspace(-0.5, 1.5, 401, dtype=torch.float64)
    assert smoothstep(x).diff().min() >= 0 and smoothstep(x).diff().max() < 1.6 * 0.005  # it rises, nowhere by a jump


def test_splines_share_a_point_out_and_keep_its_place():
    u = torch.linspace(2, 6, 57, dtype=torch.float64)
    v = torch.linspace(5.7, 3, 57, dtype=torch.float64)
    pixel, weight = spline_footprint(u, v, torch.ones(57, dtype=torch.bool), (9, 10))
    torch.testing.assert_close(weight.sum(-1), torch.ones_like(u))
    torch.testing.assert_close((weight * (pixel % 10)).sum(-1), u)
    torch.testing.assert_close((weight * (pixel // 10)).sum(-1), v)


def test_a_footprint_ends_with_the_image_and_behind_the_camera():
    u, v = torch.tensor([-1.6, -1.0, 4.0]), torch.tensor([2.0, 2.0, 2.0])
    in_front = torch.tensor([True, True, False])
    _, weight = spline_footprint(u, v, in_front, (5, 6))
    assert weight[0].sum() == 0 and 0 < weight[1].sum() < 0.2 and weight[2].sum() == 0
