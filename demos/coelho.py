"""A harmonic controller that learns to travel less: the example of Coelho, Sitaraman and Grupen (1995), redone.

A network of 17 x 17 resistors, an obstacle in the form of an I. The controller follows the potential, from everywhere
to one goal; conductances change so that all its paths together get shorter. Writes the paper's figures 2 to 5: the
shortest paths, those at equal conductances, the distance by step, and the final paths; and the conductances. Then the
same on the floor of a reconstructed room, and in space, 32 cells a side.

    python -m demos.coelho --out out
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates
from torch import Tensor

from benchmarks.planning.harmonic import GOAL, coelho, least_travel, shortest
from demos.common.room_map import floor_map, record, standing
from gradslam_ng.planning import Controller, Policy, ResistorGrid, policy_iteration

SHOWN = 7  # one of so many cells is the start of a path in the pictures
STEP, LONGEST = 0.1, 120.0  # cells
CELL, RADIUS = 0.05, 0.1  # of the room's map and of the robot, meters


def descend(direction: np.ndarray, free: np.ndarray, starts: np.ndarray, goal: tuple[int, ...]) -> np.ndarray:
    """Paths (n, B, dim) from cells (B, dim) along directions (*shape, dim), interpolated between free cells."""
    at, path = starts.astype(float), [starts.astype(float)]
    for _ in range(int(LONGEST / STEP)):
        there = np.linalg.norm(at - goal, axis=-1, keepdims=True) < 0.5
        if there.all():
            break
        pull = np.stack([map_coordinates(part * free, at.T, order=1) for part in np.moveaxis(direction, -1, 0)], -1)
        step = STEP * pull / np.maximum(np.linalg.norm(pull, axis=-1, keepdims=True), 1e-9)
        at = np.where(there, goal, at + step)
        path.append(at)
    return np.stack([*path, np.where(there, goal, at)])


def slopes(far: np.ndarray) -> np.ndarray:
    """Unit directions (X, Y, 2) down a distance, towards the lesser neighbor on each axis."""
    around = np.pad(far, 1, constant_values=np.inf)
    down = []
    for before, after in ((around[:-2, 1:-1], around[2:, 1:-1]), (around[1:-1, :-2], around[1:-1, 2:])):
        gain = np.where(np.isinf(far), 0.0, far) - np.minimum(before, after)
        down.append(np.clip(gain, 0.0, None) * np.where(after < before, 1.0, -1.0))
    field = np.stack(down, -1)
    return field / np.maximum(np.linalg.norm(field, axis=-1, keepdims=True), 1e-9)


def directions(controller: Controller) -> np.ndarray:
    """(*shape, dim), of each cell of the grid."""
    return controller.grid.spread(controller.direction().mT, 0.0).movedim(0, -1).detach().numpy()


def room() -> tuple[Tensor, tuple[int, int]]:
    """Where a robot fits on the floor of the living room (X, Y), 24 frames fused, and the cell nearest a corner."""
    free = standing(floor_map(record()[1], CELL), RADIUS)
    cells = free.nonzero()
    x, y = cells[(cells - torch.tensor(free.shape)).square().sum(-1).argmin()].tolist()
    return free, (x, y)


def cube(side: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Free cells (side, side, side): a box, and the I of the paper as a wall that leaves a gap at the top; the goal."""
    free = torch.ones(side, side, side, dtype=torch.bool)
    for axis in range(3):
        free.movedim(axis, 0)[[0, -1]] = False
    quarter, middle, high = side // 4, side // 2, 3 * side // 4
    free[middle, quarter:-quarter, :high] = False
    free[middle - side // 8 : middle + side // 8, [quarter, side - 1 - quarter], :high] = False
    return free, (side - side // 5, middle, quarter)


def improve(free: Tensor, goal: tuple[int, ...], steps: int, gradient: str = "exact") -> tuple[Policy, dict]:
    """Policy iteration, and its figures."""
    grid, optimum = ResistorGrid(free), least_travel(free, goal)
    grid.potential(torch.ones(len(grid.edges), dtype=torch.float64), goal)  # the structure of the equations, once
    began = time.process_time()
    policy = policy_iteration(grid, goal, gradient=gradient, steps=steps)
    won = policy.total[0] - policy.total
    return policy, {
        "cells": int(free.sum()),
        "shortest": optimum,
        "equal conductances, above it, %": 100 * float(policy.total[0] / optimum - 1),
        "best, above it, %": 100 * float(policy.total.min() / optimum - 1),
        "last, above it, %": 100 * float(policy.total[-1] / optimum - 1),
        "90% of the gain after": int((won >= 0.9 * won.max()).nonzero()[0]),
        "least gain": float(policy.least_gain.min()),
        "ms a step": 1e3 * (time.process_time() - began) / steps,
    }


def main(
    out: Path = Path("out"), steps: int = 400, room_steps: int = 200, cube_steps: int = 60, side: int = 32
) -> dict:
    """Write coelho.png and .json.

    Args:
        out: folder for both.
        steps: of each policy iteration on the paper's task.
        room_steps: in the room.
        cube_steps: in space.
        side: cells of the cube in space.
    """
    torch.set_num_threads(1)
    policies, numbers = {}, {}
    for gradient in ("exact", "surrogate", "local"):
        policies[gradient], numbers[gradient] = improve(coelho(), GOAL, steps, gradient)
    tasks = {"17 x 17": (coelho(), GOAL), "room": room(), f"{side} x {side} x {side}": cube(side)}
    policies["17 x 17"] = policies["exact"]
    for (name, (free, goal)), count in zip(list(tasks.items())[1:], (room_steps, cube_steps), strict=True):
        policies[name], numbers[name] = improve(free, goal, count)
    out.mkdir(parents=True, exist_ok=True)
    (out / "coelho.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "coelho.png", tasks, policies, numbers)
    print(json.dumps(numbers, indent=2))
    return numbers


def draw_paths(ax: Axes, free: np.ndarray, field: np.ndarray, goal: tuple[int, ...], title: str) -> None:
    """Walls, paths from some of the cells, and the goal."""
    cells = np.argwhere(free)
    starts = cells[:: max(SHOWN, len(cells) // 40)]
    for path in descend(field, free, starts, goal).swapaxes(0, 1):
        ax.plot(*path.T, lw=0.9, color="tab:blue")
    ax.plot(*starts.T, ".", ms=3, color="tab:blue")
    ax.plot(*np.array(goal)[:, None], "*", ms=12, color="tab:red")
    if free.ndim == 2:
        ax.imshow(~free.T, origin="lower", cmap="Greys", vmax=2)
        ax.set(xticks=[], yticks=[])
    else:
        inside = np.zeros_like(free)
        inside[1:-1, 1:-1, 1:-1] = ~free[1:-1, 1:-1, 1:-1]
        ax.voxels(inside, facecolors="#80808030")
    ax.set_title(title)


def draw(path: Path, tasks: dict, policies: dict[str, Policy], numbers: dict) -> None:
    """Paths before and after in all three, the distances by step, and the paper's conductances."""
    figure = Figure(figsize=(13, 13), dpi=110, layout="constrained")
    last = next(reversed(tasks))
    kinds: list[dict] = [{} for _ in range(9)]
    kinds[-1] = {"projection": "3d"}
    axes = [figure.add_subplot(3, 3, k + 1, **kind) for k, kind in enumerate(kinds)]
    for k, (name, (free, goal)) in zip((1, 6), tasks.items(), strict=False):
        grid = ResistorGrid(free)
        for after, g in enumerate((torch.ones_like(policies[name].conductance), policies[name].conductance)):
            field = directions(Controller(grid.potential(g, goal)))
            title = f"{name}: " + ("after policy iteration" if after else "equal conductances")
            draw_paths(axes[k + after], free.numpy(), field, goal, title)
    draw_paths(axes[0], coelho().numpy(), slopes(shortest(coelho(), GOAL)), GOAL, "17 x 17: shortest paths")
    free, goal = tasks[last]
    field = directions(Controller(ResistorGrid(free).potential(policies[last].conductance, goal)))
    draw_paths(axes[8], free.numpy(), field, goal, f"{last}: after policy iteration")
    for name in ("exact", "surrogate", "local"):
        axes[3].plot(policies[name].total.numpy(), label=name)
    axes[3].axhline(numbers["exact"]["shortest"], color="black", lw=1, label="shortest")
    axes[3].set(xlabel="step", ylabel="17 x 17: travel distance from all cells, in cells")
    axes[3].legend()
    for name, (free, goal) in tasks.items():
        above = 100 * (policies[name].total / least_travel(free, goal) - 1)
        axes[4].semilogy(above.clamp(min=1e-5).numpy(), label=name)
    axes[4].set(xlabel="step", ylabel="above the shortest, %")
    axes[4].legend()
    grid, conductance = ResistorGrid(coelho()), policies["exact"].conductance
    inner = grid.edges[:, 1] >= 0
    ends = grid.cells[grid.edges[inner]].numpy()  # (n, 2, 2)
    axes[5].imshow(~coelho().T.numpy(), origin="lower", cmap="Greys", vmax=2)
    lines = LineCollection(list(ends), array=conductance[inner].log10().numpy(), cmap="viridis", linewidths=3)
    figure.colorbar(axes[5].add_collection(lines), ax=axes[5], label="log10 conductance", location="bottom", pad=0.01)
    axes[5].set(title="17 x 17: conductances learned", xticks=[], yticks=[])
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
