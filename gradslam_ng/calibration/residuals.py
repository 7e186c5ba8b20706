"""How well pairs of frames fit: distance of points to planes and difference of brightness, with their Jacobians.

To the poses of both frames and to the cameras. Which pixel meets which is held; see `association`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.calibration.cameras import COLOR, DEPTH, MOTION, NAMES, CameraPair, lift, see
from gradslam_ng.calibration.motion import LocalMotion
from gradslam_ng.compute.discrete import steady_floor
from gradslam_ng.compute.safe import denominator
from gradslam_ng.geometry import se3

MIN_COSINE = 0.2  # between a ray and the normal of the plane that it meets
MIN_ASPECT = 0.15  # of a piece of surface as seen, about half the cosine of the angle that it is seen at


class Residuals(NamedTuple):
    """Of M pairs of frames (i, j) with P points each."""

    r: Tensor  # (M, P), in standard deviations
    to_pose: Tensor  # (M, P, 6), to a left update of i's pose; of j's it is the negative
    to_camera: Tensor  # (M, P, n), to the tangent of `CameraPair`


def move_back(
    p: Tensor,  # (M, P, 3)
    xi: Tensor,  # (M, 6), where the camera moves, and its rate (M, 6)
    rate: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Points as a camera sees them that has moved by exp(xi), their Jacobian (M, P, 3) to the time, and the rotation
    (M, 3, 3)."""
    T = se3.exp(-xi)
    turn = -(se3.left_jacobian(-xi) @ rate[..., None])[..., 0]
    q = se3.transform(T, p)
    by_t = turn[:, None, :3] + torch.linalg.cross(turn[:, None, 3:].expand_as(q), q)
    return q, by_t, T[:, :3, :3]


@dataclass(frozen=True, eq=False)
class PlanePairs:
    """Pixels of the depth images of two frames that see one surface."""

    uv_i: Tensor  # (M, P, 2), pixels
    z_i: Tensor  # (M, P), meters, as measured
    uv_j: Tensor  # (M, P, 2)
    z_j: Tensor  # (M, P)
    normal_j: Tensor  # (M, P, 3), in camera j
    information: Tensor  # (M, P), inverse standard deviation of depth as measured, 1/m; 0 where there is no pair
    misfit: float  # median of the differences when they were paired, in standard deviations of the depth noise

    def evaluate(
        self,
        T_wi: Tensor,  # (M, 4, 4)
        T_wj: Tensor,  # (M, 4, 4)
        cameras: CameraPair,
    ) -> Residuals:
        """Distances of i's points to the planes of j (Chen and Medioni 1991) along i's rays, in depth as measured.

        That is where the noise is. Distances in space would become smaller with the space: by longer focal lengths, and
        by a distortion that brings all depth nearer.
        """
        p_i, to_i = lift(self.uv_i, self.z_i, cameras)
        p_j, to_j = lift(self.uv_j, self.z_j, cameras)
        p_w = se3.transform(T_wi, p_i)
        n_w = se3.rotate(T_wj, self.normal_j)
        n_i = n_w @ T_wi[:, :3, :3]
        per, ray, by_pixel, by_stretch = _stretch(self.uv_i, self.z_i, cameras)
        along = (n_i * ray).sum(-1)  # what the plane's distance changes by where depth does
        facing = along.abs() > MIN_COSINE * ray.norm(dim=-1)
        scale = per / denominator(along, facing)
        r = scale * ((p_w - se3.transform(T_wj, p_j)) * n_w).sum(-1)
        by_depth = (n_i[..., None, :] @ to_i - self.normal_j[..., None, :] @ to_j)[..., 0, :]
        turned = (n_i[..., None, :] @ by_pixel)[..., 0, :] / denominator(along, facing)[..., None]
        by_depth = scale[..., None] * by_depth + r[..., None] * (by_stretch - turned)
        rest = by_depth.new_zeros(*by_depth.shape[:-1], len(NAMES) - len(DEPTH))
        to_camera = torch.cat([by_depth, rest], -1)
        ray_w = se3.rotate(T_wi, ray)
        turn = torch.linalg.cross(p_w, n_w) - (r / per)[..., None] * torch.linalg.cross(ray_w, n_w)
        to_pose = scale[..., None] * torch.cat([n_w, turn], -1)
        w = torch.where(facing, self.information, 0.0)
        return Residuals(w * r, w[..., None] * to_pose, w[..., None] * to_camera)


