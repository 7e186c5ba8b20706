"""What the values in frames must be where something begins. Later ones are masked, since asking waits for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.transforms import is_vmapped
from gradslam_ng.geometry import camera, images, se3
from gradslam_ng.structures.frames import RGBDFrames
from gradslam_ng.structures.motion_prior import told, usable_prior


def check_frames(frames: RGBDFrames) -> None:  # (...)
    """Frames whose values make sense.

    Raises:
        ValueError: color far outside [0, 1] or without values, a K that is no pinhole camera's, a pose that is no rigid
            motion. NaN in color and pose is allowed, in a `T_prior` in the translation alone too.
    """
    check_color(frames.color)
    wrong = ~camera.is_pinhole(frames.K, frames.size)
    if not is_vmapped(wrong) and bool(wrong.any()):
        raise ValueError(
            "K: expected finite intrinsics in pixels, [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], with positive focal "
            f"lengths, a twentieth of the image's size at least, got {frames.K[wrong][0].tolist()}"
        )
    if frames.T_wc is not None:
        wrong = ~se3.is_rigid(frames.T_wc, tol=1e-3) & frames.T_wc.isfinite().all(-1).all(-1)
        if not is_vmapped(wrong) and bool(wrong.any()):
            raise ValueError(f"T_wc: expected a rigid motion or NaN, got {frames.T_wc[wrong][0].tolist()}")
    if frames.T_prior is not None:
        T_prior = frames.T_prior.detach()
        wrong = (told(T_prior) & usable_prior(T_prior).isnan()).flatten(-2).any(-1)
        if not is_vmapped(wrong) and bool(wrong.any()):
            found = T_prior[wrong][0].tolist()
            raise ValueError(f"T_prior: expected a rigid motion, or NaN in all or in its translation, got {found}")


def check_color(color: Tensor) -> None:  # (..., H, W, 3)
    """Color in [0, 1], but for what is not finite, and for some overshoot; see `images.usable_color`.

    Raises:
        ValueError: there is color outside, or none, as on the meta device.
    """
    if color.is_meta:
        raise ValueError("color: expected an image with values, got a tensor on the meta device, which has none")
    color = color.detach()
    wrong = ~images.usable_color(color) & color.isfinite().all(-1, keepdim=True)
    if is_vmapped(wrong) or not bool(wrong.any()):
        return
    low, high = (float(x) for x in torch.where(color.isfinite(), color, 0.5).aminmax())
    how = "divide by 255" if low >= 0 and high <= 255 else "undo its normalization"
    raise ValueError(f"color: expected values in [0, 1], got {low:.4g} to {high:.4g}; {how}")
