"""Functions whose inner values are not kept for the backward pass but computed again (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from gradslam_ng.compute.tree import tree_leaves, tree_structure, tree_unflatten

Tensors = tuple[Tensor, ...]
Gradients = list[Tensor | None]


def recompute(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    gradients: Callable[[tuple[Any, ...], tuple[bool, ...], Gradients], Gradients] | None = None,
) -> Any:
    """function(*args), of which only the tensors in args are kept, and reached by gradients.

    gradients: what (args, which of their tensors need a gradient, those of the tensors that were returned) brings back,
        where the gradient itself is not to be differentiated; by default the function's own.
    """
    structure = tree_structure(args)  # nothing may hold a tensor that autograd does not know of
    returned: list[Any] = []

    def flat(*tensors: Tensor) -> Tensors:
        result = function(*tree_unflatten(structure, iter(tensors)))
        returned[:] = [tree_structure(result)]
        return tuple(tree_leaves(result))

    def backward(tensors: Tensors, needed: tuple[bool, ...], grads: Gradients) -> Gradients:
        assert gradients is not None
        return gradients(tree_unflatten(structure, iter(tensors)), needed, grads)

    outputs = _Recomputed.apply(flat, None if gradients is None else backward, *tree_leaves(args))
    return tree_unflatten(returned[0], iter(outputs))


class _Recomputed(Function):
    """flat(*tensors)."""

    @staticmethod
    def forward(ctx: Any, flat: Callable[..., Tensors], backward: Callable | None, *tensors: Tensor) -> Any:
        ctx.flat, ctx.backward = flat, backward
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return flat(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        needed, differentiable = ctx.needs_input_grad[2:], torch.is_grad_enabled()
        if ctx.backward is None or differentiable:
            return None, None, *recorded_gradients(ctx.flat, ctx.saved_tensors, needed, list(grads), differentiable)
        return None, None, *ctx.backward(ctx.saved_tensors, needed, list(grads))


def recorded_gradients(
    flat: Callable[..., Tensors],
    tensors: Tensors,
    needed: tuple[bool, ...],
    grads: Gradients,
    differentiable: bool = False,  # the gradient itself is to be differentiated
) -> Gradients:
    """The gradients of flat(*tensors) where `needed`, from those of its outputs; None for what these do not depend
    on."""
    with torch.enable_grad():
        # detached, or the engine would walk through all that lies before this function
        inputs = [
            x.view_as(x) if differentiable else x.detach().requires_grad_(need)
            for x, need in zip(tensors, needed, strict=True)
        ]
        outputs = flat(*inputs)
    result: Gradients = [None] * len(needed)
    given = [(y, grad) for y, grad in zip(outputs, grads, strict=True) if grad is not None and y.requires_grad]
    wanted = [i for i, need in enumerate(needed) if need]
    if wanted and given:
        ends, values = zip(*given, strict=True)
        found = torch.autograd.grad(
            ends, [inputs[i] for i in wanted], values, create_graph=differentiable, allow_unused=True
        )
        for i, grad in zip(wanted, found, strict=True):
            result[i] = grad
    return result
