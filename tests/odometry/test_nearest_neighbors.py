from __future__ import annotations

import math

import pytest
import torch

from gradslam_ng.odometry import nearest_neighbors
from gradslam_ng.odometry.nearest_neighbors import NearestNeighbors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_all_pairs(dtype):
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(3, n, 3, generator=generator, dtype=dtype) for n in (200, 300))
    index, distance = nearest_neighbors(p, q)
    table = (p[:, :, None] - q[:, None]).norm(dim=-1)
    assert torch.equal(index, table.argmin(-1)) and index.dtype == torch.int64
    assert torch.allclose(distance, table.amin(-1)) and distance.dtype == dtype


def test_a_cloud_is_searched_many_times():
    q = torch.randn(1, 50, 3, generator=torch.Generator().manual_seed(0))
    find = NearestNeighbors(q)
    for _ in range(2):
        index, distance = find(q)
        assert torch.equal(index[0], torch.arange(50)) and (distance == 0).all()
    index, distance = find(q[:, :0])
    assert index.shape == distance.shape == (1, 0)


def test_points_that_are_not_finite_are_far_from_everything():
    p = torch.tensor([[[0.0, 0, 0], [math.nan, 0, 0], [0, math.inf, 0]]])
    index, distance = nearest_neighbors(p, torch.ones(1, 1, 3))
    assert index.tolist() == [[0, 0, 0]]
    assert distance[0].isfinite().tolist() == [True, False, False]


def test_a_discrete_choice_has_no_gradient():
    p = torch.randn(1, 4, 3, requires_grad=True)
    index, distance = nearest_neighbors(p, p)
    assert not index.requires_grad and not distance.requires_grad


@pytest.mark.parametrize(
    ("p", "q"),
    [((1, 2, 3), (1, 0, 3)), ((1, 2, 3), (5, 3)), ((1, 2, 3), (1, 5, 2)), ((2, 2, 3), (1, 5, 3)), ((2, 3), (1, 5, 3))],
)
def test_other_shapes_are_refused(p, q):
    with pytest.raises(ValueError, match="expected shape"):
        nearest_neighbors(torch.zeros(p), torch.zeros(q))


def test_a_cloud_with_nan_is_refused():
    with pytest.raises(ValueError, match="finite"):
        nearest_neighbors(torch.zeros(1, 2, 3), torch.full((1, 2, 3), math.nan))
