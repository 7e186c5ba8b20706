"""Harmonic functions, policy iteration and top-k selection: `python -m benchmarks.planning.harmonic`.

One thread.

- grid: a network of 256 x 256 cells, a fifth of them walls: analysis of its structure once, then potential and gradient
  to all conductances.
- home: the share of cells led to the goal in a winding corridor, by the direct solution in float64, its logarithms and
  reflecting walls, and by what others do: conjugate gradients, single precision, Jacobi sweeps.
- coelho: 17 x 17 nodes, an obstacle in the form of an I, travel distance over that of the shortest paths on the same
  grid; the paper's map is a picture, this one a guess of it.
- top_k: 100 scores, 10 of them, batch 32, beside locuslab's `lml` where its one file is on the path.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
import tyro
from scipy import sparse
from scipy.sparse.linalg import cg, splu
from torch import Tensor

from benchmarks.planning.control_peers import at_hand
from benchmarks.report import save
from gradslam_ng.planning import Controller, Potential, ResistorGrid, policy_iteration, soft_top_k

GOAL = (13, 8)
CORRIDOR = 3  # cells wide


def coelho() -> Tensor:
    """Free cells (17, 17): a frame, and an I that lies on its side between the middle and the goal."""
    free = torch.ones(17, 17, dtype=torch.bool)
    free[[0, -1]] = free[:, [0, -1]] = False
    free[8, 5:12] = False
    free[6:11, 5] = free[6:11, 11] = False
    return free


def random_starts(grid: ResistorGrid, count: int, seed: int = 0) -> Tensor:
    """Conductances (count, E), log-normal."""
    generator = torch.Generator().manual_seed(seed)
    return (0.3 * torch.randn(count, len(grid.edges), generator=generator, dtype=torch.float64)).exp()


def shortest(free: Tensor, goal: tuple[int, ...]) -> np.ndarray:
    """Travel distance (*shape) by first-order upwind differences, which no controller on the grid can go below."""
    inside, dim = free.numpy(), free.ndim
    far = np.where(inside, 1e9, np.inf)
    far[goal] = 0.0
    while True:
        around = np.pad(far, 1, constant_values=np.inf)
        core = (slice(1, -1),) * dim
        ahead = [np.minimum(np.roll(around, 1, k)[core], np.roll(around, -1, k)[core]) for k in range(dim)]
        after = np.where(inside, np.minimum(far, arrive(np.sort(ahead, 0))), np.inf)
        if np.array_equal(after, far):
            return far
        far = after


def arrive(ahead: np.ndarray) -> np.ndarray:
    """t (...) of sum max(t - ahead, 0)^2 = 1 for the better neighbor of each axis, ahead (dim, ...), sorted."""
    ahead = ahead.clip(max=1e12)
    low = ahead[0]
    rise = ahead - low  # of distances from the lowest, so that nothing cancels
    t = np.ones_like(low)
    for count in range(2, len(ahead) + 1):
        total, squares = rise[:count].sum(0), np.square(rise[:count].clip(max=2.0)).sum(0)
        inner = np.square(total.clip(max=2.0 * count)) - count * (squares - 1.0)
        t = np.where(rise[count - 1] < t, (total + np.sqrt(inner.clip(min=0.0))) / count, t)
    return low + t


def least_travel(free: Tensor, goal: tuple[int, ...]) -> float:
    """The sum of it over all starts."""
    return float(shortest(free, goal)[free.numpy()].sum())


def serpentine(size: int) -> Tensor:
    """Free cells (size, size) of a winding corridor."""
    free = torch.ones(size, size, dtype=torch.bool)
    free[[0, -1]] = free[:, [0, -1]] = False
    for k, row in enumerate(range(CORRIDOR + 1, size - 1, CORRIDOR + 1)):
        free[row] = False
        free[row, 1 : 1 + CORRIDOR] = bool(k % 2)
        free[row, size - 1 - CORRIDOR : size - 1] |= not k % 2
    return free


def least_ms(act: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def grid(size: int = 256, repeats: int = 5) -> dict:
    """Milliseconds by walls."""
    free = torch.from_numpy(np.random.default_rng(0).random((size, size)) > 0.2)
    middle = (size // 2, size // 2)
    free[middle] = True
    rows = {}
    for name, walls, log in (("absorbing, log", "absorbing", True), ("reflecting", "reflecting", False)):
        start = time.perf_counter()
        network = ResistorGrid(free, walls=walls)
        g = torch.ones(len(network.edges), dtype=torch.float64, requires_grad=True)
        network.potential(g, middle, log=log)
        row = {"first_ms": 1e3 * (time.perf_counter() - start)}
        backward = []

        def both(network=network, g=g, log=log, backward=backward):
            potential = network.potential(g, middle, log=log)
            begin = time.perf_counter()
            torch.autograd.grad(potential.value[potential.reachable].mean(), g)
            backward.append(time.perf_counter() - begin)

        whole = least_ms(both, repeats)
        row |= {"backward_ms": 1e3 * min(backward), "forward_ms": whole - 1e3 * min(backward)}
        rows[name] = row | {"cells": len(network.cells), "conductances": len(network.edges)}
    print(rows, flush=True)
    return rows


def home() -> dict:
    """Share of cells led to the goal, by size and solver."""
    rows = {}
    for size in (33, 65, 129):
        network = ResistorGrid(serpentine(size))
        g = torch.ones(len(network.edges), dtype=torch.float64)
        potential = network.potential(g, (1, 1), log=True)
        open_walls = ResistorGrid(serpentine(size), walls="reflecting")
        times = open_walls.potential(torch.ones(len(open_walls.edges), dtype=torch.float64), (1, 1))
        row = {"cells": len(network.cells), "least_log10": float(potential.value.min() / np.log(10))}
        row["ours, log"] = share(potential)
        try:
            row["ours"] = share(network.potential(g, (1, 1)))
        except ValueError:
            row["ours"] = None  # refused, with advice
        row["ours, reflecting"] = share(times)
        for name, value in others(network, g, potential.goal).items():
            value = Potential(network, potential.goal, potential.reachable, torch.from_numpy(value), "probability")
            row[name] = share(value)
        rows[str(size)] = row
        print(size, row, flush=True)
    return rows


def share(potential: Potential) -> float:
    return float(Controller(potential).led_home().double().mean())


def others(network: ResistorGrid, g: Tensor, goal: Tensor) -> dict[str, np.ndarray]:
    """Probabilities (N,) by other solvers."""
    matrix = network.matrix(g, goal)
    row, col = matrix.pattern.places
    half = sparse.coo_matrix((matrix.values.numpy(), (row.numpy(), col.numpy())), (len(goal), len(goal)))
    A = (half + sparse.tril(half, -1).T).tocsc()
    near = network.edges[(goal[network.edges] & (network.edges >= 0)).any(1)]
    b = goal.double().numpy()
    b[near[near >= 0].unique().numpy()] = 1.0
    found = {"conjugate gradients to 1e-14": cg(A, b, rtol=1e-14, maxiter=20000)[0]}
    single = splu(A.astype(np.float32), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    found["direct, float32"] = single.solve(b.astype(np.float32)).astype(float)
    scale = (1 / A.diagonal()).astype(np.float32)
    step = (sparse.identity(len(goal)) - sparse.diags(1 / A.diagonal()) @ A).tocsr().astype(np.float32)
    x = np.zeros(len(goal), np.float32)
    for _ in range(2000):
        x = step @ x + scale * b.astype(np.float32)
    return found | {"2,000 Jacobi sweeps, float32": x.astype(float)}


def policies(steps: int = 400, starts: int = 10) -> dict:
    """Travel distance above the optimum, steps to 90% of the gain and their time, by gradient and start."""
    network, optimum = ResistorGrid(coelho()), least_travel(coelho(), GOAL)
    even = torch.ones(1, len(network.edges), dtype=torch.float64)
    runs = [("even", "exact", even)]
    runs += [(f"random {k}", "exact", g[None]) for k, g in enumerate(random_starts(network, starts))]
    runs += [("even", "surrogate", even), ("even", "local", even)]
    rows = {}
    for start, gradient, g in runs:
        begin = time.perf_counter()
        policy = policy_iteration(network, GOAL, g, gradient=gradient, steps=steps)
        spent = time.perf_counter() - begin
        above = 100 * (policy.total[:, 0] / optimum - 1)
        won = above[0] - above
        rows[f"{gradient}, {start}"] = {
            "start_percent": float(above[0]),
            "best_percent": float(above.min()),
            "last_percent": float(above[-1]),
            "steps_to_90": int((won >= 0.9 * won.max()).nonzero()[0]),
            "ms_a_step": 1e3 * spent / steps,
            "least_gain": float(policy.least_gain.min()),
            "curve": above[::5].tolist(),
        }
        print(gradient, start, {k: v for k, v in rows[f"{gradient}, {start}"].items() if k != "curve"}, flush=True)
    return {"optimum": optimum, "rows": rows}


def top_k(repeats: int = 100) -> dict:
    """Milliseconds and how far sums are from 10."""
    scores = torch.randn(32, 100, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rivals: dict[str, Callable] = {"ours": lambda x: soft_top_k(x, 10)}
    if at_hand("lml"):
        import lml

        rivals["locuslab"] = lml.LML(10)
    rows = {}
    for name, act in rivals.items():
        rows[name] = {
            "forward_ms": least_ms(lambda act=act: act(scores), repeats),
            "both_ms": least_ms(lambda act=act: act(scores).square().sum().backward(), repeats),
            "error": float((act(scores).detach().double().sum(-1) - 10).abs().max()),
        }
    print(rows, flush=True)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    figures = {"grid": grid(), "home": home(), "coelho": policies(), "top_k": top_k()}
    print(save("planning_harmonic", figures, images="none"))


if __name__ == "__main__":
    tyro.cli(main)
