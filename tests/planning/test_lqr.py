"""LQR against a dense solve of its optimality conditions and central differences; DARE against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from gradslam_ng.planning import dare, lqr
from tests.planning.differences import assert_gradients

NAMES = ("C", "c", "F", "f", "x0")


def problem(batch=3, steps=6, n=3, m=2, dtype=torch.float64, seed=0):
    """C, c, F, f, x0 of a random problem."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    M = 0.4 * random(steps, n + m, n + m)
    C = M @ M.mT + 0.5 * torch.eye(n + m, dtype=torch.float64)
    F = torch.cat([torch.eye(n, dtype=torch.float64) + 0.2 * random(steps - 1, n, n), random(steps - 1, n, m)], -1)
    return [x.to(dtype) for x in (C, random(steps, n + m), F, 0.1 * random(steps - 1, n), random(n))]


def dense(C, c, F, f, x0):
    """tau and costates of one element by the whole KKT matrix."""
    steps, size, n = *c.shape, len(x0)
    A = torch.zeros(steps * n, steps * size, dtype=C.dtype)  # rows: the constraint that defines x_t, with multiplier
    for t in range(steps):
        A[t * n : (t + 1) * n, t * size : t * size + n] = -torch.eye(n, dtype=C.dtype)
        if t:
            A[t * n : (t + 1) * n, (t - 1) * size : t * size] = F[t - 1]
    K = torch.cat([torch.cat([torch.block_diag(*C), A.T], 1), torch.cat([A, A.new_zeros(len(A), len(A))], 1)])
    z = torch.linalg.solve(K, -torch.cat([c.flatten(), x0, f.flatten()]))
    return z[: steps * size].view(steps, size), z[steps * size :].view(steps, n)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_solution_and_costates_are_those_of_the_optimality_conditions(steps):
    inputs = problem(steps=steps)
    tau, costates = lqr(*inputs)
    for i in range(3):
        expected_tau, expected_costates = dense(*(x[i] for x in inputs))
        torch.testing.assert_close(tau[i], expected_tau, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(costates[i], expected_costates, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_meet_central_differences(name):
    inputs = dict(zip(NAMES, problem(batch=2, steps=4), strict=True))
    weights = torch.linspace(-1, 1, 20, dtype=torch.float64).view(4, 5)

    def loss(x):
        tau, costates = lqr(**inputs | {name: x})
        return (tau * weights).sum() + (costates.sin() * 0.3).sum()

    assert_gradients(loss, inputs[name], 1e-8)


def test_second_derivatives_meet_central_differences():
    C, c, F, f, x0 = problem(batch=1, steps=3)

    def slope(x):
        x = x if x.requires_grad else x.clone().requires_grad_()
        loss = lqr(C, c, x, f, x0).tau.pow(3).sum()
        return torch.autograd.grad(loss, x, create_graph=True)[0].sin().sum()

    assert_gradients(slope, F, 1e-7)


def test_the_gradient_to_the_cost_is_its_symmetric_part():
    C, c, F, f, x0 = problem()
    skew = torch.triu(torch.ones_like(C), 1)
    A = (C + skew - skew.mT).requires_grad_()
    torch.testing.assert_close(lqr(A, c, F, f, x0).tau, lqr(C, c, F, f, x0).tau)
    lqr(A, c, F, f, x0).tau.sum().backward()
    torch.testing.assert_close(A.grad, A.grad.mT)


def test_costates_are_the_derivative_of_the_cost():
    C, c, F, f, x0 = problem()
    x0 = x0.requires_grad_()
    tau, costates = lqr(C, c, F, f, x0)
    cost = 0.5 * torch.einsum("bti,btij,btj", tau, C, tau) + (c * tau).sum()
    (slope,) = torch.autograd.grad(cost, x0)
    torch.testing.assert_close(slope, costates[:, 0].detach())


def test_leading_axes_broadcast():
    C, c, F, f, x0 = problem(batch=4)
    shared = lqr(C[0], c.view(2, 2, 6, 5), F[0], None, x0.view(2, 2, 3))
    alone = lqr(C[0], c[3], F[0], torch.zeros_like(f[0]), x0[3])
    assert shared.tau.shape == (2, 2, 6, 5) and shared.costates.shape == (2, 2, 6, 3)
    torch.testing.assert_close(shared.tau[1, 1], alone.tau)
    torch.testing.assert_close(shared.costates[1, 1], alone.costates)


@pytest.mark.parametrize("condition", [1e0, 1e2, 1e4, 1e6])
def test_single_precision_over_a_long_unstable_horizon(condition):
    """Costs that span up to six orders of magnitude, and states that grow by a tenth each step."""
    _, c, F, f, x0 = problem(batch=2, steps=100, seed=1)
    A = 1.1 * torch.linalg.qr(F[0, 0, :, :3])[0]
    F = torch.cat([A, F[0, 0, :, 3:]], -1).expand(2, 99, 3, 5)
    scales = torch.tensor([condition**-0.5, 1.0, condition**0.5, 1.0, 1e-1], dtype=torch.float64)
    C = torch.diag(scales).expand(2, 100, 5, 5)
    found = {}
    for dtype in (torch.float64, torch.float32):
        inputs = [x.to(dtype).requires_grad_() for x in (C, c, F, f, x0)]
        tau = lqr(*inputs).tau
        assert tau.dtype == dtype
        found[dtype] = [tau.detach(), *torch.autograd.grad(tau.square().sum(), inputs)]
    for rough, exact in zip(found[torch.float32], found[torch.float64], strict=True):
        assert (rough - exact).abs().max() < 4e-4 * exact.abs().max()


def test_controls_without_effect_are_left_at_rest():
    C, _, F, _, x0 = problem()
    F = F.clone()
    F[..., 3:] = 0
    C = torch.diag_embed(torch.ones_like(C[..., 0])).requires_grad_()
    F = F.requires_grad_()
    tau, _ = lqr(C, torch.zeros_like(C[..., 0]), F, None, x0)
    assert tau[..., 3:].abs().max() == 0
    tau.square().sum().backward()
    assert C.grad.isfinite().all() and F.grad.isfinite().all()


def test_an_indefinite_cost_with_one_minimum_is_solved():
    C, c, F, f, x0 = problem(batch=1)
    C = C - 0.3 * torch.diag(torch.tensor([1.0, 0, 0, 0, 0], dtype=C.dtype)) * torch.linalg.eigvalsh(C).max()
    assert torch.linalg.eigvalsh(C).min() < -0.05
    C = C + 8 * torch.diag(torch.tensor([0.0, 0, 0, 1, 1], dtype=C.dtype))
    torch.testing.assert_close(lqr(C, c, F, f, x0).tau[0], dense(*(x[0] for x in (C, c, F, f, x0)))[0])
    assert_gradients(lambda x: lqr(x, c, F, f, x0).tau.pow(2).sum(), C, 1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["C"][1, 5, 3:].zero_(), r"C and F: expected a problem with one minimum.*step 5 of element \(1,\)"),
        (lambda p: p["C"].neg_(), "one minimum"),
        (lambda p: p["c"][0, 0, 0].fill_(torch.nan), "c: expected finite numbers, 1 of 90"),
        (lambda p: p["x0"][0].fill_(torch.inf), "x0: expected finite"),
        (lambda p: p.update(F=p["F"][:, :-1]), r"F: expected \(..., 5, 3, 5\)"),
        (lambda p: p.update(C=p["C"][..., :4, :4]), r"C: expected \(..., 6, 5, 5\)"),
        (lambda p: p.update(f=p["f"][..., :2]), r"f: expected \(..., 5, 3\)"),
        (lambda p: p.update(c=p["c"][..., :3]), "one control at least"),
        (lambda p: p.update(c=p["c"].float()), "c: expected torch.float64"),
    ],
)
def test_what_has_no_answer_is_refused(change, message):
    inputs = dict(zip(NAMES, problem(), strict=True))
    change(inputs)
    with pytest.raises(ValueError, match=message):
        lqr(**inputs)


