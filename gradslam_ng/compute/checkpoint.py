"""Time for memory: functions whose inner values are not kept for the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function

from gradslam_ng.compute.compiled import compilation_enabled, compiled
from gradslam_ng.compute.tree import tree_leaves, tree_structure, tree_unflatten

R = TypeVar("R")


def checkpoint(function: Callable[..., R], *args: Any) -> R:
    """function(*args), for which only the arguments are kept; the rest is worked out again in the backward pass.

    Chen et al. 2016, for a pure function: its gradient reaches the tensors in `args`, directly or within tuples,
    dictionaries and dataclasses, and nothing else. Unlike `torch.utils.checkpoint` it hooks no saved tensor and costs
    nothing but the second evaluation. Of a hot function of plain tensors that returns a tuple of them, inside
    `compilation()`, both passes run compiled.
    """
    if not torch.is_grad_enabled():
        return function(*args)
    structure = tree_structure(args)  # the function must hold no tensor that autograd does not know of
    made = []

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        result = function(*tree_unflatten(structure, iter(tensors)))
        made[:] = [tree_structure(result)]
        return tuple(tree_leaves(result))

    simple = hasattr(function, "plain") and all(isinstance(x, Tensor) for x in args)
    outputs = _Recomputed.apply(flat, vjp(function.plain) if simple else None, *tree_leaves(args))
    return tree_unflatten(made[0], iter(outputs))


@functools.cache
def vjp(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """The hot function (tensors, wanted, asked, grads) that brings gradients back through a function of tensors.

    grads are those of the outputs number `asked`; it returns those of the inputs number `wanted`.
    """

    @compiled
    def back(tensors: tuple[Tensor, ...], wanted: tuple[int, ...], asked: tuple[int, ...], grads: tuple[Tensor, ...]):
        def some(*chosen: Tensor) -> tuple[Tensor, ...]:
            arguments = list(tensors)
            for i, x in zip(wanted, chosen, strict=True):
                arguments[i] = x
            outputs = function(*arguments)
            return tuple(outputs[i] for i in asked)

        return torch.func.vjp(some, *(tensors[i] for i in wanted))[1](grads)

    return back


class _Recomputed(Function):
    @staticmethod
    def forward(
        ctx, flat: Callable[..., tuple[Tensor, ...]], twin: Callable | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.flat, ctx.twin = flat, twin
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return flat(*tensors)

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        again = torch.is_grad_enabled()  # the gradient itself is to be differentiated
        needed = ctx.needs_input_grad[2:]
        if ctx.twin is not None and compilation_enabled() and not again:
            wanted = tuple(i for i, need in enumerate(needed) if need)
            asked = tuple(i for i, grad in enumerate(grads) if grad is not None)
            if not wanted or not asked:
                return (None,) * len(ctx.needs_input_grad)
            found = iter(ctx.twin(ctx.saved_tensors, wanted, asked, tuple(grads[i] for i in asked)))
            return None, None, *(next(found) if need else None for need in needed)
        with torch.enable_grad():
            # detached, or the engine would walk through all that lies before this function
            tensors = [x.view_as(x) if again else x.detach().requires_grad_(x.requires_grad) for x in ctx.saved_tensors]
            outputs = ctx.flat(*tensors)
        asked = [(y, g) for y, g in zip(outputs, grads, strict=True) if g is not None and y.requires_grad]
        inputs = [x for x, need in zip(tensors, needed, strict=True) if need]
        found = [None] * len(inputs)
        if asked:
            outputs, grads = zip(*asked, strict=True)
            found = torch.autograd.grad(outputs, inputs, grads, create_graph=again, allow_unused=True)
        found = iter(found)
        return None, None, *(next(found) if need else None for need in needed)
