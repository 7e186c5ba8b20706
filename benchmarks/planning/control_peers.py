"""Other libraries on the problems of `benchmarks.planning.control`. Nothing else needs them, and one that is missing
leaves its row out.

Each function takes x0 (B, n), C (B, T, N, N), c (B, T, N), F (B, T - 1, n, N), f (B, T - 1, n), N = n + m, and returns
tau (B, T, N).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io

import numpy as np
import torch

Problem = list[torch.Tensor]


def at_hand(module: str) -> bool:
    """Whether a library can be imported; says so if not."""
    found = importlib.util.find_spec(module) is not None
    if not found:
        print(f"{module}: left out, not installed")
    return found


def _swap(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(0, 1)


def mpc_pytorch(x0, C, c, F, f, limit=None):
    """mpc.pytorch, time first; without limits one iteration suffices."""
    from mpc import mpc

    (B, T, size), n = c.shape, x0.shape[-1]
    bound = None if limit is None else torch.full((T, B, size - n), limit, dtype=c.dtype)
    many = {} if limit is None else {"eps": 1e-9, "best_cost_eps": 1e-12}
    with contextlib.redirect_stdout(io.StringIO()):
        solver = mpc.MPC(
            n, size - n, T, u_lower=None if bound is None else -bound, u_upper=bound, verbose=-1, n_batch=B,
            lqr_iter=1 if limit is None else 50, exit_unconverged=False, detach_unconverged=False,
            **many if limit is not None else {"max_linesearch_iter": 1},
        )  # fmt: skip
        x, u, _ = solver(x0, mpc.QuadCost(_swap(C), _swap(c)), mpc.LinDx(_swap(F), _swap(f)))
    return _swap(torch.cat([x, u], -1))


def pypose(x0, C, c, A, B, f):
    """PyPose's LQR, of one system A, B, f for all steps."""
    import pypose as pp

    n, T = x0.shape[-1], C.shape[1]
    eye = torch.eye(n, dtype=x0.dtype).expand(len(x0), n, n)
    system = pp.module.LTI(A, B, eye, x0.new_zeros(len(x0), n, B.shape[-1]), f)
    x, u, _ = pp.module.LQR(system, C, c, T)(x0)
    return torch.cat([x[:, :T], u], -1)


def dense(x0, C, c, F, f, limit):
    """min 1/2 z^T Q z + q^T z with A z = b, G z <= h; z (B, T N)."""
    (B, T, N), n = c.shape, x0.shape[-1]
    Q = torch.stack([torch.block_diag(*C[i]) for i in range(B)])
    eye, wide = torch.eye(n, dtype=C.dtype), torch.zeros(n, N - n, dtype=C.dtype)
    systems = []
    for i in range(B):
        rows = []
        for t in range(T):
            blocks = [torch.zeros(n, N, dtype=C.dtype) for _ in range(T)]
            blocks[t] = torch.cat([eye, wide], 1)
            if t:
                blocks[t - 1] = -F[i, t - 1]
            rows.append(torch.cat(blocks, 1))
        systems.append(torch.cat(rows, 0))
    select = torch.cat([torch.zeros(N - n, n), torch.eye(N - n)], 1).to(C.dtype)
    S = torch.block_diag(*[select] * T)
    h = torch.full((2 * T * (N - n),), limit, dtype=C.dtype)
    return Q, c.flatten(1), torch.stack(systems), torch.cat([x0, f.flatten(1)], 1), torch.cat([S, -S]), h


def qpth(x0, C, c, F, f, limit):
    """qpth, on dense matrices."""
    from qpth.qp import QPFunction

    Q, q, A, b, G, h = dense(x0, C, c, F, f, limit)
    return QPFunction(verbose=-1)(Q, q, G.expand(len(x0), -1, -1), h.expand(len(x0), -1), A, b).view(c.shape)


@functools.cache
def _layer(T: int, N: int, n: int, limit: float):
    import cvxpy as cp
    from cvxpylayers.torch import CvxpyLayer

    z = [cp.Variable(N) for _ in range(T)]
    roots, cs = [cp.Parameter((N, N)) for _ in range(T)], [cp.Parameter(N) for _ in range(T)]
    Fs, fs = [cp.Parameter((n, N)) for _ in range(T - 1)], [cp.Parameter(n) for _ in range(T - 1)]
    start = cp.Parameter(n)
    cost = sum(0.5 * cp.sum_squares(roots[t] @ z[t]) + cs[t] @ z[t] for t in range(T))
    law = [z[0][:n] == start] + [z[t + 1][:n] == Fs[t] @ z[t] + fs[t] for t in range(T - 1)]
    law += [cp.abs(z[t][n:]) <= limit for t in range(T)]
    problem = cp.Problem(cp.Minimize(cost), law)
    return CvxpyLayer(problem, parameters=[start, *roots, *cs, *Fs, *fs], variables=z)


def cvxpylayers(x0, C, c, F, f, limit):
    """cvxpylayers with its default solver, on the Cholesky factors of C, for which its rules ask."""
    layer = _layer(c.shape[1], c.shape[2], x0.shape[-1], limit)
    roots = torch.linalg.cholesky(C).mT
    return torch.stack(layer(x0, *roots.unbind(1), *c.unbind(1), *F.unbind(1), *f.unbind(1)), 1)


def clarabel(x0, C, c, F, f, limit):
    """Clarabel at 1e-13, an interior-point solver: what others are compared with. No gradient."""
    import clarabel as solver
    from scipy import sparse

    Q, q, A, b, G, h = (x.detach().numpy() for x in dense(x0, C, c, F, f, limit))
    settings = solver.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-13
    cones = [solver.ZeroConeT(b.shape[1]), solver.NonnegativeConeT(len(h))]
    z = []
    for i in range(len(x0)):
        law, right = sparse.csc_matrix(np.vstack([A[i], G])), np.concatenate([b[i], h])
        quadratic = sparse.csc_matrix(np.triu(Q[i]))
        z.append(np.array(solver.DefaultSolver(quadratic, q[i], law, right, cones, settings).solve().x))
    return torch.tensor(np.array(z)).view(c.shape)


def pendulum(constants, weights, linear, x0, start):
    """Controls (T,) of mpc.pytorch's own pendulum under 1/2 weights tau^2 + linear tau, from a solution at `start`."""
    from mpc import mpc
    from mpc.env_dx.pendulum import PendulumDx

    dynamics, T = PendulumDx(constants), len(start)
    dynamics.max_torque = 1e9
    with contextlib.redirect_stdout(io.StringIO()):
        solver = mpc.MPC(
            3, 1, T, u_init=start[:, None, None], lqr_iter=60, verbose=-1, exit_unconverged=False,
            detach_unconverged=False, max_linesearch_iter=15, grad_method=mpc.GradMethods.AUTO_DIFF, eps=1e-10,
            best_cost_eps=0.0, n_batch=1, not_improved_lim=5,
        )  # fmt: skip
        cost = mpc.QuadCost(torch.diag(weights).expand(T, 1, 4, 4), linear.expand(T, 1, 4))
        return solver(x0[None], cost, dynamics)[1][:, 0, 0]
