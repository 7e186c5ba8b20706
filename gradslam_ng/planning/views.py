"""Next best views: how much a camera would learn of a map from a pose, and the pose from which it learns the most.

The expected gain of a ray is that of the cell at which it ends, weighted by the probability that it gets there, as in
the occlusion-aware gain of Isler et al. (2016), with the variance of the cell's surface for its entropy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool3d

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.safe import divide
from gradslam_ng.geometry import camera, se3
from gradslam_ng.planning.cem import cem
from gradslam_ng.planning.checks import check_all, check_shape, check_tensors
from gradslam_ng.planning.occupancy import Occupancy
from gradslam_ng.rendering.rays import pixel_rays
from gradslam_ng.structures import VoxelGrid

CLOSED = 1e-4  # of the light that a cell lets through at least


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What rays may meet in each cell of a grid in space, and how often it has been measured.

    Beyond the grid nothing is known.
    """

    opacity: Tensor  # (X, Y, Z), the probability that a ray that crosses the cell ends there
    weight: Tensor  # (X, Y, Z), measurements of the surface in the cell
    grid: Occupancy
    unknown: float  # opacity of what is unknown

    @staticmethod
    @mode_free
    def of(grid: Occupancy, volume: VoxelGrid, *, unknown: float = 0.1) -> Uncertainty:
        """Of a carved grid of a volume: free cells let rays through, occupied ones do not, unknown ones some. What is
        not free has the largest weight of the volume among its center and those of its neighbors, with its gradient.

        Args:
            unknown: opacity of unknown cells, between 0 and 1: the share of them that holds a surface.

        Raises:
            ValueError: a grid in the plane, another opacity, or a batch of volumes.
        """
        if grid.state.ndim != 3 or not 0 < unknown < 1 or volume.batch != 1:
            raise ValueError(
                f"expected a grid in space, an opacity of unknown cells between 0 and 1, and one volume, got "
                f"{grid.state.ndim}D, {unknown} and {volume.batch}"
            )
        centers = grid.centers().flatten(0, 2) @ grid.axes
        centers = centers if volume.origin is not None else centers.to(volume.sdf)
        weight = volume.query(centers[None])[2][0].view(grid.state.shape)
        opacity = torch.where(grid.occupied, 1.0, torch.where(grid.unknown, unknown, 0.0)).to(weight)
        weight = torch.where(grid.free, 0.0, max_pool3d(weight[None], 3, 1, 1)[0])  # at a surface's edges as within
        return Uncertainty(opacity, weight, grid, unknown)

    def at(self, p: Tensor) -> tuple[Tensor, Tensor]:  # p (..., 3), world, meters
        """Density (...), -log(1 - opacity) of a cell, and the weight of what is opaque there (...).

        Density is what is interpolated, and weight by it: a wall one cell thick stops rays wherever they sample it.
        """
        index = (p.to(self.grid.origin) @ self.grid.axes.T - self.grid.origin) / self.grid.cell
        size = torch.tensor(self.opacity.shape, device=index.device)
        place = ((2 * index + 1) / size - 1).flip(-1).to(p)  # within [-1, 1], the last axis first
        density, beyond = -(1 - self.opacity).clamp(min=CLOSED).log(), -math.log1p(-self.unknown)
        both = torch.stack([density - beyond, density * self.weight]).to(p)[None]
        found = grid_sample(both, place.reshape(1, 1, 1, -1, 3), align_corners=False)
        density, weighted = found.view(2, *p.shape[:-1])
        density = (density + beyond).clamp(min=0)
        return density, divide(weighted, density, density > CLOSED)


