"""Where the camera is between frames: a cubic spline through the poses around each keyframe."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.geometry import se3


class LocalMotion(NamedTuple):
    """The way of the camera around N keyframes: t seconds later keyframe k is at T_wc exp(xi(t)).

    xi is piecewise cubic; farther in time than the knots reach it goes on as it was.
    """

    knots: Tensor  # (N, S + 1), seconds from each keyframe
    coefficients: Tensor  # (N, S, 4, 6), of the powers of the time since the piece began, the highest first

    def at(
        self,
        index: Tensor,  # (M,)
        t: Tensor,  # (), seconds
    ) -> tuple[Tensor, Tensor]:
        """xi (M, 6) of keyframes, and its derivative (M, 6), per second."""
        knots = self.knots[index]
        piece = (knots[:, 1:-1] <= t.detach()).sum(-1)
        each = torch.arange(len(index), device=index.device)
        a, b, c, d = self.coefficients[index, piece].unbind(1)
        s = (t - knots[each, piece])[:, None]
        return ((a * s + b) * s + c) * s + d, (3 * a * s + 2 * b) * s + c


def interpolate_motion(
    timestamps: Tensor,  # (L,), seconds
    T_wc: Tensor,  # (L, 4, 4)
    keyframes: Tensor,  # (N,) of the L frames
    reach: int = 5,
) -> LocalMotion:
    """Splines through `reach` poses before and after each keyframe, as far as there are any."""
    from scipy.interpolate import CubicSpline  # takes a while

    knots, coefficients = [], []
    for k in keyframes.tolist():
        first = max(0, min(k - reach, len(T_wc) - 2 * reach - 1))
        around = slice(first, first + 2 * reach + 1)
        t = timestamps[around] - timestamps[k]
        xi = se3.log(se3.inverse(T_wc[k]) @ T_wc[around])
        spline = CubicSpline(t.numpy(), xi.numpy())
        knots.append(t)
        coefficients.append(torch.from_numpy(spline.c).movedim(0, 1))
    return LocalMotion(torch.stack(knots).to(T_wc), torch.stack(coefficients).to(T_wc))