def test_integers_are_refused():
    C, c, F, f, _ = problem(batch=1)
    with pytest.raises(TypeError, match="x0: expected a tensor of floating-point"):
        lqr(C, c, F, f, torch.zeros(1, 3, dtype=torch.long))


# ---- infinite horizon ----


def system(n=6, m=2, batch=3, seed=0, radius=1.05):
    generator = torch.Generator().manual_seed(seed)
    A, B, M, N = (
        torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
        for shape in ((n, n), (n, m), (n, n), (m, m))
    )
    A = A * (radius / torch.linalg.eigvals(A).abs().amax(-1))[:, None, None]
    eye = [torch.eye(k, dtype=torch.float64) for k in (n, m)]
    return {"A": A, "B": B, "Q": M @ M.mT * 0.2 + eye[0], "R": N @ N.mT * 0.2 + eye[1]}


def test_dare_agrees_with_scipy():
    inputs = system(n=8)
    P = dare(**inputs)
    for i in range(3):
        expected = solve_discrete_are(*(inputs[name][i].numpy() for name in "ABQR"))
        np.testing.assert_allclose(P[i].numpy(), expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("name", "ABQR")
def test_gradients_of_dare_meet_central_differences(name):
    inputs = system(n=3, batch=2)
    weights = torch.linspace(-1, 2, 9, dtype=torch.float64).view(3, 3)
    assert_gradients(lambda x: (dare(**inputs | {name: x}) * weights).sum(), inputs[name], 1e-8)


def test_second_derivatives_of_dare_meet_central_differences():
    inputs = system(n=2, m=2, batch=1)
    inputs["A"] = inputs["A"].abs() * 0.7  # for a solution with positive entries

    def slope(x):
        x = x if x.requires_grad else x.clone().requires_grad_()
        return torch.autograd.grad(dare(**inputs | {"A": x}).log().sum(), x, create_graph=True)[0].pow(2).sum()

    assert_gradients(slope, inputs["A"], 1e-6)


def test_a_terminal_cost_of_dare_makes_the_horizon_infinite():
    inputs = system(n=4, batch=1)
    P = dare(**inputs)
    C = torch.stack([torch.block_diag(inputs["Q"][0], inputs["R"][0])] * 2 + [torch.block_diag(P[0], inputs["R"][0])])
    F = torch.cat([inputs["A"], inputs["B"]], -1)[0].expand(2, 4, 6)
    costates = lqr(C, torch.zeros(3, 6, dtype=C.dtype), F, None, torch.ones(4, dtype=C.dtype)).costates
    torch.testing.assert_close(costates[0], P[0].sum(-1))


def test_an_uncontrollable_state_that_decays_has_a_solution():
    A = torch.diag(torch.tensor([0.9, 1.2], dtype=torch.float64))
    P = dare(A, torch.tensor([[0.0], [1.0]], dtype=torch.float64), *(torch.eye(k, dtype=torch.float64) for k in (2, 1)))
    torch.testing.assert_close(P[0, 0], torch.tensor(1 / (1 - 0.81), dtype=torch.float64))
    assert P[0, 1] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["B"].zero_(), "A, B, Q, R: expected a system with a stabilizing solution"),
        (lambda s: (s["Q"].zero_(), s["A"].copy_(torch.eye(6))), "stabilizing solution"),
        (lambda s: s["R"].zero_(), "R: expected a positive definite matrix"),
        (lambda s: s["A"][0, 0].fill_(torch.nan), "A: expected finite"),
        (lambda s: s.update(Q=s["Q"][..., :4, :4]), r"Q: expected \(..., 6, 6\), as B is 6 x 2"),
    ],
)
def test_systems_without_an_answer_are_refused(change, message):
    inputs = system()
    change(inputs)
    with pytest.raises(ValueError, match=message):
        dare(**inputs)
