"""Gradients of nonlinear control against central differences, a part of `benchmarks.planning.control`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.planning import control_peers as peers
from gradslam_ng import planning

T = 20
WEIGHTS, GOAL = [1.0, 1.0, 0.1, 0.001], [1.0, 0.0, 0.0]  # of mpc.pytorch's pendulum


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def differences(loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, step: float = 1e-5) -> torch.Tensor:
    """Central differences of fourth order."""
    slopes = []
    for k in range(x.numel()):
        e = torch.zeros_like(x)
        e.view(-1)[k] = step
        near, far = ((loss(x + s * e) - loss(x - s * e)) / (2 * s * step) for s in (1, 2))
        slopes.append((4 * near - far).detach() / 3)
    return torch.stack(slopes).view_as(x)


def pendulum_plan(values: dict[str, torch.Tensor], backward: str, limit: float = torch.inf) -> torch.Tensor:
    """Controls (T,) of the pendulum under 1/2 weights tau^2 + linear tau."""
    weights, linear = values["weights"], values["linear"]

    def cost(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        tau = torch.cat([x, u], -1)
        return (tau * (0.5 * weights * tau + linear)).sum(-1)

    dynamics = planning.Pendulum(values["constants"])
    mpc = planning.MPC(dynamics, cost=cost, horizon=T, controls=1, limits=(-limit, limit), backward=backward)
    plan = mpc(values["x0"][None])
    assert plan.converged.all()
    return plan.u[0, :, 0]


def pendulum_values(angle: float) -> dict[str, torch.Tensor]:
    weights = tensor(*WEIGHTS)
    linear = torch.cat([-weights[:3].sqrt() * tensor(*GOAL), tensor(0.0)])  # as `get_true_obj` of mpc.pytorch
    a = torch.tensor(angle, dtype=torch.float64)
    x0 = torch.stack([a.cos(), a.sin(), torch.tensor(0.3, dtype=torch.float64)])
    return {"constants": tensor(10.0, 1.0, 1.0), "weights": weights, "linear": linear, "x0": x0}


def errors(plan: Callable[[dict], torch.Tensor], values: dict, truth: dict, names: tuple[str, ...]) -> dict[str, float]:
    """Relative errors of the gradient of a weighted sum of a plan, by what it is to."""
    values = {name: x.clone().requires_grad_() for name, x in values.items()}
    gradients = torch.autograd.grad((plan(values) * loss_weights()).sum(), [values[name] for name in names])
    return {
        name: float((g - truth[name]).norm() / truth[name].norm()) for name, g in zip(names, gradients, strict=True)
    }


def loss_weights() -> torch.Tensor:
    return torch.randn(T, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def nonlinear() -> dict:
    """Rows by start angle and limit, of ours by way back and of mpc.pytorch."""
    rows = {}
    for angle, limit in ((0.1, torch.inf), (1.0, torch.inf), (1.5, torch.inf), (0.1, 2.0), (0.3, 2.0)):
        values = pendulum_values(angle)

        def at(name: str, x: torch.Tensor, values=values, limit=limit) -> torch.Tensor:
            with torch.no_grad():
                return (pendulum_plan(values | {name: x}, "detach", limit) * loss_weights()).sum()

        names = ("constants", "weights", "linear", "x0")
        truth = {name: differences(lambda x, name=name: at(name, x), values[name]) for name in names}
        row = {
            way: errors(lambda v, way=way, limit=limit: pendulum_plan(v, way, limit), values, truth, names)
            for way in ("implicit", "implicit-gn")
        }
        if limit == torch.inf and peers.at_hand("mpc"):
            start = pendulum_plan(values, "detach")

            def theirs(v: dict, start=start) -> torch.Tensor:
                return peers.pendulum(v["constants"], v["weights"], v["linear"], v["x0"], start)

            row["mpc.pytorch"] = errors(theirs, values, truth, names[:3])
        rows[f"pendulum from {angle} rad" + (f", limit {limit:g}" if limit < torch.inf else "")] = row
        print(angle, limit, row, flush=True)
    return rows
