"""Activation checkpointing: functions whose inner values are not kept for the backward pass but computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from gradslam_ng.compute.compiled import CompiledFunction, compilation_enabled
from gradslam_ng.compute.recomputation import recompute
from gradslam_ng.compute.transforms import transforms_active

R = TypeVar("R")


def checkpoint(function: Callable[..., R], *args: Any) -> R:
    """function(*args), for which only the arguments are kept; the rest is worked out again in the backward pass.

    Chen et al. 2016, for a pure function: its gradient reaches the tensors in `args`, directly or within tuples,
    dictionaries and dataclasses, and nothing else. Unlike `torch.utils.checkpoint` it hooks no saved tensor and costs
    nothing but the second evaluation. A compiled function does the same by itself inside `compilation()`, both passes
    compiled. Within transforms of torch.func, and in forward mode, nothing is saved.
    """
    compiled = isinstance(function, CompiledFunction) and compilation_enabled()
    if compiled or not torch.is_grad_enabled() or transforms_active():
        return function(*args)
    return recompute(function, args)
