"""Poses as another source tells them (`RGBDFrames.T_prior`): what of them is known, and the motion between two."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.geometry import se3


def told(T_prior: Tensor) -> Tensor:  # (..., 4, 4)
    """Which numbers (..., 4, 4) bool are known: all, none, or all but the last column, the translation."""
    rotates = T_prior[..., :3, :3].isfinite().all(-1).all(-1)
    moves = rotates & T_prior[..., :3, 3].isfinite().all(-1)
    is_translation = torch.arange(4, device=T_prior.device) == 3
    return torch.where(is_translation, moves[..., None, None], rotates[..., None, None])


def usable_prior(T_prior: Tensor) -> Tensor:  # (..., 4, 4)
    """The poses (..., 4, 4), NaN where they are unknown or no rigid motions."""
    known, eye = told(T_prior.detach()), torch.eye(4, dtype=T_prior.dtype, device=T_prior.device)
    rigid = se3.is_rigid(torch.where(known, T_prior.detach(), eye), tol=1e-3)
    return torch.where(known & rigid[..., None, None], T_prior, torch.nan)


def motion_told(
    T_before: Tensor,  # (..., 4, 4)
    T_now: Tensor,  # (..., 4, 4)
) -> Tensor:
    """The motion (..., 4, 4) from one to the next, NaN where it is unknown, in the translation alone too."""
    known, eye = told(T_before) & told(T_now), torch.eye(4, dtype=T_now.dtype, device=T_now.device)
    motion = se3.inverse(torch.where(known, T_before, eye)) @ torch.where(known, T_now, eye)
    return torch.where(known, motion, torch.nan)
