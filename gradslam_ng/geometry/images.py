"""Depth and colour images, channels last: normals, filtering, pyramids. Depth 0 means no reading, here and in results."""

from __future__ import annotations

import torch
from torch import Tensor


def intensity(color: Tensor) -> Tensor:
    """Luma of ITU-R BT.601. color (..., H, W, 3) in [0, 1], returns (..., H, W, 1)."""
    red, green, blue = color.split(1, dim=-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def normal_map(vertices: Tensor, max_jump: float = 0.05) -> Tensor:
    """Unit normals towards the camera by central differences; zero where undefined.

    A neighbour that has no reading, or whose depth differs by more than `max_jump` times the pixel's own, lies on another
    surface and is left out: the difference is then one-sided, and without a neighbour on either side there is no normal.

    vertices (..., H, W, 3), camera frame, metres, zero where there is no reading. Returns (..., H, W, 3).
    """
    z = vertices[..., 2].detach()
    inv_z = torch.where(z > 0, 1.0 / torch.where(z > 0, z, 1.0), 0.0)
    dx = _difference(vertices, z, max_jump, dim=-2) * inv_z[..., None]  # scaled, so that no depth under- or overflows
    dy = _difference(vertices, z, max_jump, dim=-3) * inv_z[..., None]
    n = torch.linalg.cross(dy, dx)
    square = (n * n).sum(-1, keepdim=True)
    defined = square > 0
    return torch.where(defined, n * torch.where(defined, square, 1.0).rsqrt(), 0.0)


def _difference(vertices: Tensor, z: Tensor, max_jump: float, dim: int) -> Tensor:
    """Sum of the differences to the next and from the previous pixel along `dim`, as far as they stay on the surface."""
    length = vertices.shape[dim]
    z_a, z_b = z.narrow(dim + 1, 0, length - 1), z.narrow(dim + 1, 1, length - 1)
    joined = ((z_a - z_b).abs() <= max_jump * torch.minimum(z_a, z_b)) & (z_a > 0) & (z_b > 0)
    step = vertices.narrow(dim, 1, length - 1) - vertices.narrow(dim, 0, length - 1)
    step = torch.where(joined[..., None], step, 0.0)
    edge = torch.zeros_like(vertices.narrow(dim, 0, 1))
    return torch.cat([step, edge], dim) + torch.cat([edge, step], dim)


def bilateral_depth(depth: Tensor, radius: int = 1, sigma: float = 0.01) -> Tensor:
    """Edge-preserving mean over a (2 radius + 1)^2 window; holes stay holes and take no part.

    The weight of a neighbour falls to zero at a relative difference of 3 sigma (Tukey's biweight), so nothing leaks
    across a larger step. Means are taken of the inverse depth, in which a plane is linear: planes pass unchanged.

    depth (..., H, W, 1), metres. Returns the same shape.
    """
    valid = depth > 0
    rho = torch.where(valid, 1.0 / torch.where(valid, depth, 1.0), 0.0)[..., 0]
    height, width = rho.shape[-2:]
    padded = torch.nn.functional.pad(rho, (radius,) * 4)
    scale = depth[..., 0] / (3.0 * sigma)
    total = torch.ones_like(rho)
    shift = torch.zeros_like(rho)
    for i in range(2 * radius + 1):
        for j in range(2 * radius + 1):
            if i == radius and j == radius:
                continue
            step = padded[..., i : i + height, j : j + width] - rho
            weight = (1.0 - (step * scale).square()).clamp(min=0.0).square()
            total = total + weight
            shift = shift + weight * step
    rho = rho + shift / total
    return torch.where(valid, 1.0 / torch.where(valid, rho[..., None], 1.0), 0.0)


def _blocks(image: Tensor, factor: int) -> list[Tensor]:
    """The factor^2 interleaved images (..., H // factor, W // factor, C), together the pixels of every block."""
    height, width = (s // factor * factor for s in image.shape[-3:-1])
    return [image[..., i:height:factor, j:width:factor, :] for i in range(factor) for j in range(factor)]


def downsample_depth(depth: Tensor, factor: int = 2, max_jump: float = 0.05) -> Tensor:
    """Mean over blocks of the readings on the block's nearest surface: those within `max_jump` times its least depth.

    Invalid readings and surfaces behind an edge take no part. depth (..., H, W, 1), metres, returns
    (..., H // factor, W // factor, 1); its camera is `scale_intrinsics(K, 1 / factor)`.
    """
    blocks = _blocks(depth, factor)
    nearest = torch.full_like(blocks[0], torch.finfo(depth.dtype).max)
    for d in blocks:
        nearest = torch.where(d > 0, torch.minimum(d, nearest), nearest)
    limit = (nearest * (1.0 + max_jump)).detach()
    total, count = torch.zeros_like(nearest), torch.zeros_like(nearest)
    for d in blocks:
        kept = (d > 0) & (d <= limit)
        total = total + torch.where(kept, d, 0.0)
        count = count + kept
    return total / count.clamp(min=1.0)


def downsample_color(color: Tensor, factor: int = 2) -> Tensor:
    """Mean over blocks. color (..., H, W, C), returns (..., H // factor, W // factor, C)."""
    return sum(_blocks(color, factor)) / factor**2


def depth_pyramid(depth: Tensor, levels: int) -> list[Tensor]:
    """The depth image and its halves, finest first. depth (..., H, W, 1)."""
    pyramid = [depth]
    for _ in range(levels - 1):
        pyramid.append(downsample_depth(pyramid[-1]))
    return pyramid
