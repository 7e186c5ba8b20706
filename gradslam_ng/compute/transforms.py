"""Which derivatives are taken: transforms of torch.func, forward mode, and refusing one that would be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

# PyTorch has no public way to ask either of these (2.13); `torch.autograd.Function` itself asks the first
_functorch: Any = torch._C._functorch


def functorch_active() -> bool:
    """Whether the code runs within a transform of torch.func (grad, jvp, vmap, ...)."""
    return torch._C._are_functorch_transforms_active()


def transforms_active() -> bool:
    """Whether it runs within a transform of torch.func, or a level of forward-mode differentiation."""
    return functorch_active() or vars(forward_ad)["_current_level"] >= 0


def in_dual_level() -> bool:
    """Whether it runs within a level of dual numbers, `torch.autograd.forward_ad`, in which `torch.func.jvp` is not to
    be had: torch nests forward mode within its own alone."""
    levels = _functorch.get_interpreter_stack() or ()
    own = any(level.key() == _functorch.TransformType.Jvp for level in levels)
    return vars(forward_ad)["_current_level"] >= 0 and not own


def is_vmapped(x: Tensor) -> bool:
    """Whether a tensor is batched by `torch.vmap`, or as a batch of gradients, so that it has no one value."""
    while _functorch.is_gradtrackingtensor(x):
        x = _functorch.get_unwrapped(x)
    return "Batched" in str(torch._C._dispatch_keys(x))  # by the current vmap, or by that of batches of gradients


def refuse_vmap(name: str, *tensors: Tensor) -> None:
    """
    Raises:
        RuntimeError: `torch.vmap` has batched one of the tensors.
    """
    if any(is_vmapped(x) for x in tensors):
        raise RuntimeError(f"vmap: {name} takes a batch as it is; give tensors with a leading axis (B, ...) instead")


def unwrap(x: Tensor) -> Tensor:
    """The tensor that transforms of torch.func have wrapped; any operation on it is wrapped again."""
    while _functorch.is_gradtrackingtensor(x):
        x = _functorch.get_unwrapped(x)
    return x


def as_numpy(x: Tensor) -> np.ndarray:
    """The values of a tensor, in whatever transform.

    Raises:
        RuntimeError: `torch.vmap` has batched it.
    """
    if is_vmapped(x):
        raise RuntimeError("vmap: this is worked out outside of torch; give the problem leading axes instead")
    x = unwrap(x.detach().cpu())
    with torch._C._DisableFuncTorch():  # within a transform `numpy` itself would be wrapped
        return x.numpy()


def forward_mode_nested() -> bool:
    """Whether torch.func's forward mode and one more derivative are taken at once, as by `torch.func.hessian`."""
    kinds = [level.key() for level in _functorch.get_interpreter_stack() or ()]
    forward, reverse = kinds.count(_functorch.TransformType.Jvp), kinds.count(_functorch.TransformType.Grad)
    return forward > 0 and forward + reverse > 1


class _Refused(Function):
    """The first tensor, which cannot be differentiated."""

    @staticmethod
    def forward(message: str, x: Tensor, *others: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.message = inputs[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(ctx.message)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        raise RuntimeError(ctx.message)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], message: str, x: Tensor, *others: Tensor) -> Any:
        return _Refused.apply(message, x, *others), in_dims[1]


def refuse_gradient(message: str, x: Tensor, *others: Tensor) -> Tensor:
    """x, which depends on itself and on others; a gradient through it raises a RuntimeError instead of being wrong."""
    return _Refused.apply(message, x, *others)


class _FirstOrderOnly(Function):
    """A tensor whose derivatives are right, and theirs not, which are refused."""

    @staticmethod
    def forward(message: str, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.message, x = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return None, refuse_gradient(ctx.message, grad, *ctx.saved_tensors) if torch.is_grad_enabled() else grad

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: Tensor) -> Tensor:
        return refuse_gradient(ctx.message, tangent, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], message: str, x: Tensor) -> Any:
        return _FirstOrderOnly.apply(message, x), in_dims[1]


def refuse_second_derivatives(message: str, x: Tensor) -> Tensor:
    """x, whose first derivatives are right; a derivative of one raises a RuntimeError instead of being wrong."""
    return _FirstOrderOnly.apply(message, x)
