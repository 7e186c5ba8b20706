"""Second derivatives of solutions in every way of asking, transforms of torch.func: right, or refused in one line."""

from __future__ import annotations

import itertools

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph import surrogate_loss

D = torch.float64
A = torch.randn(6, 2, dtype=D, generator=torch.Generator().manual_seed(0))
B = torch.randn(6, dtype=D, generator=torch.Generator().manual_seed(1))
THETA = torch.tensor([0.3, 0.2], dtype=D)
TRANSFORMS = {
    "grad": torch.func.grad,
    "jacrev": torch.func.jacrev,
    "jacfwd": torch.func.jacfwd,
    "jvp": lambda f: lambda x: torch.stack([torch.func.jvp(f, (x,), (e,))[1] for e in torch.eye(len(x), dtype=D)]),
}


def steps(backward):
    """Those that are differentiated cost time, the others do not, and must converge."""
    return 6 if backward in ("unroll", "truncated") else 25


def curve(backward, kernel=None):
    """A loss of the solution of a problem with large residuals, as a function of theta (2,)."""

    def loss(theta):
        fit = optim.Cost(
            lambda x: (torch.sin(A @ x) - B * theta[0])[:, None],
            lambda x: (torch.cos(A @ x)[:, None] * A)[:, None, :],
            kernel=kernel,
        )
        prior = optim.Cost(lambda x: (theta[1].exp() * x)[:, None])
        problem = optim.LeastSquares([fit, prior], optim.Euclidean())
        start = torch.zeros(2, dtype=D)
        solution = optim.solve(
            problem, start, optim.GaussNewton(), steps(backward), backward=backward, backward_iterations=6
        )
        return (solution.x**2).sum() + solution.x[0]

    return loss


def poses(backward, count=3):
    """The same of a pose graph, dense or, of more than 16 poses, sparse."""
    generator = torch.Generator().manual_seed(2)
    T_ij = se3.exp(0.1 * torch.randn(count, 6, dtype=D, generator=generator))

    def graph(theta):
        move = torch.zeros(count, 6, dtype=D)
        move[:, 0] = 1.0
        graph = gs.FactorGraph()
        graph.add_variables("pose", optim.SE3(), torch.eye(4, dtype=D).repeat(count, 1, 1))
        graph.fix("pose", [0])
        weight = optim.IsotropicWeight(theta[1].exp().expand(count))
        k = torch.arange(count)
        graph.add_between("pose", k, (k + 1) % count, T_ij @ se3.exp(theta[0] * move), weight=weight)
        graph.add_prior("pose", k[1:], se3.exp(0.1 * move[1:]))
        return graph

    def loss(theta):
        strategy = optim.GaussNewton()
        solution = graph(theta).optimize(strategy, steps(backward), None, backward, backward_iterations=4)
        return solution["pose"][..., :3, 3].sum() + solution["pose"][1, 0, 1] ** 2

    loss.graph = graph
    return loss


def gradient(loss, theta):
    theta = theta.detach().requires_grad_()
    return torch.autograd.grad(loss(theta), theta)[0]


def differences(function, theta, h=1e-5):
    return torch.stack([(function(theta + h * e) - function(theta - h * e)) / (2 * h) for e in torch.eye(2, dtype=D)])


def twice(loss):
    def second(theta):
        theta = theta.detach().requires_grad_()
        (first,) = torch.autograd.grad(loss(theta), theta, create_graph=True)
        return torch.stack([torch.autograd.grad(x, theta, retain_graph=True)[0] for x in first])

    return second


def penalty(loss):
    """A row of the Hessian, by way of `backward`."""

    def second(theta):
        theta = theta.detach().requires_grad_()
        (first,) = torch.autograd.grad(loss(theta), theta, create_graph=True)
        first[0].backward()
        return torch.stack([theta.grad, torch.full_like(theta, torch.nan)])

    return second


def dual_over_reverse(loss):
    """Row by row, forward mode outside."""

    def second(theta):
        rows = []
        for direction in torch.eye(len(theta), dtype=D):
            with torch.autograd.forward_ad.dual_level():
                dual = torch.autograd.forward_ad.make_dual(theta.detach().requires_grad_(), direction)
                (first,) = torch.autograd.grad(loss(dual), dual, create_graph=True)
                rows.append(torch.autograd.forward_ad.unpack_dual(first).tangent.detach())
        return torch.stack(rows)

    return second


SECOND = {
    "twice": twice,
    "backward": penalty,
    "functional": lambda f: lambda x: torch.autograd.functional.hessian(f, x),
    "vectorized": lambda f: lambda x: torch.autograd.functional.hessian(f, x, vectorize=True),
    "torch.func": torch.func.hessian,
    "jacrev": lambda f: torch.func.jacrev(torch.func.jacrev(f)),
    "jacfwd": lambda f: torch.func.jacfwd(torch.func.jacfwd(f)),
    "reverse over forward": lambda f: torch.func.jacrev(torch.func.jacfwd(f)),
    "dual": dual_over_reverse,
}
PROBLEMS = {
    "curve": curve,
    "robust": lambda mode: curve(mode, optim.Cauchy(0.5)),
    "dense": poses,
    "sparse": lambda mode: poses(mode, 18),
}


