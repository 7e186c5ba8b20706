"""The pinhole camera: x right, y down, z forward; a pixel's center lies at its integer coordinate."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import discrete, steady_floor
from gradslam_ng.compute.masks import heaviside, stack_last, valid_depth
from gradslam_ng.compute.safe import denominator
from gradslam_ng.compute.transforms import transforms_active

_Z_MIN = 1e-8  # meters: nearer points, and those behind, are projected as if at 1 m so that nothing overflows
_RIM = 2  # pixels of zeros around an image that is sampled


def pixel_grid(
    height: int, width: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Pixel coordinates (u right, v down) of an image, (H, W, 2)."""
    v = torch.arange(height, device=device, dtype=dtype or torch.get_default_dtype())
    u = torch.arange(width, device=device, dtype=dtype or torch.get_default_dtype())
    return torch.stack([u.expand(height, width), v[:, None].expand(height, width)], dim=-1)


@discrete
def is_pinhole(
    K: Tensor,  # (..., 3, 3)
    size: tuple[int, int],
) -> Tensor:
    """Whether K (..., 3, 3) is finite, upper triangular with 1 in the last place, and its focal lengths are a twentieth
    of the image's size (H, W) at least: less is no lens, but a K that is not in pixels. Returns (...) bool."""
    height, width = size
    last_row = (K[..., 2, :] - torch.eye(3, dtype=K.dtype, device=K.device)[2]).abs() <= 1e-3
    long_enough = (K[..., 0, 0] >= width / 20) & (K[..., 1, 1] >= height / 20)
    return long_enough & (K[..., 1, 0].abs() <= 1e-3) & last_row.all(-1) & K.isfinite().all(-1).all(-1)


def project(
    p_c: Tensor,  # (..., N, 3), meters, camera frame
    K: Tensor,  # (..., 3, 3)
) -> tuple[Tensor, Tensor]:
    """Pixels at which a camera sees points.

    Returns uv (..., N, 2), pixels, and z (..., N), meters. Where z is not positive uv is finite, as is its gradient,
    but means nothing: the caller keeps what has z > 0.
    """
    x, y, z = p_c.unbind(-1)
    in_front = heaviside(z - _Z_MIN)
    z_safe = z * in_front + (1.0 - in_front)
    x, y = x / z_safe, y / z_safe
    fx, skew, cx = (K[..., 0, i, None] for i in range(3))
    fy, cy = (K[..., 1, i, None] for i in (1, 2))
    return stack_last(fx * x + skew * y + cx, fy * y + cy), z


def project_soa(
    p_c: tuple[Tensor, Tensor, Tensor],  # (..., N) each, meters, camera frame
    K: Tensor,  # (..., 3, 3)
    near: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor]:
    """`project` for points whose x, y and z (..., N) lie apart: u and v, pixels, and whether z is more than `near`."""
    x, y, z = p_c
    in_front = z > near
    inv_z = 1.0 / denominator(z, in_front)
    u = (K[..., 0, 0, None] * x + K[..., 0, 1, None] * y) * inv_z + K[..., 0, 2, None]
    v = K[..., 1, 1, None] * y * inv_z + K[..., 1, 2, None]
    return u, v, in_front


def unproject(
    depth: Tensor,  # (..., H, W, 1), meters
    K: Tensor,  # (..., 3, 3)
) -> Tensor:
    """Vertex map of a depth image: the point seen by every pixel, zero where depth is missing.

    Returns (..., H, W, 3), meters, camera frame.
    """
    height, width = depth.shape[-3:-1]
    z = valid_depth(depth[..., 0])
    u = torch.arange(width, device=depth.device, dtype=depth.dtype)
    v = torch.arange(height, device=depth.device, dtype=depth.dtype)[:, None]
    fx, skew, cx = (K[..., 0, i, None, None] for i in range(3))
    fy, cy = (K[..., 1, i, None, None] for i in (1, 2))
    y = (v - cy) / fy  # (..., H, 1)
    x = (u - cx - skew * y) / fx  # (..., H, W)
    return stack_last(x * z, y * z, z)


