"""Covariances of poses as text: a time stamp and the upper triangle a line, beside a trajectory in the TUM format."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.io.atomic import whole_file

HEADER = """\
# covariance of each pose of trajectory.txt: of xi in T_wc exp(xi), that is, in the camera's own frame (x right, y down,
# z forward); xi = [tx ty tz rx ry rz], meters and radians; upper triangle of the 6x6 matrix, row by row
# timestamp xx xy xz xa xb xc yy yz ya yb yc zz za zb zc aa ab ac bb bc cc (a, b, c: rotation about x, y, z)
"""


def save_covariances(
    path: str | os.PathLike,
    timestamps: Tensor,  # (L,), seconds
    covariances: Tensor,  # (L, 6, 6)
) -> None:
    """Write covariances, 1 + 21 numbers a line, the time stamps as `Trajectory.save` writes them."""
    rows, columns = torch.triu_indices(6, 6, device="cpu")
    values = covariances.detach().double().cpu()[:, rows, columns].tolist()
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(HEADER)
        for time, row in zip(timestamps.tolist(), values, strict=True):
            stamp = np.format_float_positional(time, unique=True, min_digits=6)
            file.write(f"{stamp} {' '.join(f'{value:.9g}' for value in row)}\n")
