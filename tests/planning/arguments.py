"""Calls of planners on maps, views, chains and linear systems, whose arguments are changed one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gradslam_ng import planning
from gradslam_ng.planning.occupancy import FREE, OCCUPIED
from tests.planning.volumes import sphere, volume_of

DOUBLE = torch.float64
Case = tuple[Callable[..., Tensor], dict[str, Any]]


def tensor(*values) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def floor() -> planning.Occupancy:
    """2 x 1.2 m with a wall from one side, half of which is unknown."""
    occupied, unknown = torch.zeros(2, 20, 12, dtype=torch.bool)
    occupied[9:11, :4] = unknown[9:11, 4:8] = True
    return planning.Occupancy.from_cells(occupied, unknown, cell=0.1)


def safe_path(**options) -> Tensor:
    given = {"start": tensor(0.2, 0.3), "goal": tensor(1.7, 0.3), "radius": 0.1} | options
    found = planning.safe_path(floor(), given.pop("start"), given.pop("goal"), **given)
    return torch.cat([found.points.flatten(), found.cost[None]])


def path_clearance(unknown: str = "blocked") -> Tensor:
    return tensor(planning.path_clearance(floor(), tensor([0.2, 0.9], [1.7, 0.9]), unknown=unknown))


def from_cells(**options) -> Tensor:
    occupied = torch.zeros(4, 5, dtype=torch.bool)
    occupied[1, 2] = True
    grid = planning.Occupancy.from_cells(**{"occupied": occupied} | options)
    return torch.cat([planning.esdf(grid).distance.flatten(), grid.centers().flatten()])


def of_map(**options) -> Tensor:
    given = {"up": (0.0, 0.0, 1.0), "floor": -0.6, "cell": 0.1} | options
    grid = planning.Occupancy.of(volume_of(sphere, 0.6, 0.1), **given)
    return torch.cat([grid.state.double().flatten(), grid.axes.flatten(), tensor(*grid.state.shape)])


def lqr(**options) -> Tensor:
    C, F = torch.eye(3, dtype=DOUBLE).expand(4, 3, 3), tensor([1.0, 0.1, 0.0], [0.0, 0.9, 0.2]).expand(3, 2, 3)
    given = {"C": C, "c": torch.zeros(4, 3, dtype=DOUBLE), "F": F, "f": None, "x0": tensor(1.0, -0.5)} | options
    return planning.lqr(**given).tau.flatten()


def dare(**options) -> Tensor:
    eye = torch.eye(2, dtype=DOUBLE)
    given = {"A": tensor([1.0, 0.1], [0.0, 1.1]), "B": tensor([0.0], [1.0]), "Q": eye, "R": eye[:1, :1]} | options
    return planning.dare(**given).flatten()


def soft_top_k(**options) -> Tensor:
    return planning.soft_top_k(**{"scores": tensor(0.1, 0.5, -0.3, 0.2), "k": 2} | options)


def potential(walls: str = "absorbing", **options) -> Tensor:
    grid = planning.ResistorGrid(torch.ones(4, 5, dtype=torch.bool), walls=walls)
    given = {"conductance": torch.ones(len(grid.edges), dtype=DOUBLE), "goal": (1, 2)} | options
    step_cost = given.pop("step_cost", None)
    found = grid.potential(**given)
    return torch.cat([found.value, planning.Controller(found).travel(step_cost)])


def chain(transposed: bool = False, **options) -> Tensor:
    given = {"weights": tensor(0.5, 0.2), "rows": torch.tensor([1, 2]), "cols": torch.tensor([0, 1])} | options
    made = planning.AbsorbingChain(given.pop("weights"), **given, count=3)
    return (made.solve_transposed if transposed else made.solve)(tensor(1.0, 2.0, 3.0))


def corridor(unknown: float = 0.1) -> planning.Uncertainty:
    grid = planning.Occupancy.from_cells(torch.zeros(20, 8, 8, dtype=torch.bool), cell=0.2, origin=(0.1, -0.7, -0.7))
    state = torch.full_like(grid.state, FREE)
    state[10:12] = OCCUPIED
    opacity = torch.tensor([unknown, 0.0, 1.0], dtype=DOUBLE)[state.long()]
    return planning.Uncertainty(opacity, (state == OCCUPIED).to(opacity), grid, unknown)


def pose(x: Tensor) -> Tensor:  # x (..., 2), along the corridor and yaw
    yaw, zero = x[..., 1], torch.zeros_like(x[..., 0])
    rows = [
        torch.stack([yaw.sin(), zero, yaw.cos(), x[..., 0]], -1), torch.stack([-yaw.cos(), zero, yaw.sin(), zero], -1),
        torch.stack([zero, zero - 1, zero, zero], -1), torch.stack([zero, zero, zero, zero + 1], -1),
    ]  # fmt: skip
    return torch.stack(rows, -2)


def pinhole(focal: float) -> Tensor:
    return tensor([focal, 0.0, 2.5], [0.0, focal, 1.5], [0.0, 0.0, 1.0])


def information(**options) -> Tensor:
    given = {"field": corridor(), "T_wc": pose(tensor(0.3, 0.1)), "K": pinhole(5.0), "size": (4, 6)} | options
    return planning.information(**given)[None]


def next_best_view(**options) -> Tensor:
    given = {"field": corridor(), "K": pinhole(5.0), "size": (4, 6), "pose": pose, "mean": tensor(1.0, 0.1),
             "std": tensor(0.5, 0.3), "limits": (-0.5, 1.5), "samples": 20, "elites": 3, "iterations": 3,
             "refinements": 2} | options  # fmt: skip
    generator = torch.Generator().manual_seed(given.pop("seed", 0))
    found = planning.next_best_view(**given, generator=generator)
    return torch.cat([found.parameters, found.information[None], found.sampled[None]])


def convolutional(kind: type[planning.ConvolutionalPlanner]) -> Callable[..., Tensor]:
    def run(**options) -> Tensor:
        torch.manual_seed(0)
        given = {"hidden": 4, "iterations": 60, "tolerance": 1e-6} | options
        maps = torch.rand(1, given.get("inputs", 2), 5, 5, generator=torch.Generator().manual_seed(1))
        plan = kind(**given)(maps)
        return torch.cat([plan.logits.flatten(), plan.iterations.float()])

    return run


CHANGED_LAYERS = {"inputs": 3, "actions": 5, "hidden": 5, "kernel": 5, "iterations": 3, "tolerance": 0.1}  # fmt: skip
CASES: dict[str, Case] = {
    "safe_path": (safe_path, {"start": tensor(0.3, 0.3), "goal": tensor(1.7, 0.4), "radius": 0.15, "unknown": "free",
                              "smoothed": False}),
    "path_clearance": (path_clearance, {"unknown": "free"}),
    "esdf": (lambda **options: planning.esdf(floor(), **options).distance, {"unknown": "free"}),
    "Occupancy.from_cells": (from_cells, {"occupied": torch.zeros(4, 5, dtype=torch.bool), "cell": 0.5,
                                          "unknown": torch.ones(4, 5, dtype=torch.bool), "origin": (1.0, 2.0)}),
    "Occupancy.of": (of_map, {"up": (0.0, 1.0, 0.0), "heights": (0.1, 0.9), "cell": 0.2, "floor": -0.3}),
    "Occupancy.flatten": (lambda **options: floor_in_space().flatten(**options).state.double(), {"seen": 0.9}),
    "lqr": (lqr, {"C": 2 * torch.eye(3, dtype=DOUBLE).expand(4, 3, 3) - 0.5, "c": torch.ones(4, 3, dtype=DOUBLE),
                  "F": tensor([1.0, 0.1, 0.0], [0.0, 0.8, 0.2]).expand(3, 2, 3), "f": torch.ones(3, 2, dtype=DOUBLE),
                  "x0": tensor(1.0, 0.5)}),
    "dare": (dare, {"A": tensor([1.0, 0.2], [0.0, 1.1]), "B": tensor([0.1], [1.0]), "Q": tensor([2.0, 0.0], [0.0, 1.0]),
                    "R": tensor([2.0])[None]}),
    "soft_top_k": (soft_top_k, {"scores": tensor(0.1, 0.5, -0.3, 0.3), "k": 1, "temperature": 0.5}),
    "ResistorGrid.potential": (potential, {"conductance": torch.linspace(1, 2, 49, dtype=DOUBLE), "goal": (2, 2),
                                           "log": True, "walls": "reflecting"}),
    "Controller.travel": (potential, {"step_cost": torch.linspace(1, 2, 20, dtype=DOUBLE)}),
    "AbsorbingChain": (chain, {"weights": tensor(0.5, 0.3), "rows": torch.tensor([1, 1]), "transposed": True,
                               "cols": torch.tensor([0, 0])}),
    "information": (information, {"field": corridor(0.3), "T_wc": pose(tensor(0.3, 0.5)), "K": pinhole(6.0),
                                  "size": (3, 6), "max_depth": 1.0, "prior": 1.0}),
    "next_best_view": (next_best_view, {
        "field": corridor(0.3), "K": pinhole(6.0), "size": (3, 6), "mean": tensor(0.5, 0.1), "std": tensor(0.5, 0.5),
        "limits": (0.0, 0.4), "samples": 30, "elites": 8, "iterations": 4, "refinements": 9, "max_depth": 2.0,
        "prior": 1.0, "pose": lambda x: pose(0.5 * x), "seed": 1}),
    "VIN": (convolutional(planning.VIN), CHANGED_LAYERS | {"latent_actions": 3, "contraction": 0.5}),
    "ConvGPPN": (convolutional(planning.ConvGPPN), CHANGED_LAYERS),
}  # fmt: skip


def floor_in_space() -> planning.Occupancy:
    """Columns of five cells, of which the upper ones are unknown in one half."""
    unknown = torch.zeros(4, 4, 5, dtype=torch.bool)
    unknown[2:, :, 3:] = True
    return planning.Occupancy.from_cells(torch.zeros_like(unknown), unknown)