def scale_intrinsics(
    K: Tensor,  # (..., 3, 3)
    scale: float | tuple[float, float],
) -> Tensor:
    """K of the image resized by `scale`, or by (horizontal, vertical): f' = f s, c' = (c + 0.5) s - 0.5.

    Returns the same shape.
    """
    sx, sy = scale if isinstance(scale, tuple) else (scale, scale)
    row_u, row_v, row_1 = K.unbind(-2)
    return torch.stack([sx * row_u + (0.5 * sx - 0.5) * row_1, sy * row_v + (0.5 * sy - 0.5) * row_1, row_1], dim=-2)


def sample(
    image: Tensor,  # (..., H', W', C)
    uv: Tensor,  # (..., H, W, 2)
    mode: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """The image at other pixels, zero outside. Returns (..., H, W, C).

    Between pixels the derivatives to uv are those of the interpolation; at their centers, where it has a kink and a
    camera that is where it was expected looks, they are the mean of both sides.

    Depth wants `nearest`: no measurement is mixed with another or with a hole.
    """
    (height, width), lead = image.shape[-3:-1], torch.broadcast_shapes(image.shape[:-3], uv.shape[:-3])
    u, v = uv.expand(*lead, *uv.shape[-3:]).unbind(-1)
    u, v = (x.nan_to_num(nan=-1.0).clamp(-1, size) for x, size in ((u, width), (v, height)))  # and there it is zero
    image = image.expand(*lead, *image.shape[-3:])
    table = torch.nn.functional.pad(image, (0, 0, _RIM, _RIM, _RIM, _RIM)).flatten(0, -2)
    row_length = width + 2 * _RIM
    corner = (torch.arange(lead.numel(), device=image.device) * (height + 2 * _RIM) + _RIM) * row_length + _RIM

    def look_up(place: Tensor) -> Tensor:
        return table.index_select(0, place.flatten()).unflatten(0, place.shape)

    def number(row: Tensor, column: Tensor) -> Tensor:
        return row.long() * row_length + column.long() + corner.reshape(*lead, 1, 1)

    if mode == "nearest":
        return look_up(number(steady_floor(v + 0.5), steady_floor(u + 0.5)))
    if not (uv.requires_grad or transforms_active()):  # for values two pixels along each axis will do
        column, row = u.floor(), v.floor()
        across, down, place = (u - column)[..., None], (v - row)[..., None], number(row, column)
        upper, lower = (torch.lerp(look_up(place + i), look_up(place + (i + 1)), across) for i in (0, row_length))
        return torch.lerp(upper, lower, down)
    (column, across, at_column), (row, down, at_row) = linear_place(u, width), linear_place(v, height)
    place, lines = number(row, column), []
    for i in (-row_length, 0, row_length):
        line = look_up(place + (i - 1)), look_up(place + i), look_up(place + (i + 1))
        lines.append(interpolate(*line, across[..., None], at_column[..., None]))
    above, upper, lower = lines
    return interpolate(above, upper, lower, down[..., None], at_row[..., None])


def linear_place(x: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixel at or before x (...), how far behind it x lies, and whether at its center, as far as rounding tells.

    x: pixels along an axis of `size`. Returns whole numbers, float and bool, (...) each.
    """
    nearest = x.detach().round()
    at_center = (x.detach() - nearest).abs() <= 8 * torch.finfo(x.dtype).eps * size
    first = torch.where(at_center, nearest, x.detach().floor())
    return first, x - first, at_center


def interpolate(before: Tensor, first: Tensor, second: Tensor, part: Tensor, at_center: Tensor) -> Tensor:
    """From the first value to the second, `part` of the way; at a center the slope is the mean of both sides."""
    return first + part * torch.where(at_center, 0.5 * (second - before), second - first)
