"""Linear-quadratic and model predictive control: `python -m benchmarks.planning.control`.

One thread, forward and backward, the least of some repeats, with other libraries beside ours in the same run where they
are installed (mpc, pypose, qpth, cvxpylayers, clarabel; `benchmarks.planning.control_peers`).

- lqr: n = 8 states, m = 2 controls, batch 32, horizon 20 and 100; batch 1024, horizon 20, float32. PyPose's takes one
  system for all steps; ours is timed on that too.
- memory: what is kept for the backward pass, of ours and of the same recursion recorded.
- box: |u| <= 0.25, which holds a quarter of the controls; solution against Clarabel's, gradient against central
  differences of Clarabel's.
- nonlinear: gradients against central differences, pendulum, cart with pole and unicycle; the pendulum of mpc.pytorch
  with mpc.pytorch.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import tyro
from torch.profiler import ProfilerActivity, profile

from benchmarks.planning import control_peers as peers
from benchmarks.report import save
from gradslam_ng import planning
from gradslam_ng.planning.riccati import factorize, solve

LIMIT = 0.25
MARKS = {"lqr": 5.0, "box_mpc": 0.22, "box_qpth": 0.06}  # times faster; shares of their time


def problem(B: int, T: int, n: int, m: int, dtype: torch.dtype, seed: int = 0) -> list[torch.Tensor]:
    """x0, C, c, F, f of a random problem, with gradients."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    A = torch.eye(n) + 0.1 * random(B, T - 1, n, n)
    A = A / torch.linalg.matrix_norm(A, 2)[..., None, None].clamp(min=1)
    F = torch.cat([A, random(B, T - 1, n, m)], -1)
    M = 0.3 * random(B, T, n + m, n + m)
    C = M @ M.mT + torch.eye(n + m)
    inputs = random(B, n), C, random(B, T, n + m), F, 0.1 * random(B, T - 1, n)
    return [x.to(dtype).requires_grad_() for x in inputs]


def measure(function: Callable, inputs: list[torch.Tensor], repeats: int) -> tuple[dict, torch.Tensor, list]:
    """Milliseconds forward and backward, what comes out, and its gradients."""
    forward = backward = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        y = function(*inputs)
        middle = time.perf_counter()
        loss = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum()
        before = time.perf_counter()
        gradients = torch.autograd.grad(loss, inputs)
        forward, backward = min(forward, middle - start), min(backward, time.perf_counter() - before)
    return {"forward_ms": 1e3 * forward, "backward_ms": 1e3 * backward}, y.detach(), list(gradients)


def largest(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x - y).abs().max() / y.abs().max())


