"""Model predictive control of nonlinear dynamics with limits, differentiated by its optimality conditions."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.transforms import refuse_gradient
from gradslam_ng.planning import projected_newton, stages
from gradslam_ng.planning.checks import check_all, check_tensors
from gradslam_ng.planning.projected_newton import Limits, Problem, Quadratic
from gradslam_ng.planning.riccati import solve

BACKWARD = ("implicit", "implicit-gn", "unroll", "truncated", "detach")


class MPCSolution(NamedTuple):
    """A plan for each element of the batch, and how far to trust it."""

    x: Tensor  # (B, T, n), states
    u: Tensor  # (B, T, m), controls; the last acts on no state
    cost: Tensor  # (B,)
    converged: Tensor  # (B,) bool: at a strict local minimum
    margin: Tensor  # (B,), how far a control may be moved before another is at its limit, in its unit; see `MPC`
    iterations: Tensor  # (B,) long


class MPC(nn.Module):
    """Minimize sum_t l(x_t, u_t) over controls u_0 ... u_{T-1}, x_{t+1} = f(x_t, u_t), x_0 given, low <= u_t <= high.

        mpc = MPC(planning.Unicycle(dt=0.1), cost=cost, horizon=20, controls=2, limits=(-1.0, 1.0))
        plan = mpc(x0)                    # (B, n)
        plan.u[:, 0]                      # (B, m)

    Dynamics and cost are functions (x (B, T, n), u (B, T, m)) -> next states (B, T, n), or costs (B, T), of any tensors
    and modules, which treat elements and steps apart and are twice differentiable; or `LinearDynamics` and
    `QuadraticCost`. Whatever they depend on, and x0 and the limits, have a gradient.

    Solved by a projected Newton method, see `projected_newton`. An element has converged once its next step changes no
    control by more than `tolerance`, and stays as it is from then on whatever the others do. `margin` is the strict
    complementarity of the limits: least, over controls, of a free one's distance to its limits, and of how far one at
    its limit would go were it free alone. Where it is zero the plan has a kink, and the gradient is that to one side.

    `backward` chooses how the plan is differentiated:

    - "implicit": by the optimality conditions, with the exact second derivatives of the Lagrangian; those of the
      dynamics, weighted by the costates, are part of it. Controls at a limit move with it. Time and memory do not
      depend on the number of iterations. No second derivatives. The plan of an element that has not converged has no
      gradient, with a warning.
    - "implicit-gn": the same with the second derivatives of the cost alone, that is, of the last convex approximation
      (Amos et al. 2018). Cheaper for costly dynamics, and off by the second derivatives of the dynamics times the
      costates: on a pendulum without limits by 2e-4 to 5e-2 of the gradient to its constants and weights, by up to a
      half of that to its start.
    - "unroll": through every iteration, and to where they start.
    - "truncated": through `backward_iterations` more, from the plan found.
    - "detach": not at all.

    Args:
        dynamics, cost: see above.
        horizon: T.
        controls: m.
        limits: low and high, numbers or tensors that broadcast to (B, T, m); None for none. Infinite for some is fine.
        slew: weight of 1/2 (u_t - u_{t-1})^2 beside the cost, a number or a tensor that broadcasts to (m,).
        iterations: at most.
        tolerance: see above, in units of the larger of 1 and the largest control; default: eps^0.7 of the precision.
        backward, backward_iterations: see above.

    Raises:
        ValueError: an unknown `backward`, or numbers that make no sense.
    """

    def __init__(
        self,
        dynamics: stages.Dynamics | stages.Function,
        *,
        cost: stages.StageCost | stages.Function,
        horizon: int,
        controls: int,
        limits: tuple[Tensor | float, Tensor | float] | None = None,
        slew: Tensor | float | None = None,
        iterations: int = 50,
        tolerance: float | None = None,
        backward: str = "implicit",
        backward_iterations: int = 3,
    ) -> None:
        super().__init__()
        if backward not in BACKWARD:
            raise ValueError(f"backward: expected one of {', '.join(BACKWARD)}, got {backward!r}")
        counts = {"horizon": horizon, "controls": controls, "backward_iterations": backward_iterations}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if iterations < 0:
            raise ValueError(f"iterations: expected at least 0, got {iterations}")
        self.dynamics, self.cost, self.horizon, self.controls = dynamics, cost, horizon, controls
        self.low: Tensor | float
        self.high: Tensor | float
        self.low, self.high = (-torch.inf, torch.inf) if limits is None else limits
        self.slew, self.iterations, self.tolerance = slew, iterations, tolerance
        self.backward, self.backward_iterations = backward, backward_iterations

    @mode_free
    def forward(
        self,
        x0: Tensor,  # (B, n)
        u_init: Tensor | None = None,  # (B, T, m)
        previous: Tensor | None = None,  # (B, m)
    ) -> MPCSolution:
        """Plan from x0.

        Args:
            x0: where the plans begin.
            u_init: controls to start from; default: zero, within the limits.
            previous: the controls before, which `slew` is relative to at the first step; default: it may jump there.

        Raises:
            TypeError: what is no tensor of floating-point numbers.
            ValueError: shapes that do not fit, numbers that are not finite, limits that cross, functions that return
                other shapes than they should, a cost that is not finite along the trajectory of u_init.
        """
        self._check_start(x0, u_init, previous)
        limits = self._limits(x0)
        dynamics, cost, start = self._stages(x0, previous)
        tolerance = torch.finfo(x0.dtype).eps ** 0.7 if self.tolerance is None else self.tolerance
        problem = Problem(dynamics, cost, limits, tolerance)
        with torch.no_grad():
            u = x0.new_zeros(limits.low.shape) if u_init is None else u_init
            clipped = torch.minimum(torch.maximum(u, limits.low), limits.high)
        u = clipped if u_init is None else u_init + (clipped - u_init).detach()
        return self._solve(problem, start, u, x0.shape[-1])

    def _check_start(self, x0: Tensor, u_init: Tensor | None, previous: Tensor | None) -> None:
        given = {"x0": x0, "u_init": u_init, "previous": previous}
        check_tensors(**{name: x for name, x in given.items() if x is not None})
        if x0.ndim != 2 or 0 in x0.shape:
            raise ValueError(f"x0: expected (B, n), got {tuple(x0.shape)}")
        shapes = {"u_init": (len(x0), self.horizon, self.controls), "previous": (len(x0), self.controls)}
        for name, shape in shapes.items():
            x = given[name]
            if x is not None and x.shape != shape:
                raise ValueError(f"{name}: expected {shape}, got {tuple(x.shape)}")
        if previous is not None and self.slew is None:
            raise ValueError("previous: expected None where there is no slew, which alone it counts for")

    def _solve(self, problem: Problem, x0: Tensor, u: Tensor, n: int) -> MPCSolution:
        record = torch.is_grad_enabled()
        backward = self.backward if record else "detach"
        if backward == "unroll":
            found = projected_newton.minimize(problem, x0, u, self.iterations)
        else:
            with torch.no_grad():
                found = projected_newton.minimize(problem, x0, u, self.iterations)
            if backward == "truncated":
                again = projected_newton.continued(problem, x0, found.tau, self.backward_iterations)
                found = again._replace(iterations=found.iterations)
        assert found.quadratic is not None
        tau, cost = found.tau, found.cost
        if backward.startswith("implicit"):
            _warn_unconverged(found.converged)
            tau = tau + differentiate(problem, x0, found, exact=backward == "implicit")
            cost = problem.cost.evaluate(tau).sum(-1)
        margin = complementarity(problem.limits, tau.detach(), found.quadratic)
        u = tau[..., -self.controls :]
        return MPCSolution(tau[..., :n], u, cost, found.converged, margin, found.iterations)

    def _limits(self, x0: Tensor) -> Limits:
        shape = (len(x0), self.horizon, self.controls)
        bounds = []
        for name, bound in (("low", self.low), ("high", self.high)):
            x = torch.as_tensor(bound, dtype=x0.dtype, device=x0.device)
            if bool(x.detach().isnan().any()):
                raise ValueError(f"limits: expected numbers, {name} has NaN")
            try:
                bounds.append(x.expand(shape))
            except RuntimeError:
                raise ValueError(f"limits: expected shapes that broadcast to {shape}, got {tuple(x.shape)}") from None
        low, high = bounds
        check_all("limits", low.detach() <= high.detach(), "low at most high")
        check_all("limits", (low.detach() < torch.inf) & (high.detach() > -torch.inf), "room for a control")
        return Limits(low, high)

    def _stages(self, x0: Tensor, previous: Tensor | None) -> tuple[stages.Dynamics, stages.StageCost, Tensor]:
        """Dynamics and cost with derivatives, and the state that they begin in; with slew, that has a control."""
        n, m, T = x0.shape[-1], self.controls, self.horizon
        dynamics, cost = self.dynamics, self.cost
        if not isinstance(dynamics, stages.Dynamics):
            dynamics = stages.DifferentiatedDynamics(dynamics, n=n)
        if not isinstance(cost, stages.StageCost):
            cost = stages.DifferentiatedCost(cost, n=n)
        if self.slew is None:
            return dynamics, cost, x0
        weight = torch.as_tensor(self.slew, dtype=x0.dtype, device=x0.device).expand(T, m)
        if bool((~(weight.detach() >= 0)).any()):
            raise ValueError(f"slew: expected weights of at least 0, got {self.slew}")
        if previous is None:
            first = torch.arange(T, device=x0.device)[:, None] > 0
            weight, previous = torch.where(first, weight, 0.0), x0.new_zeros(len(x0), m)
        dynamics = stages.SlewDynamics(dynamics, n=n, m=m)
        return dynamics, stages.SlewCost(cost, dynamics=dynamics, weight=weight), torch.cat([x0, previous], -1)


def differentiate(problem: Problem, x0: Tensor, found: projected_newton.Trajectory, exact: bool) -> Tensor:
    """Zero (B, T, n + m) with the gradient of the optimal trajectory, by the implicit function theorem."""
    with torch.no_grad():
        quadratic = found.quadratic if exact else projected_newton.expand(problem, found.tau, exact=False)
    assert quadratic is not None
    tau = found.tau.detach()
    next_x, pulled = problem.dynamics.transposed(tau[:, :-1], quadratic.costates[:, 1:])
    g = problem.cost.gradient(tau) + nn.functional.pad(pulled, (0, 0, 0, 1))
    return _Optimum.apply(g, next_x, x0, *problem.limits, quadratic, found.converged & quadratic.convex)


class _Optimum(Function):
    """Zero, whose gradient is that of the optimum to how its optimality conditions change.

    To first order the optimum moves by the solution of the quadratic problem at it, whose linear terms are the changes
    of the Lagrangian's gradient (B, T, n + m), of the next states (B, T - 1, n), of x0 (B, n) and of the limits
    (B, T, m) of active controls. The matrix of that problem is symmetric, so its adjoint is the same problem again.
    """

    @staticmethod
    def forward(
        g: Tensor, next_x: Tensor, x0: Tensor, low: Tensor, high: Tensor, quadratic: Quadratic, ok: Tensor
    ) -> Tensor:
        return torch.zeros_like(g)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        *tensors, ctx.quadratic, ctx.ok = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:
        H, F, _, _, active, factors, *_ = ctx.quadratic
        n, ok = F.shape[-2], ctx.ok[:, None, None]
        with torch.no_grad():
            v = torch.where(ok, v, 0.0)
            linear = v, F.new_zeros(F.shape[:-1]), v.new_zeros(len(v), n)
            d, costates = (torch.where(ok, x, 0.0) for x in solve(factors, F, linear))
            later = nn.functional.pad((F[..., n:].mT @ costates[:, 1:, :, None])[..., 0], (0, 0, 0, 1))
            pushed = v[..., n:] + (H[..., n:, :] @ d[..., None])[..., 0] + later
            low, high = (torch.where(at, pushed, 0.0) for at in active)
        gradients: tuple[Tensor, ...] = (d, costates[:, 1:], costates[:, 0], low, high)
        if torch.is_grad_enabled():
            message = "MPC has no second derivatives: use backward='unroll'"
            gradients = tuple(refuse_gradient(message, x, *ctx.saved_tensors) for x in gradients)
        return *gradients, None, None


@torch.no_grad()
def complementarity(limits: Limits, tau: Tensor, quadratic: Quadratic) -> Tensor:
    """The margin (B,) of `MPCSolution`; infinite without limits."""
    m = quadratic.offset.shape[-1]
    u = tau[..., -m:]
    curvature = quadratic.factors.cholesky.square().sum(-1)  # diagonal of Q_uu
    pushed = quadratic.slope.abs() / curvature
    room = torch.minimum(u - limits.low, limits.high - u)
    margin = torch.where(quadratic.active.any, pushed, room)
    return torch.where(limits.low == limits.high, torch.inf, margin).amin((-2, -1))


def _warn_unconverged(converged: Tensor) -> None:  # (B,)
    if not bool(converged.all()):
        count = int((~converged).sum())
        warnings.warn(
            f"MPC: {count} of {len(converged)} plans have not converged to a strict minimum and have no gradient; "
            "see `converged` of the solution, `iterations` and `u_init`",
            RuntimeWarning,
            stacklevel=5,
        )
