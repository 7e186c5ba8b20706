"""Lenses: distortion by Brown and Conrady (1971) and by Kannala and Brandt (2006), and how it is undone.

A lens moves the normalized coordinates of a ray, x/z and y/z, to where a pinhole camera with the same K would see it.
Both models come from kornia, in OpenCV's order of coefficients. Their polynomials turn back somewhere outside of the
image; what is seen from there on is told apart, as it would otherwise be found inside again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry.camera import project, sample, unproject

LensModel = Literal["brown_conrady", "kannala_brandt"]
COUNTS: dict[LensModel, tuple[int, ...]] = {"brown_conrady": (4, 5, 8, 12, 14), "kannala_brandt": (4,)}
WIDEST = 1.48  # radians off the axis, 85 degrees: a pinhole's image plane has no room for more
_ANGLES = 512  # at which a polynomial is looked at for where it turns back
_OUTSIDE = -1e6  # pixels: of rays that the lens does not show


@dataclass(frozen=True, eq=False)
class Lens:
    """The distortion of a lens.

    `brown_conrady`: k1, k2, p1, p2, then perhaps k3, then k4, k5, k6 (rational), then thin prism and tilt; 4, 5, 8, 12
    or 14 coefficients. `kannala_brandt`, a fisheye: k1, k2, k3, k4 of the angle off the axis (the `equidistant` of
    ROS and Kalibr, OpenCV's `fisheye`).

    Raises:
        ValueError: another model, or another number of coefficients.
    """

    coefficients: Tensor | Sequence[float]  # (..., n)
    model: LensModel = "brown_conrady"

    def __post_init__(self) -> None:
        if self.model not in COUNTS:
            raise ValueError(f"lens: expected a model of {', '.join(get_args(LensModel))}, got {self.model!r}")
        counts = COUNTS[self.model]
        shape = tuple(self.coefficients.shape if isinstance(self.coefficients, Tensor) else (len(self.coefficients),))
        if shape[-1:] not in [(n,) for n in counts]:
            names = "k1, k2, k3, k4" if len(counts) == 1 else "k1, k2, p1, p2 and perhaps k3 or more"
            raise ValueError(f"distortion: expected {names}, got shape {shape}")

    def like(self, x: Tensor) -> Tensor:
        """The coefficients (..., n) in the precision and on the device of x."""
        return torch.as_tensor(self.coefficients, dtype=x.dtype, device=x.device)


@mode_free
def distort(
    xy: Tensor,  # (..., N, 2), normalized coordinates
    lens: Lens,
) -> tuple[Tensor, Tensor]:
    """Where a lens moves rays, and which rays it shows.

    Returns normalized coordinates (..., N, 2) and (..., N) bool. Rays beyond `WIDEST`, or beyond where the lens' radial
    polynomial turns back, are not shown; they are taken as on the axis, so that no value and no gradient overflows.
    """
    from kornia.geometry.calibration import distort_points  # takes half a second
    from kornia.geometry.camera import distort_points_kannala_brandt

    coefficients = lens.like(xy)
    shown = shows(xy, coefficients, lens.model)
    xy = torch.where(shown[..., None], xy, 0.0)
    if lens.model == "kannala_brandt":
        identity = xy.new_tensor([1.0, 1.0, 0.0, 0.0]).expand(*coefficients.shape[:-1], 4)
        return distort_points_kannala_brandt(xy, torch.cat([identity, coefficients], -1)[..., None, :]), shown
    lead = torch.broadcast_shapes(xy.shape[:-2], coefficients.shape[:-1])
    eye = torch.eye(3, dtype=xy.dtype, device=xy.device).expand(*lead, 3, 3)
    each = coefficients.expand(*lead, coefficients.shape[-1])
    return distort_points(xy.expand(*lead, *xy.shape[-2:]), eye, each, eye), shown


@discrete
def shows(
    xy: Tensor,  # (..., N, 2), normalized coordinates
    coefficients: Tensor,  # (..., n)
    model: LensModel,
) -> Tensor:
    """Which rays (..., N) bool a lens shows: up to the least angle at which its radial polynomial turns back."""
    angle = torch.linspace(0.0, WIDEST, _ANGLES, dtype=xy.dtype, device=xy.device)
    k = torch.nn.functional.pad(coefficients, (0, 8 - min(8, coefficients.shape[-1])))[..., None, :].unbind(-1)
    if model == "kannala_brandt":
        square = angle.square()
        radius = angle * (1 + square * (k[0] + square * (k[1] + square * (k[2] + square * k[3]))))
    else:
        square = angle.tan().square()
        above = 1 + square * (k[0] + square * (k[1] + square * k[4]))
        below = 1 + square * (k[5] + square * (k[6] + square * k[7]))
        radius = angle.tan() * above / below
        radius = torch.where(below > 0, radius, -1.0)
    rises = (radius.diff(dim=-1) > 0).to(xy.dtype).cumprod(-1).sum(-1)  # (...), steps until it does not
    limit = (rises * (WIDEST / (_ANGLES - 1))).tan()
    return xy.square().sum(-1) <= limit.square()[..., None]


@mode_free
def project_through(
    lens: Lens | None,
    p_c: Tensor,  # (..., N, 3), meters, camera frame
    K: Tensor,  # (..., 3, 3)
) -> tuple[Tensor, Tensor, Tensor]:
    """`camera.project` of a camera with a lens.

    Returns uv (..., N, 2), pixels, z (..., N), meters, and (..., N) bool, which points lie in front of the camera where
    its lens shows them. Of the others uv is finite, as is its gradient, but means nothing.
    """
    if lens is None:
        uv, z = project(p_c, K)
        return uv, z, z > 0
    eye = torch.eye(3, dtype=p_c.dtype, device=p_c.device)
    xy, z = project(p_c, eye)
    xy, shown = distort(xy, lens)
    uv, _ = project(torch.cat([xy, torch.ones_like(xy[..., :1])], -1), K)
    return uv, z, shown & (z > 0)


def undistortion_map(
    K: Tensor,  # (..., 3, 3)
    lens: Lens,
    size: tuple[int, int],
) -> Tensor:
    """Where in the distorted image each pixel of the ideal pinhole camera with the same K is seen.

    size (H, W). Returns uv (..., H, W, 2), pixels, for `sample`; far outside of the image where the lens shows nothing.
    """
    ones = torch.ones(*K.shape[:-2], *size, 1, dtype=K.dtype, device=K.device)
    uv, _, shown = project_through(lens, unproject(ones, K).flatten(-3, -2), K)
    return torch.where(shown[..., None], uv, _OUTSIDE).unflatten(-2, size)


def undistort_images(
    color: Tensor,  # (..., H, W, 3)
    depth: Tensor,  # (..., H, W, 1), meters, 0 = no depth
    seen_at: Tensor,  # (..., H, W, 2), pixels, of `undistortion_map`
) -> tuple[Tensor, Tensor]:
    """The color and depth images that an ideal pinhole camera would have taken; zero where the lens saw nothing.

    Color is interpolated, depth is that of the nearest pixel.
    """
    return sample(color, seen_at), sample(depth, seen_at, mode="nearest")
