"""The unknowns of a depth and a color camera that belong together, and how points move with them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.safe import denominator
from gradslam_ng.geometry import se3, so3

# Tangent of the unknowns, in this order. Focal lengths are logarithms, centers pixels, the depth distortion 1/m, the
# motion from depth to color camera meters and radians, the time seconds. Those of the color camera are relative to the
# depth camera's: where nothing tells them, registered images stay registered.
DEPTH = ("fx", "fy", "cx", "cy", "distortion 0", "distortion 1")
COLOR = ("color fx", "color fy", "color cx", "color cy")
MOTION = ("x", "y", "z", "rotation x", "rotation y", "rotation z")
NAMES = (*DEPTH, *COLOR, *MOTION, "time offset")
NEAR = 0.01  # meters: nothing nearer is projected


class CameraPair(NamedTuple):
    """A depth camera, and a color camera that moves with it."""

    K_depth: Tensor  # (3, 3), pixels
    K_color: Tensor  # (3, 3), pixels of color
    T_color_depth: Tensor  # (4, 4), meters
    depth_distortion: Tensor  # (2,), 1/m; see `geometry.depth_distortion`
    time_offset: Tensor  # (), seconds from a depth image to the color image that goes with it

    @staticmethod
    def registered(K: Tensor) -> CameraPair:
        """One pinhole camera for both, float64."""
        K = K.double()
        return CameraPair(K, K, torch.eye(4).to(K), torch.zeros(2).to(K), torch.zeros(()).to(K))

    def retract(
        self,
        delta: Tensor,  # (17,)
    ) -> CameraPair:
        """Moved by a tangent vector; see `NAMES`."""
        depth, color, motion, time = delta.split([len(DEPTH), len(COLOR), len(MOTION), 1])
        return CameraPair(
            _move_intrinsics(self.K_depth, depth[:4]),
            _move_intrinsics(self.K_color, depth[:4] + color),
            se3.exp(motion) @ self.T_color_depth,
            self.depth_distortion + depth[4:],
            self.time_offset + time[0],
        )

    def local(self, other: CameraPair) -> Tensor:
        """The tangent vector (17,) that moves this to another."""
        depth = _intrinsics_between(self.K_depth, other.K_depth)
        color = _intrinsics_between(self.K_color, other.K_color) - depth
        motion = se3.log(other.T_color_depth @ se3.inverse(self.T_color_depth))
        distortion = other.depth_distortion - self.depth_distortion
        return torch.cat([depth, distortion, color, motion, (other.time_offset - self.time_offset)[None]])


def _intrinsics_between(
    K: Tensor,  # (3, 3)
    other: Tensor,  # (3, 3)
) -> Tensor:
    scale = (other[[0, 1], [0, 1]] / K[[0, 1], [0, 1]]).log()
    return torch.cat([scale, other[:2, 2] - K[:2, 2]])


def _move_intrinsics(
    K: Tensor,  # (3, 3)
    delta: Tensor,  # (4,)
) -> Tensor:
    fx, fy = K[0, 0] * delta[0].exp(), K[1, 1] * delta[1].exp()
    cx, cy = K[0, 2] + delta[2], K[1, 2] + delta[3]
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    return torch.stack([fx, K[0, 1], cx, zero, fy, cy, zero, zero, one]).reshape(3, 3)


def lift(
    uv: Tensor,  # (..., 2), pixels
    z: Tensor,  # (...), meters, as measured
    cameras: CameraPair,
) -> tuple[Tensor, Tensor]:
    """The point (..., 3) that the depth camera sees at a pixel, and its Jacobian (..., 3, 6) to `DEPTH`."""
    K, (c0, c1) = cameras.K_depth, cameras.depth_distortion
    x, y = (uv[..., 0] - K[0, 2]) / K[0, 0], (uv[..., 1] - K[1, 2]) / K[1, 1]
    r2 = x * x + y * y
    depth = z / (1 + z * (c0 + c1 * r2))
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    ray = torch.stack([x, y, one], -1)
    by_inverse = -(depth * depth)[..., None] * ray  # the point to its inverse depth
    by_x = depth[..., None] * torch.stack([one, zero, zero], -1) + (2 * c1 * x)[..., None] * by_inverse
    by_y = depth[..., None] * torch.stack([zero, one, zero], -1) + (2 * c1 * y)[..., None] * by_inverse
    columns = [-x[..., None] * by_x, -y[..., None] * by_y, -by_x / K[0, 0], -by_y / K[1, 1]]
    return depth[..., None] * ray, torch.stack([*columns, by_inverse, r2[..., None] * by_inverse], -1)


def see(
    q: Tensor,  # (..., 3), meters, in the depth camera at the time of color
    cameras: CameraPair,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Where the color camera sees points.

    Returns uv (..., 2), pixels of color, their Jacobians to q (..., 2, 3), to `COLOR` (..., 2, 4) and to `MOTION`
    (..., 2, 6), and z (...).
    """
    K, T = cameras.K_color, cameras.T_color_depth
    p = se3.transform(T, q)
    x, y, z = p.unbind(-1)
    in_front = z > NEAR
    inv = in_front / denominator(z, in_front)
    zero = torch.zeros_like(z)
    mx, my = K[0, 0] * x * inv, K[1, 1] * y * inv
    uv = torch.stack([mx + K[0, 2], my + K[1, 2]], -1)
    to_p = torch.stack(
        [torch.stack([K[0, 0] * inv, zero, -mx * inv], -1), torch.stack([zero, K[1, 1] * inv, -my * inv], -1)], -2
    )
    one = torch.ones_like(z)
    to_K = torch.stack([torch.stack([mx, zero, one, zero], -1), torch.stack([zero, my, zero, one], -1)], -2)
    to_motion = torch.cat([to_p, -to_p @ so3.hat(p)], -1)
    return uv, to_p @ T[:3, :3], to_K, to_motion, z