FEW = ("twice", "torch.func")


@pytest.mark.parametrize(
    ("problem", "ways", "modes"),
    [
        ("curve", SECOND, ("unroll", "truncated", "implicit", "implicit-gn", "direct")),
        ("robust", FEW, ("unroll", "implicit")),
        ("dense", FEW, ("unroll", "truncated", "implicit", "implicit-gn", "direct")),
        ("sparse", (*FEW, "jacrev", "jacfwd", "vectorized"), ("unroll", "implicit")),
    ],
)
def test_second_derivatives_are_right_or_refused(problem, ways, modes):
    forward = ("torch.func", "jacrev", "jacfwd", "reverse over forward", "dual")
    never = {"truncated": SECOND, "implicit": forward, "implicit-gn": SECOND, "direct": SECOND}
    for backward in modes:
        loss = PROBLEMS[problem](backward)
        refused = (*never.get(backward, ()), *(("torch.func", "jacfwd", "vectorized") if problem == "sparse" else ()))
        expected = differences(lambda theta, loss=loss: gradient(loss, theta), THETA)
        for way in ways:
            if way in refused:
                with pytest.raises(RuntimeError, match=r"use .*'unroll'|leading axes|use torch.func.jacrev"):
                    SECOND[way](loss)(THETA)
                continue
            found = SECOND[way](loss)(THETA)
            rows = found.isfinite().all(-1)
            assert rows[0]
            message = f"{backward} {way}: {found} {expected}"
            torch.testing.assert_close(found[rows], expected[rows], rtol=1e-5, atol=1e-6, msg=message)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_transforms_through_solutions(problem, transform):
    for backward in ("unroll", "truncated") if problem == "curve" else ("unroll",):
        found = TRANSFORMS[transform](PROBLEMS[problem](backward))(THETA)
        torch.testing.assert_close(found, gradient(PROBLEMS[problem](backward), THETA), rtol=1e-8, atol=1e-10)
    for backward in ("implicit", "implicit-gn", "direct"):
        with pytest.raises(RuntimeError, match=r"is not for transforms of torch\.func: use 'unroll' or 'truncated'"):
            TRANSFORMS[transform](PROBLEMS[problem](backward))(THETA)


def test_forward_mode_by_dual_numbers():
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(THETA, torch.tensor([1.0, 0.0], dtype=D))
        tangent = lambda loss: torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent  # noqa: E731
        assert tangent(curve("detach")) is None
        for problem, backward in itertools.product(("curve", "robust", "dense", "sparse"), ("unroll", "truncated")):
            loss = PROBLEMS[problem](backward)
            torch.testing.assert_close(tangent(loss), gradient(loss, THETA)[0], rtol=1e-8, atol=1e-10)
        for backward in ("implicit", "implicit-gn", "direct"):
            with pytest.raises(RuntimeError, match="no forward-mode derivative: use backward='unroll'"):
                poses(backward)(dual)


def test_third_derivatives_of_an_implicit_solution_are_refused():
    theta = THETA.clone().requires_grad_()
    (first,) = torch.autograd.grad(curve("implicit")(theta), theta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), theta, create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivatives: use 'unroll'"):
        torch.autograd.grad(second.sum(), theta)


def test_second_derivatives_of_a_root_are_refused():
    theta = THETA.clone().requires_grad_()
    x = 0.3 + optim.differentiate_root(
        lambda d: (0.3 + d) * theta - 0.3 * theta.detach(), THETA * 0, optim.dense_inverse
    )
    (first,) = torch.autograd.grad(x.sum(), theta, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate_root has no second derivatives"):
        torch.autograd.grad(first.sum(), theta)


def test_second_derivatives_of_the_surrogate_loss():
    graph = poses("unroll").graph
    truth = {"pose": graph(THETA).initial[0]}

    def loss(theta):
        return surrogate_loss(graph(theta), truth, 3)

    expected = differences(lambda theta: gradient(loss, theta), THETA)
    for way in ("twice", "functional", "torch.func"):
        torch.testing.assert_close(SECOND[way](loss)(THETA), expected, rtol=1e-5, atol=1e-6)


def fit_to(theta):
    return optim.LeastSquares([optim.Cost(lambda x: (torch.sin(A @ x) - B * theta[0])[:, None])], optim.Euclidean())


def test_vmap_over_problems():
    thetas = torch.stack([THETA, 2 * THETA, THETA.flip(0)])
    for problem in ("curve", "dense"):
        loss = PROBLEMS[problem]("unroll")
        torch.testing.assert_close(torch.vmap(loss)(thetas), torch.stack([loss(theta) for theta in thetas]))
    with pytest.raises(RuntimeError, match=r"vmap: whether all have converged .* use tolerance=None"):
        torch.vmap(lambda theta: optim.solve(fit_to(theta), THETA, optim.GaussNewton(), 3, tolerance=1e-9).x)(thetas)
    with pytest.raises(RuntimeError, match=r"vmap: .* leading axes"):
        torch.vmap(PROBLEMS["sparse"]("unroll"))(thetas)
