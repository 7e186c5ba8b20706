"""A cost map learned from noisy pixels through the planner, at one size and tried at others.

`python -m benchmarks.planning.learned_map`, one thread. A network of 3 x 3 pixels sees each cell; its cost map goes
through soft value iteration, and the loss is the cross entropy of the policy with the optimal actions, in mazes of
15 x 15 alone. Tried with shortest paths on the learned cost: the share of reachable starts from which the path meets no
wall.
"""

from __future__ import annotations

import time

import torch
import tyro
from torch import Tensor, nn

from benchmarks.planning.mazes import PIXELS, arrived, batch, optimal_actions, picture, truth
from benchmarks.report import save
from gradslam_ng.planning import ValueIteration, shortest_path


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, PIXELS, stride=PIXELS), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 1, 1)
    )


def cost_of(model: nn.Module, pixels: Tensor) -> Tensor:
    """(B, X, Y), from 1 on, and up to what no way around a wall costs."""
    return 1 + model(pixels)[:, 0].clamp(max=8.0).exp()


def train(noise: float, steps: int, mazes: int = 8, temperature: float = 0.3, seed: int = 0) -> tuple[nn.Module, float]:
    """The network, and seconds."""
    torch.manual_seed(seed)
    model, planner = network(), ValueIteration(4, temperature=temperature)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    begin = time.perf_counter()
    for step in range(steps):
        free, goals = batch(15, mazes, seed=1000 + step)
        best = optimal_actions(truth(free, goals), planner.moves)
        found = planner(cost_of(model, picture(free, step, noise)), goals)
        wasted = (found.action_costs() - found.cost_to_go[:, None]).movedim(1, -1)[best.any(1)]
        chosen = torch.where(best.movedim(1, -1)[best.any(1)], -wasted / temperature, -torch.inf)
        loss = -chosen.logsumexp(-1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model, time.perf_counter() - begin


@torch.no_grad()
def success(model: nn.Module, noise: float, size: int, mazes: int = 40) -> tuple[float, int]:
    """Share of reachable starts that arrive, and steps of the longest shortest path."""
    free, goals = batch(size, mazes, seed=7)
    steps = truth(free, goals)
    found = shortest_path(cost_of(model, picture(free, 10**6 + size, noise)), goals, connectivity=4)
    reachable = steps.isfinite()
    home = arrived(found.successor, free, goals)
    return float(home[reachable].double().mean()), int(steps[reachable].max())


def main(steps: int = 200) -> None:
    torch.set_num_threads(1)
    rows = {}
    for noise in (0.35, 0.7):
        model, seconds = train(noise, steps)
        row = {"seconds": seconds, "steps": steps}
        for size in (15, 27, 49):
            share, longest = success(model, noise, size)
            row[str(size)] = {"success": share, "longest": longest}
        rows[str(noise)] = row
        print(noise, row, flush=True)
    print(save("planning_learned_map", {"rows": rows}, images="none"))


if __name__ == "__main__":
    tyro.cli(main)
