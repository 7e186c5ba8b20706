"""Depth and color images, channels last: normals, filtering, pyramids.

A depth of 0, or any that is not finite or not beyond a centimeter, is a hole: it takes no part and has no gradient, and
results hold 0 there. Gates are relative to the depth, as a sensor's noise and a pixel's footprint grow with it. What
they keep or leave out is a constant of the gradient.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from gradslam_ng.compute.masks import heaviside, pad, stack_last, valid_depth
from gradslam_ng.compute.safe import denominator
from gradslam_ng.compute.soft import fade, smoothstep

_FAR = 1e30  # meters, where a hole must not be the nearest depth

_EVEN = 2.0**-14  # of squared differences relative to their gate: neither counts as the larger one then
_OVERSHOOT = 0.5  # by which color may leave [0, 1], as interpolation and networks do


def usable_color(
    color: Tensor,  # (..., H, W, 3)
) -> Tensor:
    """Which pixels (..., H, W, 1) bool have a color: finite, and in [0, 1] but for an overshoot of a half at most."""
    near = (color.detach() - 0.5).abs() <= 0.5 + _OVERSHOOT  # not so for NaN
    red, green, blue = near.split(1, dim=-1)
    return red & green & blue


def intensity(
    color: Tensor,  # (..., H, W, 3)
) -> Tensor:
    """Luma after ITU-R BT.601. color (..., H, W, 3) in [0, 1], returns (..., H, W, 1)."""
    red, green, blue = color.split(1, dim=-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def normal_map(
    vertices: Tensor,  # (..., H, W, 3), camera frame, meters, zero for a hole
    max_jump: float = 0.05,
    max_bend: float = 0.01,
) -> Tensor:
    """Unit normals towards the camera by central differences; zero where undefined.

    A neighbor is left out if it is a hole, if its depth differs by more than `max_jump`, or if it differs by
    `max_bend` more than the neighbor opposite does (both relative to the depth): it lies on another surface. The
    difference is one-sided then, and with no neighbor left along a row or a column there is no normal.

    vertices (..., H, W, 3), camera frame, meters, zero for a hole. Returns (..., H, W, 3).
    """
    x, y, z = (plane.contiguous() for plane in vertices.unbind(-1))
    ax, ay, az = _differences((x, y, z), max_jump, max_bend, dim=-1)
    bx, by, bz = _differences((x, y, z), max_jump, max_bend, dim=-2)
    # any length gives the same normal, but one of the order of 1 neither over- nor underflows, nor does its gradient
    scale = z.detach().clamp(min=1e-8).pow(-2)
    nx, ny, nz = (by * az - bz * ay) * scale, (bz * ax - bx * az) * scale, (bx * ay - by * ax) * scale
    square = nx * nx + ny * ny + nz * nz
    defined = heaviside(square)
    scale = (square + (1.0 - defined)).rsqrt() * -(nx * x + ny * y + nz * z).detach().sign()
    return stack_last(nx * scale, ny * scale, nz * scale)


def soft_normal_map(
    vertices: Tensor,  # (..., H, W, 3), camera frame, meters, zero for a hole
    max_jump: float = 0.1,
    max_bend: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """`normal_map` whose neighbors are left out gradually, and how much each normal counts, (..., H, W) in [0, 1].

    A neighbor's share falls to zero, from half way on, as its depth comes to differ by `max_jump`, and as it comes to
    differ by `max_bend` more than the neighbor opposite does; where a row or a column has no neighbor left the normal
    counts nothing. So normals and weights are continuous in the depth.
    """
    planes = tuple(plane.contiguous() for plane in vertices.unbind(-1))
    x, y, z = planes
    (ax, ay, az), along_row = _soft_differences(planes, max_jump, max_bend, dim=-1)
    (bx, by, bz), along_column = _soft_differences(planes, max_jump, max_bend, dim=-2)
    scale = z.detach().clamp(min=1e-8).pow(-2)
    nx, ny, nz = (by * az - bz * ay) * scale, (bz * ax - bx * az) * scale, (bx * ay - by * ax) * scale
    square = nx * nx + ny * ny + nz * nz
    defined = heaviside(square - 1e-12)
    scale = defined * denominator(square, defined > 0).rsqrt() * -(nx * x + ny * y + nz * z).detach().sign()
    return stack_last(nx * scale, ny * scale, nz * scale), defined * along_row * along_column


def _soft_differences(
    planes: tuple[Tensor, ...], max_jump: float, max_bend: float, dim: int
) -> tuple[list[Tensor], Tensor]:
    """Of x, y, z (..., H, W) along `dim`: the step from the pixel before plus that to the pixel after, as far as kept,
    and how much of one of them at least is kept."""
    z = planes[-1]
    size = z.shape[dim]
    a, b = z.narrow(dim, 0, size - 1), z.narrow(dim, 1, size - 1)
    both = (a > 0) & (b > 0)
    jump, gate = (a - b).abs(), denominator(max_jump * torch.minimum(a, b), both)
    joined = pad(torch.where(both, fade(jump / gate), 0.0), 1, dim)
    jump = pad(torch.where(both, jump, _FAR), 1, dim, _FAR)
    before, after = jump.narrow(dim, 0, size), jump.narrow(dim, 1, size)
    bend = denominator(max_bend * z, z > 0)
    keep_before = joined.narrow(dim, 0, size) * fade(((before - after) / bend).clamp(0.0, 1.0))
    keep_after = joined.narrow(dim, 1, size) * fade(((after - before) / bend).clamp(0.0, 1.0))
    steps = []
    for plane in planes:
        step = pad(plane.narrow(dim, 1, size - 1) - plane.narrow(dim, 0, size - 1), 1, dim)
        steps.append(step.narrow(dim, 0, size) * keep_before + step.narrow(dim, 1, size) * keep_after)
    return steps, smoothstep(2.0 * (keep_before + keep_after))


def _differences(planes: tuple[Tensor, ...], max_jump: float, max_bend: float, dim: int) -> list[Tensor]:
    """Of x, y, z (..., H, W) along `dim`: the step from the pixel before plus the step to the pixel after, if kept."""
    z = planes[-1].detach()
    size = z.shape[dim]
    a, b = z.narrow(dim, 0, size - 1), z.narrow(dim, 1, size - 1)
    jump = (a - b).abs()
    joined = heaviside(max_jump * torch.minimum(a, b) - jump)
    jump = pad(jump + _FAR * (1.0 - joined), 1, dim, _FAR)
    before, after = jump.narrow(dim, 0, size), jump.narrow(dim, 1, size)
    bend = max_bend * z
    joined = pad(joined, 1, dim)
    keep_before = joined.narrow(dim, 0, size) * heaviside(after + bend - before)
    keep_after = joined.narrow(dim, 1, size) * heaviside(before + bend - after)
    result = []
    for plane in planes:
        step = pad(plane.narrow(dim, 1, size - 1) - plane.narrow(dim, 0, size - 1), 1, dim)
        result.append(step.narrow(dim, 0, size) * keep_before + step.narrow(dim, 1, size) * keep_after)
    return result


def bilateral_depth(
    depth: Tensor,  # (..., H, W, 1), meters
    radius: int = 3,
    max_jump: float = 0.02,
) -> Tensor:
    """Edge-preserving smoothing over a window of 2 radius + 1 pixels, along rows, then along columns.

    A bilateral filter, separable as by Pham and van Vliet 2005, whose neighbors come in pairs from opposite sides: a
    pair's weight (Tukey's biweight) falls to zero where the inverse depth of either differs by `max_jump`, well below
    1, times the pixel's own. Inverse depth is linear on a plane, so planes pass unchanged right up to edges and holes,
    and in it the noise of a structured-light or stereo camera is even.

    Returns the same shape.
    """
    z = valid_depth(depth[..., 0])
    valid = heaviside(z)
    z = z + (1.0 - valid)
    inverse = valid / z
    for dim in (-1, -2):
        inverse = valid * _smooth(inverse, z / max_jump, radius, dim)
    return (valid / (inverse + (1.0 - valid)))[..., None]


def _smooth(
    values: Tensor,  # (..., H, W)
    scale: Tensor,  # (..., H, W)
    radius: int,
    dim: int,
) -> Tensor:
    """Weighted mean of values (..., H, W) along `dim`; a pair counts while scale times either difference is below 1."""
    size = values.shape[dim]
    padded = pad(values, radius, dim)
    total = torch.ones_like(values)
    shift = torch.zeros_like(values)
    for i in range(1, radius + 1):
        before = padded.narrow(dim, radius - i, size) - values
        after = padded.narrow(dim, radius + i, size) - values
        a, b = ((scale * step).square().clamp(max=4.0) for step in (before, after))  # beyond 1 neither counts
        larger = 0.5 * (a + b + ((a - b).square() + _EVEN**2).sqrt())  # no kink where a plane makes them equal
        weight = (1.0 - larger).relu().square()
        total = total + 2.0 * weight
        shift = shift + weight * (before + after)
    return values + shift / total


def block_pixels(image: Tensor, factor: int) -> list[Tensor]:
    """The factor^2 interleaved images (..., H // factor, W // factor, C), together the pixels of every block.

    Raises:
        ValueError: a factor that leaves no pixel, or below 1.
    """
    if not 1 <= factor <= min(image.shape[-3:-1]):
        raise ValueError(f"factor: expected 1 to {min(image.shape[-3:-1])}, the size of the images, got {factor}")
    height, width = (size // factor * factor for size in image.shape[-3:-1])
    return [image[..., i:height:factor, j:width:factor, :] for i in range(factor) for j in range(factor)]


def downsample_depth(
    depth: Tensor,  # (..., H, W, 1), meters
    factor: int = 2,
    max_jump: float = 0.03,
) -> Tensor:
    """Mean over blocks of the depths on one surface: the nearest that more than a quarter of what was measured is on.

    That is what lies within `max_jump`, relative, of the second nearest of up to seven depths, the third nearest of
    eight, and so on. Nearer ones may be stray, as sensors give at edges. Holes, strays and surfaces behind an edge
    take no part. depth (..., H, W, 1), meters; returns (..., H // factor, W // factor, 1), seen by the camera
    `scale_intrinsics(K, 1 / factor)`.
    """
    blocks = [valid_depth(block) for block in block_pixels(depth, factor)]
    measured = [heaviside(block) for block in blocks]
    ranges = [(block + _FAR * (1.0 - mask)).detach() for block, mask in zip(blocks, measured, strict=True)]
    count = reduce(torch.add, measured)
    chosen, *others = _smallest(ranges, len(blocks) // 4 + 1)
    for i, other in enumerate(others):  # the next where there are 2, 8, 12, ... depths
        more = heaviside(count - (4.0 * i + 3.5 if i else 1.5))
        chosen = more * other + (1.0 - more) * chosen
    near = [heaviside(max_jump * chosen - (r - chosen).abs()) for r in ranges]
    total = reduce(torch.add, [mask * block for mask, block in zip(near, blocks, strict=True)])
    return total / reduce(torch.add, near)


def _smallest(images: list[Tensor], count: int) -> list[Tensor]:
    """The `count` smallest of images, pixel by pixel, in order."""
    if len(images) > 16:
        return list(torch.stack(images).sort(dim=0).values[:count])
    found: list[Tensor] = []
    for image in images:  # by insertion: compiled it is one kernel, which would grow too long for more images
        for i, other in enumerate(found):
            found[i], image = torch.minimum(other, image), torch.maximum(other, image)
        found = [*found, image][:count]
    return found


def downsample_color(
    color: Tensor,  # (..., H, W, C)
    factor: int = 2,
) -> Tensor:
    """Mean over blocks. Returns (..., H // factor, W // factor, C)."""
    return reduce(torch.add, block_pixels(color, factor)) / factor**2
