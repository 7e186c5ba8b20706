"""How far the depth images of a clip disagree once its frames are where SLAM put them: a loss without ground truth."""

from __future__ import annotations

import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import camera, se3

KERNEL_WIDTH = 0.02  # share of the depth; a pair of measurements that is farther apart counts less and less


def disagreement(frames: gs.RGBDFrames, T_wc: Tensor, seen: Tensor | None = None) -> Tensor:
    """Mean over all pairs of frames of how far a point of one is from the surface that the other sees there.

    Relative to the depth, so that a map gains nothing by shrinking, and robust (Geman and McClure 1987). Inverse depth
    is what is interpolated between pixels: on a plane that is exact.

    Args:
        frames: (B, L).
        T_wc: (B, L, 4, 4), where SLAM found them.
        seen: (B, L, H, W, 1) depth that the points are compared with; default: that of `frames`.
    """
    seen = frames.depth if seen is None else seen
    batch, length = frames.shape
    points = se3.transform(T_wc[..., None, :, :], camera.unproject(frames.depth, frames.K)).flatten(2, 3)
    valid = (frames.depth > 0).flatten(2)
    known = (seen > 0).to(seen)
    inverse = torch.cat([known / torch.where(seen > 0, seen, 1), known], dim=-1)
    T_cw = se3.inverse(T_wc)
    total, count = points.new_zeros(()), points.new_zeros(())
    for i in range(length):
        others = [j for j in range(length) if j != i]
        p_c = se3.transform(T_cw[:, i, None], points[:, others].flatten(1, 2).reshape(batch, 1, -1, 3))[:, 0]
        uv, z = camera.project(p_c, frames.K[:, i])
        one_over, share = camera.sample(inverse[:, i], uv[:, None])[:, 0].unbind(-1)
        gap = (z * one_over - 1) / KERNEL_WIDTH
        met = valid[:, others].flatten(1) & (share > 0.999) & (z > 0.1) & (gap.detach().abs() < 5)
        square = torch.where(met, gap, 0).square()
        total = total + (square / (1 + square)).sum()
        count = count + met.sum()
    return total / count.clamp(min=1)
