"""Plans seen from above."""

from __future__ import annotations

import matplotlib.image
import pytest
import torch

from gradslam_ng import planning
from gradslam_ng.viz.floor_plan import plot_plan


def test_the_picture_shows_walls_and_the_path(tmp_path):
    occupied = torch.zeros(40, 20, dtype=torch.bool)
    occupied[19:21, :12] = True
    grid = planning.Occupancy.from_cells(occupied, cell=0.1)
    ends = torch.tensor([[0.3, 0.4], [3.6, 0.4]])
    path = planning.safe_path(grid, *ends, radius=0.2)
    shares = []
    for points in (None, path.points):
        plot_plan(
            tmp_path / "plan.png", grid, path.distances.distance, ends=ends, points=points, radius=0.2, title="a $ b"
        )
        image = matplotlib.image.imread(tmp_path / "plan.png")[..., :3]
        red = (image[..., 0] > 0.6) & (image[..., 1] < 0.3)
        dark = image.max(-1) < 0.3
        shares.append((red.mean(), dark.mean()))
    assert shares[1][0] > 2 * shares[0][0] > 0
    assert shares[0][1] > 0.02


def test_the_picture_outlines_where_there_is_room(tmp_path):
    grid = planning.Occupancy.from_cells(torch.zeros(40, 20, dtype=torch.bool), cell=0.1)
    distance = planning.esdf(grid).distance
    shares = []
    for radius in (0.0, 0.3, 5.0):
        plot_plan(tmp_path / "plan.png", grid, distance, radius=radius)
        image = matplotlib.image.imread(tmp_path / "plan.png")[..., :3]
        shares.append(((image[..., 0] > 0.75) & (image[..., 2] < 0.3)).mean())
    assert shares[0] == shares[2] == 0 < shares[1]


def test_a_grid_in_space_is_refused(tmp_path):
    grid = planning.Occupancy.from_cells(torch.zeros(3, 3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="in the plane"):
        plot_plan(tmp_path / "plan.png", grid, torch.zeros(3, 3, 3))
