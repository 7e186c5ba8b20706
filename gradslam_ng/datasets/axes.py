"""Axes of cameras: those of OpenGL, ARKit and nerfstudio have y up and look along -z; ours y down, and along z."""

from __future__ import annotations

import torch
from torch import Tensor


def flip_camera_axes(
    T_wc: Tensor,  # (..., 4, 4)
) -> Tensor:
    """Poses of cameras in OpenGL's axes as those in ours, and the other way round; the world stays. (..., 4, 4)."""
    return T_wc * torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=T_wc.dtype, device=T_wc.device)
