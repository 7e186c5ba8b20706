"""Photometric alignment: the model's surfels, seen in the live image, should look as bright as they are.

The image that is sampled and differentiated is the live one, which has no holes; the model gives points and how bright
they were. So the term needs no rendering and sees each surfel at its own place, between pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.discrete import TIE, discrete
from gradslam_ng.compute.safe import denominator
from gradslam_ng.compute.soft import fade, smoothstep
from gradslam_ng.geometry import camera, se3
from gradslam_ng.odometry.association import XYZ, unbind_xyz
from gradslam_ng.odometry.normal_equations import Blocks, block_sums, normal_equations, tukey_error, tukey_weights

MIN_NOISE = 0.01  # of intensity in [0, 1]: what a camera's noise and eight bits leave at best
MIN_GRADIENT = 0.02  # of intensity, per pixel: less may be noise, which would pass for texture


class PhotometricTerm(NamedTuple):
    """Points of a model seen from camera m, and the image of camera c in which they are looked for."""

    points: Tensor  # (B, P, 3), camera m, meters
    intensity: Tensor  # (B, P), how bright they were
    weights: Tensor  # (B, P), 0 where there is none
    image: Tensor  # (B, H, W), intensity
    depth: Tensor  # (B, H, W), meters
    K: Tensor  # (B, 3, 3), of camera c
    occlusion_gate: Tensor  # (), meters, see `is_unoccluded`
    registration_sigma: Tensor  # (), pixels, standard deviation of where color lies relative to depth
    soft: bool = False  # derivatives and visibility without jumps: see `soft_sample_image`


class ImageSamples(NamedTuple):
    """How an image shows points of the model."""

    value: Tensor  # (B, P), intensity, between pixels
    du: Tensor  # (B, P), its derivatives along the row and the column, per pixel
    dv: Tensor  # (B, P)
    p_c: XYZ  # (B, P) each, the points in the camera, meters
    visible: Tensor  # (B, P), 1 in the image and not hidden, else 0: arrays of bool are written and read byte by byte
    weight: Tensor  # (B, P), how visible: between 0 and 1 where that is soft


class Exposure(NamedTuple):
    """Affine brightness: gain * intensity + bias of the image is what the model remembers, but for noise."""

    gain: Tensor  # (B,)
    bias: Tensor  # (B,)
    noise: Tensor  # (B,), standard deviation of the residual


@dataclass(frozen=True, eq=False)
class PhotometricFactor:
    """The photometric error of a model's points in a frame's image; the unknown is T_mc (B, 4, 4).

    See `linearize_photometric`.
    """

    term: PhotometricTerm
    exposure: Exposure
    kernel_width: Tensor  # (), standard deviations
    total: Tensor  # (B,), what the normal equations are divided by
    blocks: Blocks  # of its pixels
    offset: Tensor | None = None  # (B, 6, 6), covariance of the motion from depth's camera to color's, times `total`

    def linearize(self, T_mc: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
        """H (B, 6, 6), g (B, 6) and error (B)."""
        H, g, error = linearize_photometric(T_mc, self.term, self.exposure, self.kernel_width, self.total)
        if self.offset is None:
            return H, g, error
        return marginalize_offset(H, g, error, self.offset)

    def error(self, T_mc: Tensor, /) -> Tensor:
        return self.linearize(T_mc)[2]

    def evaluate(self, T_mc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """H (B, 6, 6), what is left of it for the covariance (B, 6, 6), and what each block of the model's pixels adds
        to that one's g (B, G, 6); see `block_sums`.

        Left is what `linearize` has: that of a camera which is off by an unknown motion, so that what color says
        against geometry is no noise.
        """
        H, scores = evaluate_photometric(T_mc, self.term, self.exposure, self.kernel_width, self.total, self.blocks)
        if self.offset is None:
            return H, H, scores
        kept = share_kept(H, self.offset)
        return H, kept @ H, scores @ kept.mT


def sample_image(
    T_mc: Tensor,  # (B, 4, 4)
    term: PhotometricTerm,
) -> ImageSamples:
    """The points of a term in its image, bilinearly, where camera c stands at T_mc.

    Between which pixels a point falls, and whether something hides it, are discrete choices.
    """
    if term.soft:
        return soft_sample_image(T_mc, term)
    image, depth = term.image, term.depth
    height, width = image.shape[-2:]
    p_c = se3.transform_soa(se3.inverse(T_mc), unbind_xyz(term.points))
    u, v, in_front = camera.project_soa(p_c, term.K)
    column, row, inside = bilinear_cell(u, v, in_front, (height, width))
    offset = torch.arange(image.shape[0], device=image.device)[:, None] * (height * width)
    first = (row * width + column).long() + offset
    flat = image.flatten()
    top_left, top_right = flat[first], flat[first + 1]
    low_left, low_right = flat[first + width], flat[first + width + 1]
    a, b = u - column, v - row
    du = torch.lerp(top_right - top_left, low_right - low_left, b)
    dv = torch.lerp(low_left - top_left, low_right - top_right, a)
    value = torch.lerp(torch.lerp(top_left, top_right, a), torch.lerp(low_left, low_right, a), b)
    nearest = first + (a.detach() > 0.5) + width * (b.detach() > 0.5)
    visible = inside & is_unoccluded(p_c[2], depth.flatten()[nearest], term.occlusion_gate)
    visible = visible.to(value.dtype)
    return ImageSamples(value, du, dv, p_c, visible, visible)


def soft_sample_image(
    T_mc: Tensor,  # (B, 4, 4)
    term: PhotometricTerm,
) -> ImageSamples:
    """`sample_image` without jumps: derivatives are central differences, interpolated like the image itself (those of
    the interpolation jump from pixel to pixel); a point fades where depths around it disagree with its own, and over
    the last pixel before the border."""
    image = term.image
    height, width = image.shape[-2:]
    p_c = se3.transform_soa(se3.inverse(T_mc), unbind_xyz(term.points))
    u, v, in_front = camera.project_soa(p_c, term.K)
    column, row, inside = bilinear_cell(u, v, in_front, (height, width))
    offset = torch.arange(image.shape[0], device=image.device)[:, None] * (height * width)
    first = (row * width + column).long() + offset
    a, b = u - column, v - row
    share = torch.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], -1)
    corner = torch.tensor([0, 1, width, width + 1], device=image.device)
    table = torch.stack([image, *(central_differences(image, dim) for dim in (-1, -2)), term.depth], -1).flatten(0, 2)
    around = table[first[..., None] + corner]
    value, du, dv = (share[..., None] * around[..., :3]).sum(-2).unbind(-1)
    depth = around[..., 3]
    fits = (depth > 0) * fade((depth - p_c[2][..., None]).abs() / term.occlusion_gate)
    to_border = torch.minimum(torch.minimum(u, width - 1 - u), torch.minimum(v, height - 1 - v))
    weight = torch.where(inside, (share * fits).sum(-1) * smoothstep(to_border), 0.0)
    return ImageSamples(value, du, dv, p_c, (weight.detach() > 0).to(u.dtype), weight)


def central_differences(image: Tensor, dim: int) -> Tensor:
    """Derivatives per pixel of an image (B, H, W) along `dim`, one-sided at the ends."""
    size = image.shape[dim]
    steps = image.narrow(dim, 1, size - 1) - image.narrow(dim, 0, size - 1)
    first, last = steps.narrow(dim, 0, 1), steps.narrow(dim, size - 2, 1)
    middle = 0.5 * (steps.narrow(dim, 0, size - 2) + steps.narrow(dim, 1, size - 2))
    return torch.cat([first, middle, last], dim)


@discrete
def is_unoccluded(
    z: Tensor,  # (B, P), meters
    depth: Tensor,  # (B, P), meters, of the frame there; 0 for none
    occlusion_gate: Tensor,  # (), meters
) -> Tensor:
    """Whether points at depth z are what the frame shows there: no more than the gate before or behind it."""
    depth = depth.detach()
    return (depth > 0) & ((depth - z.detach()).abs() < occlusion_gate.detach())


@discrete
def bilinear_cell(
    u: Tensor,  # (B, P), pixels
    v: Tensor,  # (B, P)
    in_front: Tensor,  # (B, P) bool
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """The pixel left and above of u, v, whole numbers, and whether all four around are in the image; 0, 0 if not.

    A search that starts where the last frame was has its points at centers of pixels; see `discrete.steady_floor`.
    """
    u, v = u.detach() + TIE, v.detach() + TIE
    inside = in_front & (u >= 0) & (u < size[1] - 1) & (v >= 0) & (v < size[0] - 1)
    return torch.where(inside, u, 0.0).floor(), torch.where(inside, v, 0.0).floor(), inside


@discrete
def has_texture(
    square: Tensor,  # (B, P), squared gradient of the image, per pixel
) -> Tensor:
    """1 where brightness changes enough to be told from noise, else 0."""
    return (square.detach() > MIN_GRADIENT**2).to(square.dtype)


def texture_weight(square: Tensor, samples: ImageSamples, soft: bool) -> Tensor:
    """How much samples (B, P) count by their squared gradient, and where soft by how visible they are."""
    if not soft:
        return has_texture(square)
    relative = square / MIN_GRADIENT**2
    return samples.weight * relative * relative / (1.0 + relative * relative)


@compiled(fuse_reductions=True, batched=True)
def estimate_exposure(
    T_mc: Tensor,  # (B, 4, 4)
    term: PhotometricTerm,
) -> Exposure:
    """What brings the image's intensities to the model's.

    Mean and spread of both are made equal, which, unlike regression, does not mistake a pose that is off for a loss of
    contrast. The noise is that of a normal distribution with the mean absolute residual found.
    """
    samples = sample_image(T_mc, term)
    w = samples.weight * term.weights
    total = w.sum(-1)
    some = total > 0
    w = w / denominator(total, some)[:, None]
    value, truth = samples.visible * samples.value, samples.visible * term.intensity
    mean_value, mean_truth = (w * value).sum(-1), (w * truth).sum(-1)
    spread_value = (w * (value - mean_value[:, None]) ** 2).sum(-1)
    spread_truth = (w * (truth - mean_truth[:, None]) ** 2).sum(-1)
    contrast = some & (torch.minimum(spread_value, spread_truth) > MIN_NOISE**2)
    ratio = denominator(spread_truth, contrast) / denominator(spread_value, contrast)
    gain = ratio.clamp(0.1, 10.0).sqrt()
    bias = mean_truth - gain * mean_value
    residual = gain[:, None] * value + bias[:, None] - truth
    noise = 1.25 * (w * residual.abs()).sum(-1)
    return Exposure(gain, bias, noise.clamp(min=MIN_NOISE))


@compiled(fuse_reductions=True, batched=True)
def linearize_photometric(
    T_mc: Tensor,  # (B, 4, 4)
    term: PhotometricTerm,
    exposure: Exposure,
    kernel_width: Tensor,  # (), standard deviations
    total: Tensor,  # (B,)
) -> tuple[Tensor, Tensor, Tensor]:
    """Normal equations H (B, 6, 6), g (B, 6) and error (B) of the brightness residuals, whitened, over `total`.

    To a left update of T_mc (Steinbruecker et al. 2011, with the roles of the two images exchanged). A residual's
    variance is that of the noise and, where brightness changes along the image, that of how color lies upon depth.
    Weighted by the model's weights and Tukey's biweight; what is not seen, or where the image is even, costs what an
    outlier does.
    """
    found = weigh_brightness(T_mc, term, exposure, kernel_width)
    H, g = normal_equations(found.J, found.r, found.w, total)
    back = -se3.adjoint(se3.inverse(T_mc))  # moving the camera as seen from m moves the points the other way
    return back.mT @ H @ back, (back.mT @ g[..., None])[..., 0], tukey_error(found.cost, kernel_width, total)


def marginalize_offset(
    H: Tensor,  # (B, 6, 6)
    g: Tensor,  # (B, 6)
    error: Tensor,  # (B,)
    offset: Tensor,  # (B, 6, 6)
) -> tuple[Tensor, Tensor, Tensor]:
    """What is left of normal equations where the pose that they are of is off by a motion of that covariance."""
    kept = share_kept(H, offset)
    left = (kept @ g[..., None])[..., 0]
    gain = (g[:, None] @ offset @ left[..., None])[:, 0, 0]
    return kept @ H, left, error - 0.5 * gain


def share_kept(
    H: Tensor,  # (B, 6, 6)
    offset: Tensor,  # (B, 6, 6)
) -> Tensor:
    """What H and its gradient are multiplied by (B, 6, 6) where the pose is off by a motion of that covariance."""
    eye = torch.eye(6, dtype=H.dtype, device=H.device)
    return torch.linalg.inv_ex(eye + H @ offset).inverse


@compiled(dynamic=(), fuse_reductions=True, batched=True)
def evaluate_photometric(
    T_mc: Tensor,  # (B, 4, 4)
    term: PhotometricTerm,
    exposure: Exposure,
    kernel_width: Tensor,  # ()
    total: Tensor,  # (B,)
    blocks: Blocks,
) -> tuple[Tensor, Tensor]:
    """H (B, 6, 6) of `linearize_photometric`, and what each block of pixels adds to its g, (B, G, 6)."""
    found = weigh_brightness(T_mc, term, exposure, kernel_width)
    H, _ = normal_equations(found.J, found.r, found.w, total)
    scores = block_sums(found.J, found.w * found.r, blocks) / total[:, None, None]
    back = -se3.adjoint(se3.inverse(T_mc))
    return back.mT @ H @ back, scores @ back


class WeighedBrightness(NamedTuple):
    """Residuals of brightness."""

    J: list[Tensor]  # six columns (B, P), to a motion of the points
    r: Tensor  # (B, P)
    w: Tensor  # (B, P)
    cost: Tensor  # (B, P), 1 for an outlier


def weigh_brightness(
    T_mc: Tensor,  # (B, 4, 4)
    term: PhotometricTerm,
    exposure: Exposure,
    kernel_width: Tensor,  # (), standard deviations
) -> WeighedBrightness:
    """The residuals of a term, weighted; see `linearize_photometric`."""
    K, gain, bias, noise = term.K, exposure.gain, exposure.bias, exposure.noise
    samples = sample_image(T_mc, term)
    visible, (x, y, z) = samples.visible, samples.p_c
    inv_z = visible / denominator(z, visible > 0)
    du, dv = gain[:, None] * inv_z * samples.du, gain[:, None] * inv_z * samples.dv
    j_x = du * K[:, 0, 0, None]
    j_y = du * K[:, 0, 1, None] + dv * K[:, 1, 1, None]
    j_z = -(j_x * x + j_y * y) * inv_z
    J = [j_x, j_y, j_z, y * j_z - z * j_y, z * j_x - x * j_z, x * j_y - y * j_x]  # the points move, as seen from c

    residual = visible * (gain[:, None] * samples.value + bias[:, None] - term.intensity)
    square = visible * (samples.du * samples.du + samples.dv * samples.dv)
    misregistration = (term.registration_sigma * gain)[:, None] ** 2 * square
    information = 1.0 / ((noise * noise)[:, None] + misregistration)
    weight, counted = term.weights * texture_weight(square, samples, term.soft), (term.weights > 0).to(residual.dtype)
    w, cost = tukey_weights(residual, information, weight, counted, kernel_width)
    return WeighedBrightness(J, residual, w, cost)