def _stretch(
    uv: Tensor,  # (..., 2), pixels
    z: Tensor,  # (...), meters, as measured
    cameras: CameraPair,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How much measured depth changes where depth does (...), the ray (..., 3), the Jacobian (..., 3, 6) of the ray to
    `DEPTH`, and that of the former's logarithm (..., 6)."""
    K, (c0, c1) = cameras.K_depth, cameras.depth_distortion
    x, y = (uv[..., 0] - K[0, 2]) / K[0, 0], (uv[..., 1] - K[1, 2]) / K[1, 1]
    r2 = x * x + y * y
    ratio = 1 + z * (c0 + c1 * r2)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    to_x = torch.stack([-x, zero, -one / K[0, 0], zero, zero, zero], -1)
    to_y = torch.stack([zero, -y, zero, -one / K[1, 1], zero, zero], -1)
    to_c = torch.stack([zero, zero, zero, zero, one, r2], -1)
    by_log = (2 * z / ratio)[..., None] * (to_c + 2 * c1 * (x[..., None] * to_x + y[..., None] * to_y))
    return ratio * ratio, torch.stack([x, y, one], -1), torch.stack([to_x, to_y, torch.zeros_like(to_x)], -2), by_log


class Sampled(NamedTuple):
    """An image at points between its pixels."""

    value: Tensor  # (M, P)
    gradient: Tensor  # (M, P, 2), per pixel of the full image
    inside: Tensor  # (M, P) bool


@dataclass(frozen=True, eq=False)
class Images:
    """Intensity of N frames, shrunk by a whole factor, with its derivatives."""

    stack: Tensor  # (N, 3, h, w): intensity, and its derivatives along row and column, per pixel of the full image
    factor: int

    @staticmethod
    def of(intensity: Tensor, factor: int) -> Images:
        """intensity (N, h, w), shrunk by `factor`."""
        padded = torch.nn.functional.pad(intensity[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        du = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / factor
        dv = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / factor
        return Images(torch.stack([intensity, du, dv], 1), factor)

    def sample(
        self,
        index: Tensor,  # (M,)
        uv: Tensor,  # (M, P, 2), pixels of the full image
    ) -> Sampled:
        """Bilinearly. A point outside has value and gradient 0."""
        h, w = self.stack.shape[-2:]
        x, y = ((uv + 0.5) / self.factor - 0.5).unbind(-1)
        inside = (x >= 0) & (x < w - 1) & (y >= 0) & (y < h - 1)
        x, y = torch.where(inside, x, 0.0), torch.where(inside, y, 0.0)
        column, row = steady_floor(x).clamp(max=w - 2), steady_floor(y).clamp(max=h - 2)
        a, b = (x - column)[..., None], (y - row)[..., None]
        table = self.stack.movedim(1, -1).flatten(0, 2)
        first = index[:, None] * (h * w) + row.long() * w + column.long()
        top = torch.lerp(table[first], table[first + 1], a)
        low = torch.lerp(table[first + w], table[first + w + 1], a)
        found = torch.where(inside[..., None], torch.lerp(top, low, b), 0.0)
        return Sampled(found[..., 0], found[..., 1:], inside)


@dataclass(frozen=True, eq=False)
class BrightnessPairs:
    """Points of frame i, whose color two frames should show alike."""

    i: Tensor  # (M,)
    j: Tensor  # (M,)
    uv_i: Tensor  # (M, P, 2), pixels of depth
    z_i: Tensor  # (M, P), meters, as measured
    normal_i: Tensor  # (M, P, 3), of the surface, in camera i; 0 where it is not known
    images: Images
    gain: Tensor  # (M,), of j to be as bright as i
    bias: Tensor  # (M,)
    information: Tensor  # (M, P), inverse standard deviation; 0 where one does not see the point
    motion: LocalMotion  # of the N keyframes
    misfit: float  # median of the differences when they were paired

    def evaluate(
        self,
        T_wi: Tensor,  # (M, 4, 4)
        T_wj: Tensor,  # (M, 4, 4)
        cameras: CameraPair,
    ) -> Residuals:
        """Differences of brightness where i's and j's color images see i's points (Steinbruecker et al. 2011)."""
        p_i, to_depth = lift(self.uv_i, self.z_i, cameras)
        p_w = se3.transform(T_wi, p_i)
        R_iw = T_wi[:, :3, :3].mT
        p_j = se3.transform(se3.inverse(T_wj), p_w)
        R_ji = T_wj[:, :3, :3].mT @ T_wi[:, :3, :3]
        a = self._view(self.i, p_i, cameras)
        b = self._view(self.j, p_j, cameras)
        gain = self.gain[:, None]
        r = a.value - gain * b.value - self.bias[:, None]
        g_a, g_b = share_gradient(a, b, self.normal_i, R_ji, gain[..., None])
        a_to_p, a_to_rest = (g_a[..., None, :] @ a.moves)[..., 0, :].split([3, REST], -1)
        b_to_p, b_to_rest = (g_b[..., None, :] @ b.moves)[..., 0, :].split([3, REST], -1)
        by_j = -gain[..., None] * b_to_p  # of r to p_j
        by_i = a_to_p + by_j @ R_ji  # of r to p_i, the poses held
        by_w = by_j @ R_ji @ R_iw
        rest = a_to_rest - gain[..., None] * b_to_rest
        by_depth = (by_i[..., None, :] @ to_depth)[..., 0, :]
        by_depth = by_depth + torch.nn.functional.pad(rest[..., :4], (0, len(DEPTH) - 4))  # color's K is relative
        to_camera = torch.cat([by_depth, rest], -1)
        to_pose = torch.cat([by_w, torch.linalg.cross(p_w, by_w)], -1)
        w = self.information * (a.inside & b.inside)
        return Residuals(w * r, w[..., None] * to_pose, w[..., None] * to_camera)

    def _view(self, index: Tensor, p: Tensor, cameras: CameraPair) -> View:
        """Points p (M, P, 3), in depth cameras, as the color images of frames (M,) show them."""
        q, by_t, R = move_back(p, *self.motion.at(index, cameras.time_offset))
        uv, to_q, to_K, to_motion, z = see(q, cameras)
        found = self.images.sample(index, uv)
        moves = torch.cat([to_q @ R[:, None], to_K, to_motion, to_q @ by_t[..., None]], -1)
        return View(found.value, found.gradient, moves, found.inside & (z > 0))


REST = len(COLOR) + len(MOTION) + 1


class View(NamedTuple):
    """The brightness of points in color images."""

    value: Tensor  # (M, P)
    gradient: Tensor  # (M, P, 2), per pixel
    moves: Tensor  # (M, P, 2, 14), of the pixel with the point, in the depth camera, `COLOR`, `MOTION` and the time
    inside: Tensor  # (M, P) bool


def share_gradient(
    a: View,
    b: View,
    normal: Tensor,  # (M, P, 3), in a's camera
    R_ba: Tensor,  # (M, 3, 3)
    gain: Tensor,  # (M, 1, 1), of b to be as bright as a
) -> tuple[Tensor, Tensor]:
    """Gradients (M, P, 2) of a's and b's image at points of a surface, both those of one texture on it, the mean of the
    two; each image's own where the surface is not known or seen at a grazing angle.

    What moves color alike in both images shows in the difference of the two gradients only, which would be more of
    noise than of texture: normal equations would be far too stiff, and follow the noise.
    """
    side = torch.linalg.cross(normal, a.moves.new_tensor([0.0, 1.0, 0.0]).expand_as(normal))
    basis = torch.stack([side, torch.linalg.cross(normal, side)], -1)  # (M, P, 3, 2), along the surface
    to_a, to_b = a.moves[..., :3] @ basis, b.moves[..., :3] @ R_ba[:, None] @ basis
    size = basis.square().sum((-1, -2))
    known = a.inside & b.inside
    for J in (to_a, to_b):
        determinant, norm = torch.linalg.det(J).abs(), J.square().sum((-1, -2))
        known = known & (determinant > MIN_ASPECT * norm) & (size > 0.1)
    eye = torch.eye(2).to(to_a)
    to_a, to_b = (torch.where(known[..., None, None], J, eye).mT for J in (to_a, to_b))
    texture = 0.5 * (to_a @ a.gradient[..., None] + gain[..., None] * (to_b @ b.gradient[..., None]))
    found = [torch.linalg.solve(J, texture)[..., 0] for J in (to_a, to_b)]
    return (
        torch.where(known[..., None], found[0], a.gradient),
        torch.where(known[..., None], found[1] / gain, b.gradient),
    )
