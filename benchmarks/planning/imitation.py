"""Imitation of a controller through model predictive control: `python -m benchmarks.planning.imitation`.

The task of Amos et al. 2018: an expert swings a pendulum up by MPC, T = 20, torque at most 2 N m; a learner
sees the controls of ten of its plans and learns what lies behind them, by L-BFGS on the squared error of its own plans,
from guesses off by up to a half. Gravity and the weight of torque are known, since controls do not tell them apart from
the rest: the motion depends on gravity / length and mass length^2, a plan on ratios of weights. The goal is an angle
and a rate for the same reason: of cosine and sine with a weight each, four numbers, plans tell three.

- dx: mass and length. - cost: three weights, goal angle and goal rate. - joint: all of these at once.

Plans of ten further starts are the test. One thread.
"""

from __future__ import annotations

import time
import warnings

import torch
import tyro

from benchmarks.report import save
from gradslam_ng import planning

T, LIMIT, GRAVITY, TORQUE_WEIGHT = 20, 2.0, 10.0, 0.001
TRUE = {"mass": 1.0, "length": 1.0, "weights": (1.0, 1.0, 0.1), "goal": (0.0, 0.0)}
MODES = {"dx": ("mass", "length"), "cost": ("weights", "goal"), "joint": ("mass", "length", "weights", "goal")}
MARKS = {"parameters": 0.01, "control_mse": 1e-4, "seconds": 300.0}


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def plan(parameters: dict[str, torch.Tensor], x0: torch.Tensor, u_init: torch.Tensor | None) -> planning.MPCSolution:
    """Plans from x0 (B, 3). Mass, length and weights are logarithms."""
    mass, length = (parameters[name].exp() for name in ("mass", "length"))
    angle, rate = parameters["goal"]
    goal, weights = torch.stack([angle.cos(), angle.sin(), rate]), parameters["weights"].exp()

    def cost(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return (weights * (x - goal).square()).sum(-1) + TORQUE_WEIGHT * u.square().sum(-1)

    dynamics = planning.Pendulum(torch.stack([torch.full_like(mass, GRAVITY), mass, length]))
    mpc = planning.MPC(dynamics, cost=cost, horizon=T, controls=1, limits=(-LIMIT, LIMIT), iterations=100)
    return mpc(x0, u_init=u_init)


def starts(count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, 3): angles in half a turn about upright and rates in [-1, 1], as in the paper's code."""
    angle, rate = torch.rand(2, count, generator=generator, dtype=torch.float64)
    angle, rate = torch.pi * (angle - 0.5), 2 * rate - 1
    return torch.stack([angle.cos(), angle.sin(), rate], -1)


def logarithms() -> dict[str, torch.Tensor]:
    """The true parameters as `plan` takes them."""
    return {
        "mass": tensor(TRUE["mass"]).log()[0], "length": tensor(TRUE["length"]).log()[0],
        "weights": tensor(*TRUE["weights"]).log(), "goal": tensor(*TRUE["goal"]),
    }  # fmt: skip


def learn(mode: str, seed: int, trajectories: int = 10, steps: int = 100) -> dict[str, float]:
    """Largest relative error of a parameter (of the goal: radians, rad/s), control MSE on the test, and seconds."""
    generator = torch.Generator().manual_seed(seed)
    truth, x0, test = logarithms(), starts(trajectories, generator), starts(10, generator)
    with torch.no_grad():
        expert, tested = plan(truth, x0, None), plan(truth, test, None)
    guess = dict(truth)
    for name in MODES[mode]:
        offset = 0.5 * (2 * torch.rand(truth[name].shape, generator=generator, dtype=torch.float64) - 1)
        guess[name] = (truth[name] + offset).requires_grad_()
    learned = [guess[name] for name in MODES[mode]]
    optimizer = torch.optim.LBFGS(
        learned, max_iter=steps, max_eval=2 * steps, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=1e-10, tolerance_change=1e-14,
    )  # fmt: skip
    losses = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        mine = plan(guess, x0, expert.u)
        loss = (mine.u - expert.u)[mine.converged & expert.converged].square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        return loss

    start = time.perf_counter()
    optimizer.step(closure)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        both = plan(guess, test, None)
        errors = (both.u - tested.u)[both.converged & tested.converged].square().mean()
        off = [(guess[name] - truth[name]).abs().max() for name in MODES[mode]]
    return {
        "parameters": float(torch.stack(off).max()), "control_mse": float(errors), "train_mse": losses[-1],
        "first_mse": losses[0], "evaluations": len(losses), "seconds": seconds,
    }  # fmt: skip


def main(seeds: int = 4) -> None:
    """Measure, print and save.

    Args:
        seeds: Of trajectories and first guesses.
    """
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "MPC:")
    rows: dict[str, list] = {mode: [] for mode in MODES}
    for mode in MODES:
        for seed in range(seeds):
            rows[mode].append(learn(mode, seed))
            print(mode, seed, rows[mode][-1], flush=True)
    save("planning_imitation", {"modes": rows, "marks": MARKS}, images="none", threads=1)


if __name__ == "__main__":
    tyro.cli(main)
