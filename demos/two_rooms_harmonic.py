"""Absorbing and reflecting walls, and what lies between: clearance against length in two rooms with a door.

With absorbing walls a harmonic controller keeps away from walls, with reflecting ones it goes along them (Connolly and
Grupen 1993). Singh et al. (1994) mix the two potentials by one number. Here that number is the conductance of the
resistors that join walls to their neighbors: every controller on the way from one to the other is that of a network of
resistors, and so is safe. It is learned by the gradient of a cost, the length of the way plus so much for each cell of
it that is close to walls; beside it all conductances are, by policy iteration.

    python -m demos.two_rooms_harmonic --out out
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from demos.coelho import descend, directions
from gradslam_ng.planning import Controller, ResistorGrid, policy_iteration

GOAL = (33, 6)
NEAR_COSTS = (0.0, 1.0, 5.0)  # added to 1 for a cell of way, one cell from a wall; falls by e each cell away
SCAN = torch.logspace(-6, 3, 19, dtype=torch.float64)  # conductances of walls


def two_rooms() -> Tensor:
    """Free cells (40, 24): a wall with a door, and a table in the second room."""
    free = torch.ones(40, 24, dtype=torch.bool)
    free[[0, -1]] = free[:, [0, -1]] = False
    free[19:21] = False
    free[19:21, 8:13] = True
    free[27:32, 9:15] = False
    return free


def nearness(free: Tensor) -> Tensor:
    """How close to walls each free cell (N,) is, exp(1 - distance)."""
    return torch.from_numpy(np.exp(1 - distance_transform_edt(free.numpy()))[free.numpy()])


def controller(grid: ResistorGrid, walls: Tensor) -> Controller:
    """Of conductances `walls` () of resistors into walls, and 1 of all others."""
    into = grid.edges[:, 1] < 0
    return Controller(grid.potential(torch.where(into, walls, 1.0), GOAL))


def cost(near_cost: float, near: Tensor) -> Callable[[Controller], Tensor]:
    """The index (..., N): the length of the way from each cell, cells of it close to walls costing more."""
    return lambda controller: controller.travel(1.0 + near_cost * near)


def learn(grid: ResistorGrid, index: Callable[[Controller], Tensor], steps: int) -> tuple[float, float]:
    """The conductance of walls of least mean cost over starts, by gradient descent on its logarithm; the cost."""
    log = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([log], lr=0.4)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    best = (float("inf"), 0.0)
    for _ in range(steps):
        value = index(controller(grid, log.exp())).mean()
        best = min(best, (float(value.detach()), float(log.detach().exp())))
        adam.zero_grad()
        value.backward()
        adam.step()
        falling.step()
    return best[1], best[0]


def main(out: Path = Path("out"), steps: int = 60, policy_steps: int = 200) -> dict:
    """Write two_rooms_harmonic.png and .json.

    Args:
        out: folder for both.
        steps: of gradient descent on the conductance of walls.
        policy_steps: of policy iteration on all conductances.
    """
    free = two_rooms()
    near, grid, open_grid = nearness(free), ResistorGrid(free), ResistorGrid(free, walls="reflecting")
    even = torch.ones((), dtype=torch.float64)
    reflecting = Controller(open_grid.potential(even.expand(len(open_grid.edges)), GOAL))
    numbers, curves, shown = {}, {}, {"absorbing walls": controller(grid, even), "reflecting walls": reflecting}
    for near_cost in NEAR_COSTS:
        index = cost(near_cost, near)
        curves[near_cost] = [float(index(controller(grid, walls)).mean()) for walls in SCAN]
        walls, learned = learn(grid, index, steps)
        policy = policy_iteration(grid, GOAL, index=index, steps=policy_steps)
        numbers[f"cost near walls {near_cost:g}"] = {
            "absorbing": float(index(shown["absorbing walls"]).mean()),
            "reflecting": float(index(reflecting).mean()),
            "best of the scan": min(curves[near_cost]),
            "one number learned": learned,
            "conductance of walls": walls,
            "all conductances learned": float(policy.total.min()) / len(grid.cells),
        }
        last = Controller(grid.potential(policy.conductance, GOAL))
        shown[f"all learned, cost near walls {near_cost:g}"] = last
        shown[f"walls learned, cost near walls {near_cost:g}"] = controller(grid, torch.tensor(walls).double())
    numbers["controllers"] = {
        name: {
            "mean length": float(one.travel().mean()),
            "mean nearness of the way": float(one.travel(near).sum() / one.travel().sum()),
            "led to the goal": float(one.led_home().double().mean()),
        }
        for name, one in shown.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "two_rooms_harmonic.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "two_rooms_harmonic.png", shown, curves, numbers)
    print(json.dumps(numbers, indent=2))
    return numbers


def draw(path: Path, shown: dict[str, Controller], curves: dict[float, list[float]], numbers: dict) -> None:
    """Paths of controllers over lines of equal potential, and cost by the conductance of walls."""
    free = two_rooms().numpy()
    figure = Figure(figsize=(13, 8), dpi=100, layout="constrained")
    axes = figure.subplots(2, 3).flatten()
    far = f"{NEAR_COSTS[-1]:g}"
    titles = [
        "absorbing walls", "reflecting walls", "all learned, cost near walls 0",
        f"walls learned, cost near walls {far}", f"all learned, cost near walls {far}",
    ]  # fmt: skip
    for ax, title in zip(axes, titles, strict=False):
        one = shown[title]
        value = one.potential.on_grid().detach()
        value = value if one.potential.kind == "time" else value.log()
        ax.contour(value.T.numpy(), 30, linewidths=0.4, colors="0.6")
        ax.imshow(~free.T, origin="lower", cmap="Greys", vmax=2)
        for route in descend(directions(one), free, np.argwhere(free)[::41], GOAL).swapaxes(0, 1):
            ax.plot(*route.T, lw=0.9, color="tab:blue")
        ax.plot(*np.array(GOAL)[:, None], "*", ms=12, color="tab:red")
        ax.set(title=title, xticks=[], yticks=[])
    for near_cost, values in curves.items():
        found = numbers[f"cost near walls {near_cost:g}"]
        (line,) = axes[5].semilogx(SCAN, np.array(values) / found["absorbing"], label=f"cost near walls {near_cost:g}")
        for name, at, mark in (
            ("one number learned", found["conductance of walls"], "o"),
            ("reflecting", SCAN[0], "<"),
        ):
            axes[5].plot(at, found[name] / found["absorbing"], mark, color=line.get_color())
        axes[5].axhline(found["all conductances learned"] / found["absorbing"], color=line.get_color(), ls=":")
    axes[5].set(xlabel="conductance into walls", ylabel="cost over that of absorbing walls")
    axes[5].set_title("o one number learned, < reflecting, dotted: all learned", fontsize=9)
    axes[5].legend()
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
