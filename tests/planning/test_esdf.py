"""Signed distances of occupancy grids, against closed forms, brute force and central differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradslam_ng import planning
from gradslam_ng.planning import Occupancy
from gradslam_ng.structures import SurfelMap
from tests.planning.volumes import box, sphere, volume_of

UP = (0.0, 0.0, 1.0)


@pytest.mark.parametrize(("shape", "most"), [(sphere, 0.003), (box, 0.015)])  # a mesh cuts corners
def test_distances_are_those_of_the_shape(shape, most):
    """To the surface, beyond the truncation too; inside as deep as the volume knows."""
    grid = Occupancy.of(volume_of(shape), up=UP, floor=-1.013, heights=(0.1, 1.9))
    found = planning.esdf(grid, unknown="free")
    exact = shape(grid.centers())
    outside = exact > 0.001
    error = found.distance - exact
    assert error[outside].min() > -0.001 and error[outside].max() < 0.02 and error[exact > 0.15].max() < most
    deep = (exact < -0.05) & grid.occupied
    within = planning.esdf(grid, unknown="blocked").distance[deep]
    assert (within < 0).all() and (within - exact[deep]).abs().max() < 0.04
    x = grid.centers().requires_grad_()
    (slope,) = torch.autograd.grad(shape(x).sum(), x)
    away = exact > 0.15
    assert (found.gradient * slope).sum(-1)[away].min() > 0.95


def test_a_walls_distance_is_exact_in_the_plane():
    wall = volume_of(lambda p: p[..., 0] + 0.513)
    grid = Occupancy.of(wall, up=UP, floor=-1.013).flatten()
    found = planning.esdf(grid, unknown="free")
    x = grid.centers()[..., 0] + 0.513
    before = x > 0.001
    assert (found.distance - x)[before].abs().max() < 1e-6


def test_distances_equal_brute_force():
    torch.manual_seed(0)
    grid = Occupancy.of(volume_of(sphere), up=UP, floor=-1.013).flatten()
    found = planning.esdf(grid, unknown="free")
    near = (found.witness >= 0) & (found.distance > 0)
    expected = torch.cdist(grid.centers()[near], grid.surface).amin(-1)
    torch.testing.assert_close(found.distance[near], expected, rtol=0, atol=1e-7)  # cdist's own error
    for shape in ((17, 13), (9, 7, 8)):
        occupied = torch.rand(shape) < 0.1
        cells = Occupancy.from_cells(occupied, cell=0.1, origin=[0.3] * len(shape))
        x = cells.centers()
        expected = torch.cdist(x.flatten(0, -2), x[occupied]).amin(-1).view(shape) - 0.05
        distance = planning.esdf(cells, unknown="free").distance
        torch.testing.assert_close(distance[~occupied], expected[~occupied])
        assert (distance[occupied] < 0).all()


def test_unknown_cells_are_obstacles_or_not():
    unknown = torch.zeros(20, 20, dtype=torch.bool)
    unknown[:5] = True
    grid = Occupancy.from_cells(torch.zeros_like(unknown), unknown)
    blocked = planning.esdf(grid, unknown="blocked").distance
    assert blocked[9, 10] == pytest.approx(4.5) and blocked[18, 10] == pytest.approx(1.5)  # beyond the grid
    assert (blocked[unknown] < 0).all()
    for word in ("free", "costly"):
        assert (planning.esdf(grid, unknown=word).distance == grid.cell * 800**0.5).all()
    with pytest.raises(ValueError, match="blocked, free or costly"):
        planning.esdf(grid, unknown="maybe")


def test_no_free_cell_all_unknown_and_one_cell_are_finite():
    for occupied in (torch.ones(4, 4, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)):
        for word in ("blocked", "free"):
            found = planning.esdf(Occupancy.from_cells(occupied), unknown=word)
            assert found.distance.isfinite().all() and (found.distance <= 0).all()
    free = torch.zeros(1, 1, dtype=torch.bool)
    assert planning.esdf(Occupancy.from_cells(free), unknown="blocked").distance.item() == pytest.approx(0.5)
    found = planning.esdf(Occupancy.from_cells(free.expand(3, 3), ~free.expand(3, 3)))
    assert found.distance.isfinite().all() and (found.distance < 0).all()


def test_gradient_to_the_volume_equals_central_differences(differences):
    """With the nearest points held."""
    volume = volume_of(
        lambda p: torch.minimum(sphere(p, 0.413), box(p - p.new_tensor([0.6, 0.0, 0.0]), (0.2, 0.5, 0.3)))
    )

    def distances(sdf):
        grid = Occupancy.of(replace(volume, sdf=sdf), up=UP, floor=-1.013)
        solid, flat = (planning.esdf(g, unknown="free").distance for g in (grid, grid.flatten()))
        return {"solid": solid, "flat": flat}

    errors = differences(distances, {"sdf": volume.sdf})
    assert max(errors.values()) < 1e-6
    assert errors.keys() == {("solid", "sdf"), ("flat", "sdf")}


def test_gradient_is_one_where_a_surface_comes_nearer():
    volume = volume_of(box)
    grid = Occupancy.of(volume, up=UP, floor=-1.013, heights=(0.2, 1.8)).flatten()
    sdf = volume.sdf.clone().requires_grad_()
    moved = Occupancy.of(replace(volume, sdf=sdf), up=UP, floor=-1.013, heights=(0.2, 1.8)).flatten()
    distance = planning.esdf(moved, unknown="free").distance
    at = tuple(grid.index(torch.tensor([0.8, 0.0], dtype=torch.float64)).tolist())
    (gradient,) = torch.autograd.grad(distance[at], sdf)
    assert float(gradient.sum()) == pytest.approx(1.0, abs=1e-3)


def test_the_field_passes_through_the_distances():
    grid = Occupancy.of(volume_of(sphere), up=UP, floor=-1.013).flatten()
    found = planning.esdf(grid, unknown="free")
    torch.testing.assert_close(found.field()(grid.centers()), found.distance)


@pytest.mark.parametrize("place", [1.0, 1.025], ids=["at centers of cells", "between two cells"])
def test_a_wall_at_a_border_moves_nothing_by_rounding(place):
    """Walls are at round numbers of meters oftener than by chance, and cells are 5 cm."""
    sides = (torch.arange(0.013, end, 0.04, dtype=torch.float64) for end in (2.0, 1.4))
    along, up = torch.meshgrid(*sides, indexing="ij")
    points = torch.stack([torch.full_like(along, place), along, up], -1).reshape(1, -1, 3)
    normals = torch.tensor([-1.0, 0, 0], dtype=torch.float64).expand_as(points)
    size, times = points.shape[1], torch.zeros(points.shape[:2], dtype=torch.int64)
    ones = torch.ones(points.shape[:2], dtype=torch.float64)
    jitter = torch.randn(points.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for step in (1e-9, -1e-9):
        count = torch.tensor([size])
        map_ = SurfelMap(points + step * jitter, normals, 0.5 * normals.abs(), 0.02 * ones, ones, times, times, count)
        grid = Occupancy.of(map_, up=UP, floor=0.0, cell=0.05).flatten()
        found.append(planning.esdf(grid, unknown="free").distance)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-7)
