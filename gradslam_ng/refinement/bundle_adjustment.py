"""Direct bundle adjustment (Schoeps, Sattler and Pollefeys 2019, BAD SLAM): poses of keyframes from what they measure
of common surfels.

BAD SLAM turns between surfels and poses. Here what a surfel has of its own, its place along its normal and its
brightness, is eliminated in closed form (`elimination`), so that poses move together and a few steps are enough.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import camera, se3
from gradslam_ng.refinement.elimination import Reduced, eliminate, robust_location
from gradslam_ng.refinement.observations import Observations, sample
from gradslam_ng.refinement.prior import PosePrior

KERNEL_WIDTH = 4.685  # standard deviations from which a residual counts nothing more
KERNEL = optim.Tukey(KERNEL_WIDTH)


class Surfels(NamedTuple):
    """N surfels, in the coordinates of the map."""

    points: Tensor  # (N, 3), meters
    normals: Tensor  # (N, 3), unit


class BundleAdjustment:
    """A `Problem` over the poses T_wk (K, 4, 4) of keyframes, the first of which stays.

    Two residuals for each surfel that a keyframe sees, in standard deviations and under Tukey's biweight: how far along
    the surfel's normal the measured vertex lies from it, and how much darker or brighter its projection is. Both but
    for a number that all keyframes share and that is eliminated. A surfel moves in images with the poses, not with that
    number.

    Args:
        observed: what keyframes measure of the surfels.
        surfels: they themselves.
        brightness: whether it takes part.
        prior: what is known of the poses before.
    """

    def __init__(
        self, observed: Observations, *, surfels: Surfels, brightness: bool = True, prior: PosePrior | None = None
    ) -> None:
        self.observed, self.surfels, self.brightness, self.prior = observed, surfels, brightness, prior

    def linearize(self, T_wk: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
        """H (6 K - 6, 6 K - 6), g (6 K - 6,) and the error ()."""
        parts = [self._reduce(*self.measure_depth(T_wk), self.observed.depth_information)]
        if self.brightness:
            parts.append(self._reduce(*self.measure_brightness(T_wk), self.observed.brightness_information))
        if self.prior is not None:
            parts.append(self.prior.linearize(T_wk))
        H, g, error = (sum(values[1:], values[0]) for values in zip(*parts, strict=True))
        return H[6:, 6:], g[6:], error

    def error(self, T_wk: Tensor, /) -> Tensor:
        """Half the sum of robust squared residuals, and of what the prior adds ()."""
        return self.linearize(T_wk)[2]

    def retract(
        self,
        T_wk: Tensor,  # (K, 4, 4)
        delta: Tensor,  # (6 K - 6,)
    ) -> Tensor:
        """All poses but the first moved, exp(delta_k) T_wk."""
        moved = se3.exp(delta.unflatten(-1, (-1, 6))) @ T_wk[1:]
        return torch.cat([T_wk[:1], moved])

    def solve(
        self,
        T_wk: Tensor,  # (K, 4, 4)
        iterations: int = 4,
        backward: str = "detach",
    ) -> Tensor:
        """The poses (K, 4, 4) that fit best, from T_wk on; `backward` as in `optim.solve`.

        By "implicit", the gradient is that of the optimum to vertices, intensities, K and surfels.
        """
        strategy = optim.LevenbergMarquardt(damping=1e-8)
        return cast(Tensor, optim.solve(self, T_wk, strategy, iterations, backward=backward).x)

    def measure_depth(self, T_wk: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (K, N) of the measured vertices from the surfels along their normals, meters, and Jacobians
        (K, N, 6)."""
        n = self.surfels.normals
        p = se3.transform(T_wk, self.observed.vertices)
        r = ((p - self.surfels.points) * n).sum(-1)
        return r, torch.cat([n.expand_as(p), torch.linalg.cross(p, n.expand_as(p))], -1)

    def measure_brightness(self, T_wk: Tensor) -> tuple[Tensor, Tensor]:
        """Intensities (K, N) at the projections of the surfels, exposure taken out, and Jacobians (K, N, 6)."""
        seen, points = self.observed, self.surfels.points.expand(len(T_wk), -1, -1)
        T_kw = se3.inverse(T_wk)
        p = se3.transform(T_kw, points)
        visible = seen.brightness_information > 0
        p = torch.where(visible[..., None], p, torch.ones_like(p))
        uv, z = camera.project(p, seen.K)
        samples = sample(seen.intensity, *uv.unbind(-1))
        du, dv = (seen.gain[:, None] * d / z for d in (samples.du, samples.dv))
        fx, skew, fy = (seen.K[:, i, j, None] for i, j in ((0, 0), (0, 1), (1, 1)))
        j_x, j_y = du * fx, du * skew + dv * fy
        j_z = -(j_x * p[..., 0] + j_y * p[..., 1]) / z
        j_w = -se3.rotate(T_wk, torch.stack([j_x, j_y, j_z], -1))  # points move against the camera
        value = seen.gain[:, None] * samples.value + seen.bias[:, None]
        return value, torch.cat([j_w, torch.linalg.cross(points, j_w)], -1)

    def place_surfels(self, T_wk: Tensor) -> Surfels:
        """The surfels moved along their normals to where all keyframes see them."""
        measured, points = self.measure_depth(T_wk)[0], self.surfels.points
        offset = robust_location(measured, self.observed.depth_information, KERNEL)
        return self.surfels._replace(points=points + offset[:, None] * self.surfels.normals)

    def costs(self, T_wk: Tensor) -> tuple[Tensor, Tensor]:
        """What each measurement of a surfel costs, of depth and of brightness, each (K, N) between 0 and 1."""
        terms = (
            (self.measure_depth(T_wk)[0], self.observed.depth_information),
            (self.measure_brightness(T_wk)[0], self.observed.brightness_information),
        )
        depth, brightness = (
            KERNEL.rho(information * (measured - robust_location(measured, information, KERNEL)).square())
            for measured, information in terms
        )
        most = KERNEL_WIDTH**2 / 3  # of an outlier
        return depth / most, brightness / most

    def _reduce(self, measured: Tensor, J: Tensor, information: Tensor) -> Reduced:
        return eliminate(measured, J, information, KERNEL)
