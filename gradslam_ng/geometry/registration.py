"""Registration of color to depth: the color of each depth pixel, from a color camera of its own.

The depth camera's geometry is kept: depth that is moved to other pixels has holes and mixed surfaces, while color is
interpolated well anywhere. So every depth pixel is lifted to a point, the point is seen by the color camera, and color
is looked up there; all that follows has one K, one size and one pose for both.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.compute.masks import MIN_DEPTH, valid_depth
from gradslam_ng.compute.safe import divide
from gradslam_ng.geometry import images, se3
from gradslam_ng.geometry.camera import is_pinhole, project_soa, sample, scale_intrinsics, unproject
from gradslam_ng.geometry.lens import Lens, project_through

# A point is hidden by one that is nearer by more than this share of its depth and by the width of so many pixels there:
# no surface hides itself, unless it is steeper than that
HIDDEN_SHARE, HIDDEN_PIXELS = 0.01, 5.0
RIM = 0.01  # pixels: a point is still inside so far off the outermost pixels' centers, as rounding puts it


@mode_free
def register_color(
    color: Tensor,  # (..., H', W', 3)
    depth: Tensor,  # (..., H, W, 1), meters, 0 = no depth
    K_color: Tensor,  # (..., 3, 3)
    K_depth: Tensor,  # (..., 3, 3)
    T_color_depth: Tensor,  # (..., 4, 4), meters
    lens: Lens | None = None,
) -> tuple[Tensor, Tensor]:
    """The color of each depth pixel, and whether the color camera sees its point.

    Differentiable in both images, both K, T_color_depth and the color camera's `lens`; which pixels are seen is a
    constant of the gradient. Color images of a multiple of the depth's size are shrunk by whole blocks first, so that
    no detail is passed over. Depth comes undistorted, of a pinhole camera.

    Returns color (..., H, W, 3) and seen (..., H, W, 1) bool: where depth was measured, and no nearer point lies on the
    color camera's ray, which meets its image where that has a color (`images.usable_color`). Elsewhere color is a guess
    without gradient, for looks and for features near by: that of holes at a depth filled in from around them, of
    hidden points that of what hides them, and 0 outside of the image.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check_shapes(color, depth, K_color, K_depth, T_color_depth)
    size = _size(depth)
    known = _is_known(color, depth, K_color, K_depth, T_color_depth)
    K_color, K_depth, T_color_depth = (
        torch.where(known[..., None, None], M, torch.eye(M.shape[-1], dtype=M.dtype, device=M.device))
        for M in (K_color, K_depth, T_color_depth)
    )
    usable = images.usable_color(color)
    color = torch.cat([torch.where(usable, color, 0.0), usable.to(color.dtype)], dim=-1)
    factor = max(1, round(min(color.shape[-3] / size[0], color.shape[-2] / size[1])))
    if factor > 1:
        color, K_color = images.downsample_color(color, factor), scale_intrinsics(K_color, 1 / factor)
    measured = valid_depth(depth)
    uv, z, shown = _look(
        torch.where(measured > 0, measured, fill_depth(measured)), K_depth, T_color_depth, K_color, lens
    )
    shown = shown & known[..., None, None]
    cell = (K_color[..., 0, 0] / K_depth[..., 0, 0]).clamp(min=1.0)
    front = visible(uv, z, shown & (measured[..., 0] > 0), cell, K_color[..., 0, 0], _size(color))
    sampled = sample(color, uv.to(color.dtype))
    share = sampled[..., 3:]
    seen = front[..., None] & (share.detach() > 1.0 - 2.5 * RIM)  # no border, and no unusable pixel, takes part
    picture = divide(sampled[..., :3], share, shown[..., None] & (share > 0))
    return torch.where(seen, picture, picture.detach()), seen


