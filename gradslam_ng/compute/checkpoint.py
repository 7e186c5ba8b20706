"""Activation checkpointing: functions whose inner values are not kept for the backward pass but computed again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function

from gradslam_ng.compute.compiled import CompiledFunction, compilation_enabled, compiled
from gradslam_ng.compute.transforms import transforms_active
from gradslam_ng.compute.tree import tree_leaves, tree_structure, tree_unflatten

R = TypeVar("R")
Tensors = tuple[Tensor, ...]


def checkpoint(function: Callable[..., R], *args: Any) -> R:
    """function(*args), for which only the arguments are kept; the rest is worked out again in the backward pass.

    Chen et al. 2016, for a pure function: its gradient reaches the tensors in `args`, directly or within tuples,
    dictionaries and dataclasses, and nothing else. Unlike `torch.utils.checkpoint` it hooks no saved tensor and costs
    nothing but the second evaluation. Of a compiled function of plain tensors that returns a tuple of them, inside
    `compilation()`, both passes run compiled. Within transforms of torch.func, and in forward mode, nothing is saved.
    """
    if not torch.is_grad_enabled() or transforms_active():
        return function(*args)
    structure = tree_structure(args)  # the function must hold no tensor that autograd does not know of
    returned: list[Any] = []

    def flat(*tensors: Tensor) -> Tensors:
        result = function(*tree_unflatten(structure, iter(tensors)))
        returned[:] = [tree_structure(result)]
        return tuple(tree_leaves(result))

    compiled_vjp = None
    if isinstance(function, CompiledFunction) and all(isinstance(x, Tensor) for x in args):
        compiled_vjp = vjp(function)
    outputs = _Recomputed.apply(flat, compiled_vjp, *tree_leaves(args))
    return tree_unflatten(returned[0], iter(outputs))


@functools.cache
def vjp(
    function: CompiledFunction[..., Tensors],
) -> CompiledFunction[[Tensors, tuple[int, ...], tuple[int, ...], Tensors], Any]:
    """The compiled function (tensors, wanted, given, grads) that brings gradients back through a function of tensors.

    grads are those of the outputs number `given`; it returns those of the inputs number `wanted`.
    """

    @compiled
    def backward(tensors: Tensors, wanted: tuple[int, ...], given: tuple[int, ...], grads: Tensors) -> Tensors:
        def partial(*chosen: Tensor) -> Tensors:
            arguments = list(tensors)
            for i, x in zip(wanted, chosen, strict=True):
                arguments[i] = x
            outputs = function.plain(*arguments)
            return tuple(outputs[i] for i in given)

        return torch.func.vjp(partial, *(tensors[i] for i in wanted))[1](grads)

    backward.__module__, backward.__qualname__ = function.__module__, f"{function.__qualname__}.vjp"
    backward.made_by = (vjp, (function,))
    return backward


class _Recomputed(Function):
    """flat(*tensors), by its compiled `vjp` in the backward pass if there is one."""

    @staticmethod
    def forward(ctx: Any, flat: Callable[..., Tensors], compiled_vjp: CompiledFunction | None, *tensors: Tensor) -> Any:
        ctx.flat, ctx.compiled_vjp = flat, compiled_vjp
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return flat(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        needed = ctx.needs_input_grad[2:]
        differentiable = torch.is_grad_enabled()  # the gradient itself is to be differentiated
        if ctx.compiled_vjp is not None and compilation_enabled() and not differentiable:
            found = _compiled_backward(ctx, needed, grads)
        else:
            found = _plain_backward(ctx, needed, grads, differentiable)
        return None, None, *found


def _compiled_backward(ctx: Any, needed: tuple[bool, ...], grads: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    wanted = tuple(i for i, need in enumerate(needed) if need)
    given = tuple((i, grad) for i, grad in enumerate(grads) if grad is not None)
    result: list[Tensor | None] = [None] * len(needed)
    if wanted and given:
        places, values = zip(*given, strict=True)
        for i, grad in zip(wanted, ctx.compiled_vjp(ctx.saved_tensors, wanted, places, values), strict=True):
            result[i] = grad
    return result


def _plain_backward(
    ctx: Any, needed: tuple[bool, ...], grads: tuple[Tensor | None, ...], differentiable: bool
) -> list[Tensor | None]:
    with torch.enable_grad():
        # detached, or the engine would walk through all that lies before this function
        tensors = [
            x.view_as(x) if differentiable else x.detach().requires_grad_(x.requires_grad) for x in ctx.saved_tensors
        ]
        outputs = ctx.flat(*tensors)
    result: list[Tensor | None] = [None] * len(needed)
    given = [(y, grad) for y, grad in zip(outputs, grads, strict=True) if grad is not None and y.requires_grad]
    wanted = [i for i, need in enumerate(needed) if need]
    if wanted and given:
        ends, values = zip(*given, strict=True)
        inputs = [tensors[i] for i in wanted]
        found = torch.autograd.grad(ends, inputs, values, create_graph=differentiable, allow_unused=True)
        for i, grad in zip(wanted, found, strict=True):
            result[i] = grad
    return result
