"""Kinect sensor noise: the disparity model of ICL-NUIM (Handa et al. 2014), and dropout of depth measurements."""

from __future__ import annotations

import torch
from torch import Tensor

BASELINE_DISPARITY = 35130.0  # eighths of a pixel times centimeters: focal length x baseline x 8 of a Kinect
SHIFT = 0.5 / 525.0  # half a pixel of a Kinect, in focal lengths; standard deviation
DISPARITY = 1.0 / 6.0  # eighths of a pixel, standard deviation
NEAREST, FARTHEST = 0.4, 5.0  # meters, the range that a Kinect measures
COLOR = 0.01  # standard deviation of color noise, of 1


def kinect_depth(
    depth: Tensor,  # (H, W), meters
    focal: float,
    generator: torch.Generator,
) -> Tensor:
    """Depth as a Kinect reports it: laterally shifted, with noisy disparity, rounded to eighths of a pixel.

    Handa, Whelan, McDonald and Davison 2014, eq. 1, after Barron and Malik 2013, with z in centimeters:

        z' = 35130 / floor(35130 / z(u + n_u, v + n_v) + n_d + 1/2),   n_u, n_v ~ N(0, 1/4), n_d ~ N(0, 1/36)

    Handa et al. print round for the outer bracket, which with the 1/2 would be off by half a step (1.3 cm at 3 m) on
    average; floor, as in Barron and Malik, is what rounds to the nearest. z is looked up bilinearly, so values fly
    between the two sides of an edge as they do on the real sensor. In a smaller image the shift is the same angle.

    Args:
        depth: (H, W) exact, meters, 0 where there is none.
        focal: length, pixels.
        generator: on the CPU, so that every device gets the same noise.

    Returns:
        (H, W) meters; 0 where the looked-up pixels have none or the measurement is outside 0.4 to 5 m.
    """
    shift = SHIFT * focal * torch.randn(*depth.shape, 2, generator=generator, dtype=torch.float32, device="cpu")
    noise = DISPARITY * torch.randn(depth.shape, generator=generator, dtype=torch.float32, device="cpu")
    shifted = _bilinear(depth, shift.to(depth))
    some = shifted > 0
    eighths = torch.floor(BASELINE_DISPARITY / (100 * torch.where(some, shifted, 1)) + noise.to(depth) + 0.5)
    measured = BASELINE_DISPARITY / (100 * eighths.clamp(min=1))
    return torch.where(some & (measured >= NEAREST) & (measured <= FARTHEST), measured, 0)


def _bilinear(depth: Tensor, shift: Tensor) -> Tensor:
    """Depth (H, W) looked up `shift` (H, W, 2) pixels away (x, y), border clamped; 0 where any of the four has none."""
    height, width = depth.shape
    v, u = torch.meshgrid(
        torch.arange(height, device=depth.device), torch.arange(width, device=depth.device), indexing="ij"
    )
    x = (u + shift[..., 0]).clamp(0, width - 1)
    y = (v + shift[..., 1]).clamp(0, height - 1)
    x0, y0 = x.long().clamp(max=width - 2), y.long().clamp(max=height - 2)
    wx, wy = x - x0, y - y0
    a, b, c, d = depth[y0, x0], depth[y0, x0 + 1], depth[y0 + 1, x0], depth[y0 + 1, x0 + 1]
    value = torch.lerp(torch.lerp(a, b, wx), torch.lerp(c, d, wx), wy)
    return torch.where((a > 0) & (b > 0) & (c > 0) & (d > 0), value, 0)


def dropout(
    depth: Tensor,  # (H, W), meters
    cosine: Tensor,  # (H, W)
    focal: float,
    generator: torch.Generator,
) -> Tensor:
    """(H, W) bool: measurements that go missing, at depth edges and where the surface is seen at a grazing angle.

    Beside an edge (a neighbor within two pixels nearer or farther by over 5%) half of them are lost. A surface loses
    none up to 70 degrees from face on, all from 85 degrees.

    Args:
        depth: (H, W) exact, meters.
        cosine: (H, W) of the angle between line of sight and surface normal.
        focal: length, pixels.
    """
    image = depth[None, None]
    far = torch.nn.functional.max_pool2d(image, 5, 1, 2)[0, 0]
    near = -torch.nn.functional.max_pool2d(-image, 5, 1, 2)[0, 0]
    tilt = torch.rad2deg(torch.arccos(cosine.clamp(0, 1)))
    # A tilted plane changes by 4 px x tan(angle) / f x z across the window, which is no edge.
    slope = 4 * torch.tan(torch.deg2rad(tilt.clamp(max=80))) / focal
    edge = (far - near) > (0.05 + slope) * depth
    chance = torch.maximum(0.5 * edge.to(depth), ((tilt - 70) / (85 - 70)).clamp(0, 1))
    return torch.rand(depth.shape, generator=generator, dtype=torch.float32, device="cpu").to(depth) < chance


def kinect(
    color: Tensor,  # (H, W, 3) in [0, 1]
    depth: Tensor,  # (H, W, 1), meters
    normal: Tensor,  # (H, W, 3), unit, in the camera frame
    K: Tensor,  # (3, 3), pixels
    seed: int,
) -> tuple[Tensor, Tensor]:
    """A frame as a Kinect gives it; the same for the same seed.

    Args:
        color: (H, W, 3) in [0, 1].
        depth: (H, W, 1) exact, meters.
        normal: (H, W, 3) in the camera frame.
        K: (3, 3).

    Returns:
        Color with mild noise, quantized to 8 bits, and depth with noise, steps and holes.
    """
    generator = torch.Generator().manual_seed(seed)
    z = depth[..., 0]
    height, width = z.shape
    v, u = torch.meshgrid(torch.arange(height, device=z.device), torch.arange(width, device=z.device), indexing="ij")
    sight = torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(z)], -1)
    cosine = -(torch.nn.functional.normalize(sight, dim=-1) * normal).sum(-1)
    focal = float(K[0, 0])
    lost = dropout(z, cosine, focal, generator)
    measured = torch.where(lost, 0, kinect_depth(z, focal, generator))
    grain = COLOR * torch.randn(color.shape, generator=generator, dtype=torch.float32, device="cpu")
    noisy = ((color + grain.to(color)).clamp(0, 1) * 255).round() / 255
    return noisy, measured[..., None]