def symmetric(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients to C differ by what its symmetric part does not see."""
    return [0.5 * (g + g.mT) if g.ndim == 4 and g.shape[-1] == g.shape[-2] else g for g in gradients]


def ours(x0, C, c, F, f):
    return planning.lqr(C, c, F, f, x0).tau


def ours_of_one_system(x0, C, c, A, B, f):
    T = C.shape[1]
    F = torch.cat([A, B], -1)[:, None].expand(-1, T - 1, -1, -1)
    return planning.lqr(C, c, F, f[:, None].expand(-1, T - 1, -1), x0).tau


def recorded(x0, C, c, F, f):
    """The recursion through autograd."""
    return solve(factorize(C, F), F, (c, f, x0))[0]


def lqr(repeats: int) -> dict:
    """Rows by shape."""
    rows = {}
    for B, T, dtype in ((32, 20, torch.float64), (32, 100, torch.float64), (1024, 20, torch.float32)):
        name = f"B {B}, T {T}, {str(dtype)[6:]}"
        inputs = problem(B, T, 8, 2, dtype)
        row = {"ours": measure(ours, inputs, repeats)}
        row["recorded"] = measure(recorded, inputs, 2)
        if peers.at_hand("mpc"):
            row["mpc.pytorch"] = measure(peers.mpc_pytorch, inputs, 2)
        x0, C, c, F, f = (x.detach() for x in inputs)
        system = [x0, C, c, F[:, 0, :, :8].clone(), F[:, 0, :, 8:].clone(), f[:, 0].clone()]
        system = [x.requires_grad_() for x in system]
        row["ours, one system"] = measure(ours_of_one_system, system, repeats)
        if peers.at_hand("pypose"):
            row["PyPose"] = measure(peers.pypose, system, 2)
        rows[name] = {}
        for who, (times, y, gradients) in row.items():
            like = row["ours, one system" if who in ("PyPose", "ours, one system") else "ours"]
            differ = [largest(a, b) for a, b in zip(symmetric(gradients), like[2], strict=True)]
            rows[name][who] = times | {"difference": largest(y, like[1]), "gradient_difference": max(differ)}
        print(name, *(f"\n  {who}: {figures}" for who, figures in rows[name].items()), flush=True)
    return rows


def memory() -> dict:
    """What is kept for the backward pass, outputs included, MB, beside the size of inputs and outputs."""
    rows = {}
    for T in (20, 100):
        inputs = problem(32, T, 8, 2, torch.float64)
        outputs = ours(*inputs).numel() * 8 * 18 / 10  # with costates
        size = (sum(x.numel() for x in inputs) * 8 + outputs) / 1e6
        for name, function in (("ours", ours), ("recorded", recorded)):
            rows[f"{name}, T {T}"] = {
                "kept_mb": kept(lambda function=function, x=inputs: function(*x)),
                "data_mb": size,
            }
    print(rows, flush=True)
    return rows


def kept(act: Callable[[], torch.Tensor]) -> float:
    """What tensors hold once act is done and its result is still there, MB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        y = act()
    events = record.profiler.kineto_results.events()
    held = sum(event.nbytes() for event in events if event.name() == "[memory]")
    del y
    return held / 1e6


def box_ours(x0, C, c, F, f):
    dynamics, cost = planning.LinearDynamics(F, f=f), planning.QuadraticCost(C, c=c)
    plan = planning.MPC(dynamics, cost=cost, horizon=c.shape[1], controls=2, limits=(-LIMIT, LIMIT))(x0)
    return torch.cat([plan.x, plan.u], -1)


def box(repeats: int) -> dict:
    """Times, errors of solutions, and of gradients to x0, c and F along the directions of the differences."""
    inputs = problem(32, 20, 8, 2, torch.float64)
    solvers = {"ours": (box_ours, "gradslam_ng"), "mpc.pytorch": (peers.mpc_pytorch, "mpc"),
               "qpth": (peers.qpth, "qpth"), "cvxpylayers": (peers.cvxpylayers, "cvxpylayers")}  # fmt: skip
    truth, slopes = None, []
    if peers.at_hand("clarabel"):
        truth, slopes = box_truth([x.detach() for x in inputs])
    rows: dict = {}
    if truth is not None:
        rows["active"] = float((truth[..., 8:].abs() > LIMIT - 1e-7).double().mean())
    for name, (function, module) in solvers.items():
        if not peers.at_hand(module):
            continue
        solver = function if name == "ours" else lambda *x, solver=function: solver(*x, LIMIT)
        times, y, gradients = measure(solver, inputs, repeats if name == "ours" else 2)
        rows[name] = times
        if truth is not None:
            errors = [abs(float((gradients[k] * d).sum()) - slope) / abs(slope) for k, d, slope in slopes]
            rows[name] |= {"error": float((y - truth).abs().max()), "gradient_error": max(errors)}
        print(name, rows[name], flush=True)
    return rows


def box_truth(inputs: list[torch.Tensor]) -> tuple[torch.Tensor, list]:
    """Clarabel's solution, and central differences (input, direction, slope) of what `measure` differentiates."""
    truth = peers.clarabel(*inputs, LIMIT)
    weights = torch.linspace(-1, 1, truth.numel(), dtype=truth.dtype).view_as(truth)
    generator, slopes = torch.Generator().manual_seed(0), []
    for k in (0, 2, 3):
        for _ in range(2):
            d = torch.randn(inputs[k].shape, generator=generator, dtype=torch.float64)
            sides = []
            for step in (1e-5, -1e-5):
                moved = [x + step * d if i == k else x for i, x in enumerate(inputs)]
                sides.append(float((peers.clarabel(*moved, LIMIT) * weights).sum()))
            slopes.append((k, d, (sides[0] - sides[1]) / 2e-5))
    return truth, slopes


def main(repeats: int = 7, only: str = "") -> None:
    """Measure, print and save.

    Args:
        repeats: Of ours; others run twice, since they take long.
        only: One of lqr, memory, box, nonlinear; nothing is saved then.
    """
    from benchmarks.planning.control_gradients import nonlinear

    torch.set_num_threads(1)
    parts = {"lqr": lambda: lqr(repeats), "memory": memory, "box": lambda: box(repeats), "nonlinear": nonlinear}
    figures = {name: part() for name, part in parts.items() if only in ("", name)}
    if not only:
        save("planning_control", figures | {"marks": MARKS}, images="none", threads=1)


if __name__ == "__main__":
    tyro.cli(main)
