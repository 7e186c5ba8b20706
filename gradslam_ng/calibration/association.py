"""Which pixels of keyframes see one surface: projective association of pairs of frames, and their exposure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradslam_ng.calibration.cameras import NEAR, CameraPair, lift, see
from gradslam_ng.calibration.local_planes import fit_depth
from gradslam_ng.calibration.motion import LocalMotion
from gradslam_ng.calibration.residuals import BrightnessPairs, Images, PlanePairs, Sampled, move_back
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.geometry import camera, images, se3
from gradslam_ng.geometry.depth_noise import axial_sigma

MAX_DISTANCE = 0.03  # of the depth, between two points that may be one
SLACK = 0.01  # meters, beside that
MIN_COSINE = 0.9  # between their normals
EDGE = 0.03  # of the depth: neighbors that differ by more are another surface
MARGIN = 2  # pixels around such an edge, where color may be that of the other surface
MIN_NOISE = 0.003  # of intensity in [0, 1]: eight bits leave no less
MIN_MISFIT = 0.05  # of the depth noise
MIN_GRADIENT = 0.01  # of intensity, per pixel of the shrunk image


@dataclass(frozen=True, eq=False)
class Keyframes:
    """N keyframes at working size."""

    depth: Tensor  # (N, h, w), meters, as measured or smoothed, but not corrected
    images: Images  # of color
    motion: LocalMotion
    factor: int  # full pixels of depth in one
    smooth: Tensor  # (N, h, w) bool: depth with no edge near by

    @staticmethod
    def of(
        depth: Tensor, intensity: Tensor, motion: LocalMotion, factors: tuple[int, int], *, smooth: bool
    ) -> Keyframes:
        """depth (N, H, W) and intensity (N, H', W') as recorded, shrunk by factors, of depth and of color; and depth
        smoothed, where asked for."""
        small = images.downsample_depth(depth[..., None], factors[0])[..., 0] if factors[0] > 1 else depth
        gray = images.downsample_color(intensity[..., None], factors[1])[..., 0] if factors[1] > 1 else intensity
        even = is_smooth(small)
        small = fit_depth(small) if smooth else small
        return Keyframes(small, Images.of(gray, factors[1]), motion, factors[0], even & (small > 0))

    def pixels(self) -> Tensor:
        """(h, w, 2), in full pixels of depth."""
        h, w = self.depth.shape[-2:]
        v, u = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        return (torch.stack([u, v], -1).to(self.depth) + 0.5) * self.factor - 0.5


@discrete
def is_smooth(depth: Tensor) -> Tensor:
    """(N, h, w) bool: depth whose surroundings have depth too, near to it."""
    z = depth[:, None]
    size = 2 * MARGIN + 1
    far = torch.nn.functional.max_pool2d(z, size, 1, MARGIN)
    near = -torch.nn.functional.max_pool2d(-z, size, 1, MARGIN)
    return ((near > 0) & (far - near < 2 * EDGE * z))[:, 0]


@dataclass(frozen=True, eq=False)
class Samples:
    """Pixels of each keyframe that take part."""

    flat: Tensor  # (N, P) index into h * w
    used: Tensor  # (N, P) bool


@discrete
def draw(
    weight: Tensor,  # (N, h, w), 0 for pixels that take no part
    count: int,
    generator: torch.Generator,
) -> Samples:
    """Up to `count` pixels of each frame, drawn by weight."""
    flat = weight.flatten(1)
    key = torch.rand(flat.shape, generator=generator, dtype=flat.dtype) ** (1 / flat.clamp(min=1e-9))
    chosen = torch.where(flat > 0, key, -1.0).topk(min(count, flat.shape[1]), dim=1)
    return Samples(chosen.indices, chosen.values >= 0)


def _spread(r: Tensor) -> float:
    """The standard deviation that the median size of residuals r (n,) of normal distribution tells; 0 of none."""
    return 1.4826 * float(r.abs().median()) if len(r) else 0.0


class Associator:
    """Pairs (i, j) of keyframes with the pixels that take part in them, the same ones each time.

    Args:
        frames: the keyframes.
        pairs: i and j (M,).
        cameras: where color is looked up to find the pixels with texture.
        count: pixels of each keyframe, for either kind of residual.
    """

    def __init__(self, frames: Keyframes, *, pairs: tuple[Tensor, Tensor], cameras: CameraPair, count: int) -> None:
        self.frames, (self.i, self.j) = frames, pairs
        generator = torch.Generator("cpu").manual_seed(0)
        self.surface = draw(frames.smooth.to(frames.depth), count, generator)
        gradient = self._texture(cameras)
        strong = (gradient > MIN_GRADIENT / frames.images.factor) & frames.smooth
        self.texture = draw(torch.where(strong, gradient, 0.0), count, generator)

    def _texture(self, cameras: CameraPair) -> Tensor:
        """Gradient of the brightness (N, h, w) that color shows at each pixel of depth."""
        frames = self.frames
        n, h, w = frames.depth.shape
        p, _ = lift(frames.pixels().expand(n, h, w, 2).flatten(1, 2), frames.depth.flatten(1), cameras)
        uv, *_ = see(p, cameras)
        g = frames.images.sample(torch.arange(n, device=p.device), uv).gradient
        return g.norm(dim=-1).reshape(n, h, w)

    @discrete
    def planes(
        self,
        T_wc: Tensor,  # (N, 4, 4)
        cameras: CameraPair,
    ) -> PlanePairs:
        """Each pixel with the one that its point is nearest to in the other frame, where both lie on one surface."""
        frames, i, j = self.frames, self.i, self.j[:, None]
        grid, depth = frames.pixels(), frames.depth.flatten(1)
        vertices, normals = self._surface(cameras)
        chosen = self.surface.flat[i]
        T_ji = se3.inverse(T_wc[self.j]) @ T_wc[i]
        p = se3.transform(T_ji, vertices[i[:, None], chosen])
        normal_i = se3.rotate(T_ji, normals[i[:, None], chosen])
        met, inside = self._pixel(p, cameras)
        q, normal, z_i, z_j = vertices[j, met], normals[j, met], depth[i[:, None], chosen], depth[j, met]
        near = (p - q).norm(dim=-1) < MAX_DISTANCE * z_j + SLACK
        parallel = (normal_i * normal).sum(-1) > MIN_COSINE
        paired = inside & near & parallel & self.surface.used[i] & frames.smooth.flatten(1)[j, met]
        sigma = (axial_sigma(z_i).square() + axial_sigma(z_j).square()).sqrt()
        grid = grid.flatten(0, 1)
        pairs = PlanePairs(grid[chosen], z_i, grid[met], z_j, normal, paired / sigma, 1.0)
        r = pairs.evaluate(T_wc[i], T_wc[self.j], cameras).r
        misfit = _spread(r[paired & (r != 0)])
        return replace(pairs, information=pairs.information / max(misfit, MIN_MISFIT), misfit=misfit)

    def _surface(self, cameras: CameraPair) -> tuple[Tensor, Tensor]:
        """Vertices and normals (N, h * w, 3) of the keyframes."""
        depth = self.frames.depth
        vertices, _ = lift(self.frames.pixels().expand(*depth.shape, 2), depth, cameras)
        vertices = torch.where(depth[..., None] > 0, vertices, 0.0)
        return vertices.flatten(1, 2), images.normal_map(vertices).flatten(1, 2)

    def _pixel(self, p: Tensor, cameras: CameraPair) -> tuple[Tensor, Tensor]:
        """The pixel (M, P) of depth that points are seen at, h * w in number, and whether there is one."""
        h, w = self.frames.depth.shape[-2:]
        uv, z = camera.project(p, cameras.K_depth)
        u, v = ((uv + 0.5) / self.frames.factor - 0.5).round().unbind(-1)
        inside = (z > NEAR) & (u >= 0) & (u < w) & (v >= 0) & (v < h)
        return torch.where(inside, v * w + u, 0.0).long(), inside

    @discrete
    def brightness(
        self,
        T_wc: Tensor,  # (N, 4, 4)
        cameras: CameraPair,
    ) -> BrightnessPairs:
        """Pixels with texture whose points the other frame sees too, and how much brighter it is."""
        frames, i, j = self.frames, self.i, self.j
        grid, depth = frames.pixels().flatten(0, 1), frames.depth.flatten(1)
        chosen = self.texture.flat[i]
        uv, z = grid[chosen], depth[i[:, None], chosen]
        normal = self._surface(cameras)[1][i[:, None], chosen]
        p_i, _ = lift(uv, z, cameras)
        p_j = se3.transform(se3.inverse(T_wc[j]) @ T_wc[i], p_i)
        met, inside = self._pixel(p_j, cameras)
        seen, _ = lift(grid[met], depth[j[:, None], met], cameras)
        near = (seen[..., 2] - p_j[..., 2]).abs() < MAX_DISTANCE * p_j[..., 2] + SLACK
        a, b = self._shown(i, p_i, cameras), self._shown(j, p_j, cameras)
        used = inside & near & self.texture.used[i] & frames.smooth.flatten(1)[j[:, None], met] & a.inside & b.inside
        gain, bias = _exposure(a.value, b.value, used.to(z))
        misfit = _spread((a.value - gain[:, None] * b.value - bias[:, None])[used])
        information = used / max(misfit, MIN_NOISE)
        return BrightnessPairs(i, j, uv, z, normal, frames.images, gain, bias, information, frames.motion, misfit)

    @discrete
    def misfits(
        self,
        T_wc: Tensor,  # (N, 4, 4)
        cameras: CameraPair,
    ) -> tuple[tuple[float, float], Tensor]:
        """Spread of the differences of surfaces, in standard deviations of the depth noise, and of brightness, of all
        pairs together and of each (2, M); that of a pair without any is 1."""
        whole, each = [], []
        terms = (self.planes(T_wc, cameras), MIN_MISFIT), (self.brightness(T_wc, cameras), MIN_NOISE)
        for term, least in terms:
            r = max(term.misfit, least) * term.evaluate(T_wc[self.i], T_wc[self.j], cameras).r
            median = torch.where(term.information > 0, r.abs(), torch.nan).nanmedian(-1).values
            whole.append(term.misfit)
            each.append(torch.where(median > 0, 1.4826 * median, 1.0))
        return (whole[0], whole[1]), torch.stack(each)

    def _shown(self, index: Tensor, p: Tensor, cameras: CameraPair) -> Sampled:
        """Points (M, P, 3), in depth cameras, in the color images of frames (M,)."""
        q, _, _ = move_back(p, *self.frames.motion.at(index, cameras.time_offset))
        uv, *_ = see(q, cameras)
        return self.frames.images.sample(index, uv)


def _exposure(
    a: Tensor,  # (M, P)
    b: Tensor,  # (M, P)
    weight: Tensor,  # (M, P)
) -> tuple[Tensor, Tensor]:
    """Gain and bias (M,) by which b has the mean and spread of a; see `odometry.photometric.estimate_exposure`."""
    total = weight.sum(-1).clamp(min=1)
    mean_a, mean_b = (weight * a).sum(-1) / total, (weight * b).sum(-1) / total
    spread_a, spread_b = (
        ((weight * (x - mean[:, None]).square()).sum(-1) / total).sqrt() for x, mean in ((a, mean_a), (b, mean_b))
    )
    gain = torch.where(spread_b > MIN_NOISE, spread_a / spread_b.clamp(min=MIN_NOISE), 1.0).clamp(0.5, 2.0)
    return gain, mean_a - gain * mean_b