@mode_free
def information(
    field: Uncertainty,
    T_wc: Tensor,  # (..., 4, 4)
    K: Tensor,  # (3, 3)
    size: tuple[int, int],
    *,
    max_depth: float = 4.0,
    prior: float = 0.02,
) -> Tensor:
    """How much surface cameras would measure for the first time (...), square meters, as far as can be told.

    The surface at which a ray ends has been measured `weight` times, so its variance is that of a measurement over
    prior + weight. One more removes 1 / (prior + weight) - 1 / (prior + weight + 1), here relative to what it does
    without weight. Of that, over where a ray ends, the expectation, times the area that its pixel covers there; the
    sum over rays. With a gradient to poses, intrinsics and the field, which is interpolated; cells are constants of it.

    Args:
        K, size: of an image of few pixels; a dozen a side is enough.
        max_depth: up to which the camera measures, meters.
        prior: weight that knowing nothing is worth; less prefers the unknown more. A volume gives a pixel at 1 m, seen
            face on, a weight of about 1, and less with the square of its noise.

    Raises:
        TypeError: T_wc or K are no tensors of floating-point numbers of one precision.
        ValueError: shapes that do not fit, poses that are no rigid motions, K no pinhole camera's, a depth or prior
            that is not positive.
    """
    check_tensors(T_wc=T_wc, K=K)
    check_shape("T_wc", T_wc, (4, 4), "poses")
    check_all("T_wc", se3.is_rigid(T_wc.detach(), tol=1e-3), "rigid motions")
    if K.shape != (3, 3) or len(size) != 2 or not bool(camera.is_pinhole(K.detach(), size)):
        raise ValueError(f"K: expected (3, 3), a pinhole camera's for an image of {size}, got {K.tolist()}")
    if not (max_depth > 0 and prior > 0):
        raise ValueError(f"max_depth, prior: expected positive numbers, got {max_depth} and {prior}")
    rays = pixel_rays(K[None], size)[0].flatten(0, 1)  # (R, 3), of unit depth
    cell = field.grid.cell
    depth = cell * (torch.arange(max(1, round(max_depth / cell)), device=K.device, dtype=K.dtype) + 0.5)
    p_c = depth[:, None] * rays[:, None]  # (R, N, 3)
    p_w = torch.einsum("...ij,rnj->...rni", T_wc[..., :3, :3], p_c) + T_wc[..., None, None, :3, 3]
    density, weight = field.at(p_w)
    met = (rays.norm(dim=-1, keepdim=True) * density).cumsum(-1)
    left = torch.cat([torch.ones_like(met[..., :1]), (-met).exp()], -1)
    ends = left[..., :-1] - left[..., 1:]
    gain = prior * (1 + prior) / ((prior + weight) * (prior + weight + 1))
    area = depth.square() / (K[0, 0] * K[1, 1])  # of a pixel, facing the camera
    return (ends * gain * area).sum((-2, -1))


class NextView(NamedTuple):
    """The view found, and what it is worth."""

    parameters: Tensor  # (d,)
    T_wc: Tensor  # (4, 4)
    information: Tensor  # ()
    sampled: Tensor  # (), the information of the best sample, before the gradient


@mode_free
def next_best_view(
    field: Uncertainty,
    K: Tensor,  # (3, 3)
    size: tuple[int, int],
    *,
    pose: Callable[[Tensor], Tensor],  # (..., d) -> (..., 4, 4)
    mean: Tensor,  # (d,)
    std: Tensor,  # (d,)
    limits: tuple[Tensor | float, Tensor | float],
    samples: int = 100,
    elites: int = 10,
    iterations: int = 6,
    refinements: int = 20,
    max_depth: float = 4.0,
    prior: float = 0.02,
    generator: torch.Generator | None = None,
) -> NextView:
    """The view of most information, by the cross-entropy method and then by its gradient.

    Poses in walls, or where nobody has looked cost more than a view can gain.

    Args:
        K, size, max_depth, prior: see `information`.
        pose: T_wc of parameters, such as position and yaw.
        mean, std, limits, samples, elites, iterations, generator: see `cem`.
        refinements: steps of gradient ascent from the best sample, of a fiftieth of std; the best of all is taken.

    Raises:
        TypeError, ValueError: see `cem` and `information`; or fewer than no refinements.
    """
    if refinements < 0:
        raise ValueError(f"refinements: expected at least 0, got {refinements}")

    most = size[0] * size[1] * max_depth**2 / float(K[0, 0] * K[1, 1])  # square meters

    def cost(x: Tensor) -> Tensor:
        T_wc = pose(x)
        gain = information(field, T_wc, K, size, max_depth=max_depth, prior=prior)
        return most / field.unknown * field.at(T_wc[..., :3, 3])[0] - gain

    with torch.no_grad():
        found = cem(
            cost, mean, std, samples=samples, elites=elites, iterations=iterations, temperature=None, limits=limits,
            generator=generator,
        )  # fmt: skip
    best, least = found.best, found.cost
    z = torch.zeros_like(best, requires_grad=True)
    adam = torch.optim.Adam([z], lr=0.02)
    low, high = (torch.as_tensor(bound).to(best) for bound in limits)
    for _ in range(refinements):
        with torch.enable_grad():
            x = (found.best + std.detach() * z).clamp(low, high)
            value = cost(x)
            (z.grad,) = torch.autograd.grad(value, z)
        best, least = torch.where(value.detach() < least, x.detach(), best), torch.minimum(least, value.detach())
        adam.step()
    with torch.no_grad():
        views = pose(torch.stack([best, found.best]))
        gains = information(field, views, K, size, max_depth=max_depth, prior=prior)
    return NextView(best, views[0], gains[0], gains[1])
