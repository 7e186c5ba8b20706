from __future__ import annotations

import pytest
import torch

from gradslam_ng.geometry import se3
from gradslam_ng.rendering.index_map import index_map, nearest_per_pixel

K = torch.tensor([[[50.0, 0, 19.5], [0, 50, 14.5], [0, 0, 1]]])
SIZE = (30, 40)


def on_pixel(u: float, v: float, z: float) -> list[float]:
    """The point at depth z on the ray of (u, v)."""
    return [(u - 19.5) / 50 * z, (v - 14.5) / 50 * z, z]


def look(points, T_wc=None, mask=None, K=K, **options) -> torch.Tensor:
    points = torch.tensor(points)[None]
    mask = torch.ones(points.shape[:2], dtype=torch.bool) if mask is None else torch.tensor(mask)[None]
    return index_map(points, mask, torch.eye(4)[None] if T_wc is None else T_wc, K, SIZE, **options)[0]


def test_a_surfel_is_seen_in_the_pixel_it_projects_to_and_nowhere_else():
    index = look([on_pixel(3, 7, 2.0), on_pixel(39, 29, 1.0), on_pixel(0, 0, 5.0)])
    assert index[7, 3] == 0 and index[29, 39] == 1 and index[0, 0] == 2
    assert (index >= 0).sum() == 3 and index.dtype == torch.int64


@pytest.mark.parametrize("off", [-0.49, 0.49])
def test_pixels_reach_half_a_pixel_around_their_center(off):
    assert look([on_pixel(3 + off, 7 - off, 2.0)])[7, 3] == 0
    assert look([on_pixel(0 - abs(off), 29 + abs(off), 2.0)])[29, 0] == 0


def test_outside_the_image_behind_and_too_near_are_not_seen():
    points = [
        on_pixel(-0.51, 5, 2.0), on_pixel(39.51, 5, 2.0), on_pixel(5, -0.51, 2.0), on_pixel(5, 29.51, 2.0),
        on_pixel(5, 5, -2.0), [0.0, 0.0, 0.0], on_pixel(5, 5, 0.04),
    ]  # fmt: skip
    assert (look(points) == -1).all()
    assert look([on_pixel(5, 5, 0.04)], near=0.01)[5, 5] == 0


def test_the_nearest_wins_and_of_equals_the_first():
    index = look([on_pixel(3, 7, 2.0), on_pixel(3, 7, 1.999), on_pixel(3, 7, 2.001)])
    assert index[7, 3] == 1
    assert look([on_pixel(3, 7, 2.0)] * 4)[7, 3] == 0


def test_masked_points_hide_nothing():
    index = look([on_pixel(3, 7, 1.0), on_pixel(3, 7, 2.0)], mask=[False, True])
    assert index[7, 3] == 1


def test_the_camera_may_stand_anywhere():
    T_wc = se3.exp(torch.tensor([[1.0, -2.0, 0.5, 0.3, -2.0, 0.4]]))
    points = se3.transform(T_wc, torch.tensor([[on_pixel(3, 7, 2.0), on_pixel(30, 20, 3.0)]]))[0].tolist()
    index = look(points, T_wc)
    assert index[7, 3] == 0 and index[20, 30] == 1 and (index >= 0).sum() == 2


def test_batch_elements_do_not_see_each_other():
    points = torch.tensor([[on_pixel(3, 7, 2.0), on_pixel(3, 7, 3.0)], [on_pixel(3, 7, 2.0), on_pixel(9, 9, 1.0)]])
    mask = torch.tensor([[False, True], [True, True]])
    index = index_map(points, mask, torch.eye(4).expand(2, 4, 4), K.expand(2, 3, 3), SIZE)
    assert index[0, 7, 3] == 1 and (index[0] >= 0).sum() == 1
    assert index[1, 7, 3] == 0 and index[1, 9, 9] == 1 and (index[1] >= 0).sum() == 2


def test_agrees_with_the_obvious_way_on_many_points():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(5000, 3, generator=generator) * torch.tensor([4.0, 3, 4]) - torch.tensor([2.0, 1.5, 1])
    index = look(points.tolist())
    best = {}
    for i, (x, y, z) in enumerate(points.tolist()):
        u, v = (int((a / max(z, 1e-6) * 50 + c + 0.5) // 1) for a, c in ((x, 19.5), (y, 14.5)))
        if z > 0.05 and 0 <= u < 40 and 0 <= v < 30 and z < best.get((v, u), (9.9, 0))[0]:
            best[v, u] = (z, i)
    assert len(best) > 300
    found = {(v, u): int(index[v, u]) for v, u in (index >= 0).nonzero().tolist()}
    assert found == {pixel: i for pixel, (_, i) in best.items()}


def test_nearest_per_pixel_takes_the_least_rank_of_the_candidates():
    pixel = torch.tensor([[0, 0, 2, 2, 2, 3]])
    rank = torch.tensor([[0.5, 0.25, 0.0, 1e-30, 0.0, 7.0]])
    candidate = torch.tensor([[True, True, False, True, True, False]])
    assert nearest_per_pixel(pixel, rank, candidate, 4).tolist() == [[1, -1, 4, -1]]
