"""Central differences in double precision, beside the gradients that are tested."""

from __future__ import annotations

import torch


def central_differences(loss, x, step=1e-5):
    """The gradient of a scalar function of x, entry by entry, to fourth order in the step."""
    flat = x.detach().flatten()
    slopes = []
    for k in range(len(flat)):
        e = torch.zeros_like(flat)
        e[k] = step
        near, far = (
            (loss((flat + s * e).view_as(x)).detach() - loss((flat - s * e).view_as(x)).detach()) / (2 * s * step)
            for s in (1, 2)
        )
        slopes.append((4 * near - far) / 3)
    return torch.stack(slopes).view_as(x)


def assert_gradients(loss, x, tolerance, step=1e-4):
    """The gradient of loss at x meets central differences, `tolerance` relative to its largest entry."""
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    expected = central_differences(loss, x, step)
    assert expected.abs().max() > 0
    error = (gradient - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"gradient {gradient}, central differences {expected}, relative error {error:.1e}"


def assert_gradients_on_maps(solve, random_cost, goal, shape, walls, tolerance):
    """The gradient of costs to go, `solve(cost, goal)`, to a cost map with walls, all cells in one weighted loss."""
    cost = random_cost(*shape, walls=0.0)
    blocked = random_cost(*shape, walls=walls, seed=3).isinf()
    blocked[goal] = False
    weights = torch.linspace(-1, 2, cost.numel(), dtype=torch.float64).view(shape)

    def loss(cost):
        found = solve(torch.where(blocked, torch.inf, cost), goal)
        return (torch.where(found.isfinite(), found, 0.0) * weights).sin().sum()

    assert_gradients(loss, cost, tolerance)
