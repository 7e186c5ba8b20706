from __future__ import annotations

import numpy as np
import torch

from gradslam_ng.planning import Controller, ResistorGrid


def test_paths_along_the_field_end_at_the_goal_and_cross_no_wall(demo):
    module = demo("coelho")
    free = module.coelho()
    grid = ResistorGrid(free)
    field = module.directions(Controller(grid.potential(torch.ones(len(grid.edges)).double(), module.GOAL)))
    paths = module.descend(field, free.numpy(), np.argwhere(free.numpy()), module.GOAL)
    assert (paths[-1] == module.GOAL).all()
    assert free.numpy()[tuple(np.moveaxis(paths.round().astype(int), -1, 0))].all()


def test_the_slope_of_the_shortest_distance_leads_straight_to_the_goal(demo):
    module = demo("coelho")
    free = torch.ones(9, 9, dtype=torch.bool)
    field = module.slopes(module.shortest(free, (7, 4)))
    path = module.descend(field, free.numpy(), np.array([[1, 4]]), (7, 4))[:, 0]
    assert np.abs(path[:, 1] - 4).max() < 1e-9 and (np.diff(path[:, 0]) >= 0).all() and path[-1, 0] == 7


def test_travel_falls_in_plane_room_and_space(demo, tmp_path, monkeypatch):
    module = demo("coelho")
    free = torch.ones(12, 10, dtype=torch.bool)
    free[4:6, :6] = False
    monkeypatch.setattr(module, "room", lambda: (free, (10, 2)))
    numbers = module.main(tmp_path, steps=25, room_steps=8, cube_steps=8, side=10)
    assert numbers["exact"]["best, above it, %"] < 1.0 < numbers["exact"]["equal conductances, above it, %"]
    assert list(numbers)[3:] == ["room", "10 x 10 x 10"]
    for found in numbers.values():
        assert 0 <= found["best, above it, %"] < found["equal conductances, above it, %"]
        assert found["least gain"] > 0
    assert (tmp_path / "coelho.png").stat().st_size > 10_000
