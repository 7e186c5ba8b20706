"""Shortest paths, travel times and value iteration: `python -m benchmarks.planning.grids`.

One thread. A quarter of the cells are walls, cost between 1 and 2, 8 actions; travel times with a tenth of walls.

- values: forward and backward of soft values (temperature 0.1) and hard ones, by size; what autograd keeps for it.
- sweeps: the paper's first experiment (IDPlan): the same at 64 x 64 by number of sweeps, implicit and unrolled.
- home: the share of reachable starts that arrive over the shortest path, in mazes.
- travel: travel times beside scikit-fmm where it is at hand; errors in constant cost; gradient.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.planning.control_peers import at_hand
from benchmarks.planning.harmonic import least_ms, serpentine
from benchmarks.planning.mazes import arrived, batch, truth
from benchmarks.report import save
from gradslam_ng.planning import ValueIteration, shortest_path, travel_time

TEMPERATURE = 0.1


def random_map(*shape: int, walls: float, seed: int = 0) -> tuple[Tensor, tuple[int, ...]]:
    """Cost with walls, and the cell in the middle as goal."""
    rng = np.random.default_rng(seed)
    cost = torch.from_numpy(1 + rng.random(shape))
    cost[torch.from_numpy(rng.random(shape) < walls)] = torch.inf
    goal = tuple(size // 2 for size in shape)
    cost[goal] = 1.0
    return cost, goal


def timed(solver: ValueIteration, cost: Tensor, goal: tuple[int, ...], repeats: int) -> dict:
    """Milliseconds, MB that autograd keeps, and whether it has converged."""
    forward, backward, kept = [], [], {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    for _ in range(repeats):
        cost = cost.detach().clone().requires_grad_()
        kept.clear()
        begin = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            found = solver(cost, goal)
        forward.append(time.perf_counter() - begin)
        loss = torch.where(found.reachable, found.cost_to_go, 0.0).sum()
        begin = time.perf_counter()
        torch.autograd.grad(loss, cost)
        backward.append(time.perf_counter() - begin)
    row = {"forward_ms": 1e3 * min(forward), "backward_ms": 1e3 * min(backward), "kept_mb": sum(kept.values()) / 1e6}
    return row | {"converged": bool(found.converged), "iterations": int(found.iterations)}


def gradient_error(solver: ValueIteration, cost: Tensor, goal: tuple[int, ...], cells: int = 12) -> float:
    """Against central differences of fourth order in some cells, relative to the largest entry."""
    weights = torch.randn(cost.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(cost: Tensor) -> Tensor:
        found = solver(cost, goal)
        return (torch.where(found.reachable, found.cost_to_go, 0.0) * weights).sum()

    x = cost.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    errors = []
    for at in cost.isfinite().nonzero()[:: int(cost.isfinite().sum()) // cells].tolist():
        step = torch.zeros_like(cost)
        step[tuple(at)] = 1e-3
        near, far = (float(loss(cost + k * step) - loss(cost - k * step)) / (2e-3 * k) for k in (1, 2))
        errors.append(abs((4 * near - far) / 3 - float(gradient[tuple(at)])))
    return max(errors) / float(gradient.abs().max())


def values(repeats: int = 5) -> dict:
    rows = {}
    for size in (64, 128, 256):
        cost, goal = random_map(size, size, walls=0.25)
        for name, temperature in (("soft", TEMPERATURE), ("hard", 0.0)):
            row = timed(ValueIteration(8, temperature=temperature), cost, goal, repeats)
            if size == 64 and temperature:
                row["error"] = gradient_error(ValueIteration(8, temperature=temperature), cost, goal)
            rows[f"{size} {name}"] = row
            print(size, name, row, flush=True)
    return rows


def sweeps(repeats: int = 3) -> dict:
    cost, goal = random_map(64, 64, walls=0.25)
    rows, again = {}, {}
    for count in (50, 100, 200, 400, 1000):
        row = {}
        for backward in ("implicit", "unroll"):
            solver = ValueIteration(8, temperature=TEMPERATURE, backward=backward, iterations=count)
            row[backward] = timed(solver, cost, goal, repeats)
        x = cost.clone().requires_grad_()
        found = ValueIteration(8, temperature=TEMPERATURE, iterations=count)(x, goal)
        again[str(count)] = torch.where(found.reachable, found.cost_to_go, 0.0).sum(), x
        rows[str(count)] = row
    for _ in range(20):  # in turn, so that what else the machine does meets all alike
        for count, (loss, x) in again.items():
            spent = least_ms(lambda loss=loss, x=x: torch.autograd.grad(loss, x, retain_graph=True), 1)
            rows[count]["implicit"]["backward_ms"] = min(spent, rows[count]["implicit"]["backward_ms"])
    print(rows, flush=True)
    return rows


def home() -> dict:
    """Share of reachable starts that arrive, and the steps of the longest path, in mazes."""
    rows = {}
    for size, count in ((15, 100), (27, 50), (49, 30), (255, 2)):
        free, goals = batch(size, count, seed=3)
        free = torch.cat([free, serpentine(size)[None]])
        goals = torch.cat([goals, torch.ones(1, 2, dtype=torch.int64)])
        found = shortest_path(torch.where(free, 1.0, torch.inf).double(), goals, connectivity=4)
        reachable = found.reachable
        steps = truth(free, goals)
        rows[str(size)] = {
            "success": float(arrived(found.successor, free, goals)[reachable].double().mean()),
            "longest": int(steps[reachable].max()),
        }
        print(size, rows[str(size)], flush=True)
    return rows


def peer(cost: Tensor, goal: tuple[int, ...], order: int) -> np.ndarray:
    """scikit-fmm's travel time; it takes the source for the border of the goal's cell."""
    import skfmm

    free = cost.isfinite().numpy()
    phi = np.ones(cost.shape)
    phi[goal] = -1
    return skfmm.travel_time(np.ma.MaskedArray(phi, ~free), 1 / np.where(free, cost.numpy(), 1.0), order=order)


def travel(repeats: int = 5) -> dict:
    beside = at_hand("skfmm")
    rows = {}
    smooth = torch.linspace(0, 6, 256, dtype=torch.float64)
    bumps = 1 + 20 * torch.sigmoid((smooth.sin()[:, None] * (1.3 * smooth).sin() - 0.2) / 0.04)
    cases = {
        "256 x 256, a tenth walls": random_map(256, 256, walls=0.1),
        "64 x 64 x 64, a twentieth walls": random_map(64, 64, 64, walls=0.05),
        "256 x 256, smooth, 1 to 21": (bumps, (40, 200)),
        "256 x 256, winding corridor": (torch.where(serpentine(256), 1.0, torch.inf).double(), (1, 1)),
    }
    for name, (cost, goal) in cases.items():
        x = cost.clone().requires_grad_()
        found = travel_time(x, goal)
        loss = torch.where(found.reachable, found.time, 0.0).mean()
        row = {
            "forward_ms": least_ms(lambda x=x, goal=goal: travel_time(x, goal), repeats),
            "backward_ms": least_ms(lambda x=x, loss=loss: torch.autograd.grad(loss, x, retain_graph=True), repeats),
        }
        for order in (1, 2) if beside else ():
            row[f"skfmm_{order}_ms"] = least_ms(lambda c=cost, g=goal, k=order: peer(c, g, k), repeats)
        rows[name] = row
        print(name, row, flush=True)
    return {"rows": rows, "errors": travel_errors(beside)}


def travel_errors(beside: bool) -> dict:
    """Largest error in cells in constant cost, 201 x 201 from the middle; scikit-fmm from a circle of 5 cells, too."""
    far = torch.arange(-100, 101, dtype=torch.float64)
    r = torch.hypot(far[:, None], far)
    errors = {"ours": float((travel_time(torch.ones_like(r), (100, 100)).time - r).abs().max())}
    if beside:
        import skfmm

        for order in (1, 2):
            found = skfmm.travel_time((r - 5).numpy(), np.ones(r.shape), order=order)
            errors[f"scikit-fmm, order {order}, from a circle"] = float(np.abs(found - np.abs(r.numpy() - 5)).max())
    print(errors, flush=True)
    return errors


def main() -> None:
    torch.set_num_threads(1)
    figures = {"values": values(), "sweeps": sweeps(), "home": home(), "travel": travel()}
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(save("planning_grids", figures, images="none"))


if __name__ == "__main__":
    tyro.cli(main)
