"""Surface measurement: a depth image as vertices, normals and noise (Newcombe et al. 2011, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import as_caller, mode_free, recordable
from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.compute.compiled import compiled
from gradslam_ng.compute.masks import MIN_DEPTH, heaviside, stack_last
from gradslam_ng.geometry import camera, depth_noise, images, se3
from gradslam_ng.structures import LiveFrame, RGBDFrames, SurfaceView
from gradslam_ng.structures.motion_prior import usable_prior

MAX_DEPTH = 50.0  # meters: no RGB-D camera measures as far; what it reports from there is saturated, or sky
SIGMA_RANGE = (1e-5, 1e3)  # meters, of depth noise: less would outweigh all else, and its square underflow

Noise = Callable[[SurfaceView, Tensor], Tensor]  # of a surface and its color (B, H, W, 3), to sigma (B, H, W), meters


def axial_noise(surface: SurfaceView, color: Tensor) -> Tensor:  # color (B, H, W, 3)
    """The depth noise (B, H, W), meters, of a structured-light camera, from the depth alone; see
    `depth_noise.axial_sigma`."""
    return checkpoint(depth_noise.axial_sigma, surface.vertices[..., 2])


@mode_free
def measure_surface(
    frame: RGBDFrames,
    factor: int = 1,
    noise: Noise = axial_noise,
    max_depth: float = MAX_DEPTH,
    soft: bool = False,
) -> LiveFrame:
    """Images shrunk by `factor`, depth smoothed but for its edges; its surface and noise. frame (B,).

    A pixel takes no part, and has no gradient, if its depth is not finite, not beyond `MIN_DEPTH` or beyond
    `max_depth`, meters, or if its color is not finite or far outside [0, 1] (`images.usable_color`); nor does a frame
    whose K is no pinhole camera's. A pose that is no rigid motion becomes NaN, that is, unknown, also one of another
    source. With `soft`, normals and weights are continuous in the depth (`images.soft_normal_map`).

    Raises:
        ValueError: noise that is no tensor, or of another shape than the depth.
    """
    frame = frame.map(recordable) if torch.is_grad_enabled() else frame
    color, depth, vertices, normals, weights, intensity, K, has_camera, T_wc = checkpoint(
        measure_images, frame.color, frame.depth, frame.K, frame.T_wc, factor, max_depth, soft
    )
    surface = SurfaceView(vertices, normals, weights, K, intensity)
    sigma, weights = measure_noise(noise, surface, color)
    T_prior = None if frame.T_prior is None else usable_prior(frame.T_prior)
    return LiveFrame(replace(surface, weights=weights), color, depth, sigma, T_wc, has_camera, T_prior)


def measure_noise(
    noise: Noise,
    surface: SurfaceView,
    color: Tensor,  # (B, H, W, 3)
) -> tuple[Tensor, Tensor]:
    """Depth noise (B, H, W), meters, and the weights of the surface (B, H, W), 0 where the noise is no number.

    A model sees holes as points at one meter, and what it says of them does not matter: neither its value there nor its
    derivative can spoil anything.
    """
    vertices = surface.vertices
    away = torch.eye(3, dtype=vertices.dtype, device=vertices.device)[2]
    filled = replace(surface, vertices=torch.where(vertices.detach()[..., 2:] > 0, vertices, away))
    with as_caller():
        sigma = noise(filled, color)
    if not isinstance(sigma, Tensor):
        raise ValueError(f"noise: expected a tensor of shape {tuple(surface.weights.shape)}, got {sigma!r:.100}")
    if sigma.shape != surface.weights.shape:
        raise ValueError(f"noise: expected shape {tuple(surface.weights.shape)}, got {tuple(sigma.shape)}")
    return limit_noise(sigma.to(vertices.dtype), vertices, surface.weights)


@compiled(dynamic=(), batched=True)
def limit_noise(
    sigma: Tensor,  # (B, H, W), meters
    vertices: Tensor,  # (B, H, W, 3), meters
    weights: Tensor,  # (B, H, W)
) -> tuple[Tensor, Tensor]:
    """Sigma within `SIGMA_RANGE`, 1 m at holes, without gradient there; and the weights, 0 where it is negative or no
    number."""
    measured = vertices.detach()[..., 2] > 0
    said = (sigma.detach() >= 0) & (sigma.detach() < torch.inf)
    return torch.where(measured & said, sigma, 1.0).clamp(*SIGMA_RANGE), torch.where(measured & said, weights, 0.0)


def with_raw_vertices(live: LiveFrame) -> LiveFrame:
    """The frame with its vertices where depth was measured, without smoothing; the normals stay those of the smoothed
    surface."""
    vertices = camera.unproject(live.depth[..., None], live.surface.K)
    return replace(live, surface=replace(live.surface, vertices=vertices))


@compiled(dynamic=(), batched=True, vectorize_gathers=True)
def measure_images(
    color: Tensor,  # (B, H, W, 3)
    depth: Tensor,  # (B, H, W, 1), meters
    K: Tensor,  # (B, 3, 3)
    T_wc: Tensor | None,  # (B, 4, 4)
    factor: int,
    max_depth: float,  # meters
    soft: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Color (B, H / factor, W / factor, 3) and depth, without a channel; of the smoothed depth, vertices, normals, and
    1 or 0 for whether there is a normal, or how much there is; the intensity, without a channel; K of the shrunk
    images, whether it is a camera's (B,), and T_wc with NaN for what is no pose."""
    size = (depth.shape[1], depth.shape[2])
    has_camera = camera.is_pinhole(K, size)
    usable = images.usable_color(color) & has_camera[:, None, None, None]
    measured = (depth > MIN_DEPTH) & (depth <= max_depth) & (depth < torch.inf)  # NaN too is a hole
    depth = torch.where(usable & measured, depth, 0.0)
    if factor > 1:
        K = camera.scale_intrinsics(K, 1 / factor)
        color, depth = mean_color(color, has_camera, factor), images.downsample_depth(depth, factor)
    else:
        color = torch.where(usable, color, 0.0)
    # without any depth one camera does as well as another
    eye = torch.eye(3, dtype=K.dtype, device=K.device)
    K = torch.where(has_camera[:, None, None], K, torch.cat([max(size) * eye[:2], eye[2:]]))
    vertices = camera.unproject(images.bilateral_depth(depth), K)
    if soft:
        normals, seen = images.soft_normal_map(vertices)
    else:
        normals = images.normal_map(vertices)
        seen = (normals.detach() != 0).any(-1).to(depth.dtype)
    if T_wc is not None:
        T_wc = torch.where(se3.is_rigid(T_wc.detach(), tol=1e-3)[:, None, None], T_wc, torch.nan)
    intensity = images.intensity(color)[..., 0].clone()
    return color, depth[..., 0].clone(), vertices, normals, seen, intensity, K, has_camera, T_wc


def mean_color(
    color: Tensor,  # (B, H, W, 3)
    has_camera: Tensor,  # (B,) bool
    factor: int,
) -> Tensor:
    """Means (B, H / factor, W / factor, 3) over the usable pixels of blocks, 0 where there are none.

    Red, green and blue apart, pixel by pixel of a block: compiled, that is one pass without an image of full size.
    """
    share, totals = (
        torch.zeros((), dtype=color.dtype, device=color.device),
        [torch.zeros_like(color[:1, :1, :1, 0])] * 3,
    )
    for block in images.block_pixels(color, factor):
        usable = images.usable_color(block)[..., 0] & has_camera[:, None, None]
        share = share + usable.to(color.dtype)
        totals = [total + torch.where(usable, c, 0.0) for total, c in zip(totals, block.unbind(-1), strict=True)]
    share = share / factor**2
    scale = share + (1.0 - heaviside(share))
    return stack_last(*(total / factor**2 / scale for total in totals))
