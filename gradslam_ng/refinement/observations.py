"""What keyframes measure of surfels: projective association, and the exposure of each keyframe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import discrete, steady_floor
from gradslam_ng.geometry import camera, se3
from gradslam_ng.refinement.keyframes import Keyframes

GATE = (
    0.02,
    3.0,
)  # meters, and standard deviations of the depth, that a surfel may lie before or behind what is measured
MIN_COSINE = 0.85  # between the normals of the two
MIN_FACING = 0.2  # cosine between a surfel's normal and the way to the camera
MARGIN = 2  # pixels from the border of an image
MIN_NOISE = 0.01  # of intensity in [0, 1]
MIN_GRADIENT = 0.02  # of intensity, per pixel: less may be noise, which would pass for texture
REGISTRATION_SIGMA = 0.2  # pixels, standard deviation of where color lies relative to depth


class Samples(NamedTuple):
    """Images at the projections of surfels, bilinearly."""

    value: Tensor  # (K, N)
    du: Tensor  # (K, N), derivatives along the row and the column, per pixel
    dv: Tensor  # (K, N)


@dataclass(frozen=True, eq=False)
class Observations:
    """N surfels in K keyframes. Which pixel meets which surfel, and how much that counts, is held."""

    vertices: Tensor  # (K, N, 3), meters, camera k: what the pixel measured that surfel n falls into
    depth_information: Tensor  # (K, N), 1/m^2; 0 where k does not see n
    intensity: Tensor  # (K, H, W)
    gain: Tensor  # (K,): gain * intensity + bias is comparable between keyframes
    bias: Tensor  # (K,)
    brightness_information: Tensor  # (K, N); 0 where k does not see n, or the image is even there
    noise: Tensor  # (), of brightness: standard deviation between keyframes
    K: Tensor  # (K, 3, 3)


def sample(
    image: Tensor,  # (K, H, W)
    u: Tensor,  # (K, N), pixels
    v: Tensor,  # (K, N)
) -> Samples:
    """Images at pixels, and the derivatives of the interpolation; at the border the nearest cell goes on."""
    height, width = image.shape[-2:]
    column, row = steady_floor(u).clamp(0, width - 2), steady_floor(v).clamp(0, height - 2)
    first = (row * width + column).long()
    corners = [image.flatten(1).gather(1, first + shift).to(u) for shift in (0, 1, width, width + 1)]
    top_left, top_right, low_left, low_right = corners
    a, b = u - column, v - row
    du = torch.lerp(top_right - top_left, low_right - low_left, b)
    dv = torch.lerp(low_left - top_left, low_right - top_right, a)
    value = torch.lerp(torch.lerp(top_left, top_right, a), torch.lerp(low_left, low_right, a), b)
    return Samples(value, du, dv)


@discrete
def associate(
    keyframes: Keyframes,
    points: Tensor,  # (N, 3), world, meters
    normals: Tensor,  # (N, 3)
    T_wk: Tensor,  # (K, 4, 4)
    noise: Tensor | None = None,  # ()
) -> Observations:
    """What the keyframes at T_wk measure of surfels: a discrete choice. noise: of brightness, None to estimate it."""
    T_kw = se3.inverse(T_wk)
    p = se3.transform(T_kw, points.expand(len(T_wk), -1, -1))
    n = se3.rotate(T_kw, normals.expand(len(T_wk), -1, -1))
    uv, z = camera.project(p, keyframes.K.to(p))
    u, v = uv.unbind(-1)
    height, width = keyframes.sigma.shape[-2:]
    low, right, down = MARGIN, width - 1 - MARGIN, height - 1 - MARGIN
    inside = (z > 0.05) & (u >= low) & (u < right) & (v >= low) & (v < down)
    pixel = torch.where(inside, steady_floor(v + 0.5) * width + steady_floor(u + 0.5), 0.0).long()
    vertices, facing = (
        image.flatten(1, 2).gather(1, pixel[..., None].expand(-1, -1, 3)).to(p)
        for image in (keyframes.vertices, keyframes.normals)
    )
    sigma = keyframes.sigma.flatten(1).gather(1, pixel).to(p)
    fits = (vertices[..., 2] - z).abs() < GATE[0] + GATE[1] * sigma
    seen = inside & sigma.isfinite() & fits & ((facing * n).sum(-1) > MIN_COSINE)
    seen = seen & (-(p * n).sum(-1) > MIN_FACING * p.norm(dim=-1))
    seen = seen & (seen.sum(0) > 1)  # what one keyframe sees says nothing of poses
    information = torch.where(seen, sigma.clamp(min=1e-9) ** -2, 0.0)
    gain, bias, found = estimate_exposures(keyframes.intensity, u, v, seen)
    noise = found if noise is None else noise
    samples = sample(keyframes.intensity, u, v)
    square = gain[:, None].square() * (samples.du.square() + samples.dv.square())
    textured = seen & (square > MIN_GRADIENT**2)
    textured = textured & (textured.sum(0) > 1)
    brightness = torch.where(textured, 1.0 / (noise.square() + REGISTRATION_SIGMA**2 * square), 0.0)
    return Observations(vertices, information, keyframes.intensity, gain, bias, brightness, noise, keyframes.K.to(p))


def estimate_exposures(
    intensity: Tensor,  # (K, H, W)
    u: Tensor,  # (K, N), pixels
    v: Tensor,  # (K, N)
    seen: Tensor,  # (K, N) bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gain and bias (K,) of each keyframe, mean gain 1, and the noise () that is left.

    A keyframe is brought to the mean and the spread that all together give the surfels it sees. The noise is that of a
    normal distribution with the mean absolute difference left.
    """
    value, w = sample(intensity, u, v).value, seen.to(u)
    total = w.sum(1, keepdim=True).clamp(min=1.0)
    mean = (w * value).sum(1, keepdim=True) / total
    spread = ((w * (value - mean).square()).sum(1, keepdim=True) / total).clamp(min=MIN_NOISE**2)
    gain, bias = torch.ones_like(mean), torch.zeros_like(mean)
    common = value
    for _ in range(5):
        common = (w * (gain * value + bias)).sum(0) / w.sum(0).clamp(min=1.0)
        center = (w * common).sum(1, keepdim=True) / total
        wanted = ((w * (common - center).square()).sum(1, keepdim=True) / total).clamp(min=MIN_NOISE**2)
        gain = (wanted / spread).clamp(0.1, 10.0).sqrt()
        gain = gain / gain.mean()
        bias = center - gain * mean
    noise = 1.25 * (w * (gain * value + bias - common).abs()).sum() / w.sum().clamp(min=1.0)
    return gain[:, 0], bias[:, 0], noise.clamp(min=MIN_NOISE)
