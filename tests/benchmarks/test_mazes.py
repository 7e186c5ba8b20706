"""Mazes, and the share of starts that arrive: what planners are judged by."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.planning.mazes import arrived, batch, maze, optimal_actions, truth
from gradslam_ng.planning import ValueIteration, shortest_path


def test_a_perfect_maze_has_one_way_between_any_two_cells():
    free = maze(15, np.random.default_rng(0), opened=0.0)
    edges = (free[1:] & free[:-1]).sum() + (free[:, 1:] & free[:, :-1]).sum()
    cost = torch.where(torch.from_numpy(free), 1.0, torch.inf)
    assert edges == free.sum() - 1 and shortest_path(cost, (1, 1)).reachable.sum() == free.sum()


def test_starts_arrive_along_shortest_paths_and_not_through_walls():
    free, goals = batch(15, 6, seed=0)
    found = shortest_path(torch.where(free, 1.0, torch.inf), goals, connectivity=4)
    assert torch.equal(arrived(found.successor, free, goals), found.reachable)
    through = shortest_path(torch.ones(free.shape), goals, connectivity=4)
    share = arrived(through.successor, free, goals)[found.reachable].double().mean()
    assert 0 < share < 1


def test_optimal_actions_are_those_of_the_exact_planner():
    free, goals = batch(9, 4, seed=1)
    solver = ValueIteration(4)
    found = solver(torch.where(free, 1.0, torch.inf).double(), goals)
    best = found.action_costs().amin(1, keepdim=True)
    expected = (found.action_costs() == best) & best.isfinite()
    assert torch.equal(optimal_actions(truth(free, goals), solver.moves), expected)