def _look(
    depth: Tensor,  # (..., H, W, 1), meters
    K_depth: Tensor,
    T_color_depth: Tensor,
    K_color: Tensor,
    lens: Lens | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the color camera sees the points of a depth image, (..., H, W, 2), their z and whether its lens shows them,
    (..., H, W)."""
    size = _size(depth)
    x, y, z = (plane.flatten(-2) for plane in unproject(depth, K_depth).unbind(-1))
    p_c = se3.transform_soa(T_color_depth, (x, y, z))
    if lens is None:
        u, v, shown = project_soa(p_c, K_color, MIN_DEPTH)
        uv = torch.stack([u, v], dim=-1)
    else:
        uv, _, shown = project_through(lens, torch.stack(p_c, dim=-1), K_color)
    return uv.unflatten(-2, size), p_c[2].unflatten(-1, size), shown.unflatten(-1, size)


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-3], image.shape[-2]


def _check_shapes(color: Tensor, depth: Tensor, K_color: Tensor, K_depth: Tensor, T_color_depth: Tensor) -> None:
    if color.ndim < 3 or color.shape[-1] != 3:
        raise ValueError(f"color: expected shape (..., H, W, 3), got {tuple(color.shape)}")
    if depth.shape[:-3] != color.shape[:-3] or depth.shape[-1:] != (1,) or depth.ndim != color.ndim:
        lead = tuple(color.shape[:-3])
        raise ValueError(f"depth: expected shape {(*lead, 'H', 'W', 1)}, got {tuple(depth.shape)}")
    for name, value, tail in (("K_color", K_color, 3), ("K_depth", K_depth, 3), ("T_color_depth", T_color_depth, 4)):
        if value.shape[-2:] != (tail, tail):
            raise ValueError(f"{name}: expected shape (..., {tail}, {tail}), got {tuple(value.shape)}")


@discrete
def _is_known(color: Tensor, depth: Tensor, K_color: Tensor, K_depth: Tensor, T_color_depth: Tensor) -> Tensor:
    """Whether (...) both cameras are pinholes and the motion between them is finite."""
    cameras = is_pinhole(K_color, _size(color)) & is_pinhole(K_depth, _size(depth))
    return cameras & T_color_depth.isfinite().all(-1).all(-1)


@discrete
def visible(
    uv: Tensor,  # (..., H, W, 2), pixels
    z: Tensor,  # (..., H, W), meters
    candidate: Tensor,  # (..., H, W) bool
    cell: Tensor,  # (...), pixels between neighboring points, 1 at least
    focal: Tensor,  # (...), pixels
    size: tuple[int, int],
) -> Tensor:
    """Which candidates (..., H, W) bool a camera with images of `size` sees: none is nearer where they are seen.

    A z-buffer with cells as wide as points are apart. A point covers all cells whose centers are within three quarters
    of a cell, across and down, so that a surface has no gaps while its points are up to one and a half cells apart.
    What is nearer by less than `HIDDEN_SHARE` and `HIDDEN_PIXELS` cells' width hides nothing.
    """
    (height, width), columns = size, size[1] + 1
    u, v = uv.unbind(-1)
    inside = candidate & (u >= -RIM) & (u <= width - 1 + RIM) & (v >= -RIM) & (v <= height - 1 + RIM)
    u, v = (torch.where(inside, x, 0.0).clamp(min=0.0).flatten(-2) / cell[..., None] for x in (u, v))
    near = torch.where(inside, z, torch.inf).flatten(-2)
    nearest = torch.full((*near.shape[:-1], (height + 1) * columns), torch.inf, dtype=z.dtype, device=z.device)
    for dv, du in itertools.product((-0.25, 0.25), repeat=2):
        covered = (v + dv).round().long() * columns + (u + du).round().long()
        nearest = nearest.scatter_reduce(-1, covered, near, "amin")
    nearest = nearest.gather(-1, v.round().long() * columns + u.round().long()).unflatten(-1, z.shape[-2:])
    margin = HIDDEN_SHARE + HIDDEN_PIXELS * (cell / focal)[..., None, None]
    return inside & (z * (1.0 - margin) <= nearest)


@discrete
def fill_depth(
    depth: Tensor,  # (..., H, W, 1), meters, 0 = no depth
) -> Tensor:
    """Depth (..., H, W, 1) with every hole at the mean of what is measured around it, of the least block that has any
    (pull-push, Gortler et al. 1996); 1 m where nothing is."""
    z = depth[..., 0].reshape(-1, 1, *depth.shape[-3:-1])
    levels = [(z, (z > 0).to(z.dtype))]
    while max(levels[-1][0].shape[-2:]) > 1:
        total, share = (torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True) for x in levels[-1])
        levels.append((total, share))
    filled = torch.where(levels[-1][1] > 0, levels[-1][0] / levels[-1][1].clamp(min=1e-12), 1.0)
    for total, share in reversed(levels[:-1]):
        coarse = filled.repeat_interleave(2, -1).repeat_interleave(2, -2)[..., : total.shape[-2], : total.shape[-1]]
        filled = torch.where(share > 0, total / share.clamp(min=1e-12), coarse)
    return filled.reshape(depth.shape)
