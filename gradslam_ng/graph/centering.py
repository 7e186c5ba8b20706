"""Graphs far from where coordinates begin, solved relative to their first pose.

An update from the left turns a pose about the world's origin. At the coordinates of a map projection that lever is a
thousand kilometers long: rotations and translations are all but the same direction, the normal equations have a
condition of 1e12, and damping by their diagonal holds every rotation where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradslam_ng.compute.transforms import is_vmapped
from gradslam_ng.geometry import se2, se3
from gradslam_ng.graph.residuals import Residual
from gradslam_ng.optim.variables import SE2, SE3, TensorVariable

SPACING = 16.0  # meters: a graph that begins within half of it of the origin stays as it is
MAX_LEVER = 500.0  # meters: by 1 km gradients of priors on poses are off by half a percent, by 3 km all is
Centers = dict[str, Tensor]  # by the names of variables: (..., n), meters, where their coordinates begin


def find_centers(variables: dict[str, TensorVariable], values: dict[str, Tensor]) -> Centers:
    """Where the coordinates of poses should begin, constants: near the first of their group. Empty where they are near
    it already, and within `torch.vmap`, where values cannot be asked."""
    found: dict[ModuleType, Tensor] = {}
    centers: Centers = {}
    for name, variable in variables.items():
        if type(variable) not in (SE2, SE3) or not values[name].shape[-3] or is_vmapped(values[name]):
            continue
        group = se2 if type(variable) is SE2 else se3
        first = values[name].detach()[..., 0, :-1, -1]
        centers[name] = found.setdefault(group, SPACING * (first / SPACING).round())
    return centers if any(bool(center.any()) for center in found.values()) else {}


def check_lever(name: str, variable: TensorVariable, z: Tensor) -> None:  # z (..., M, *event)
    """Raise ValueError for poses z so far from the world's origin that what turns about it cannot be solved for."""
    if type(variable) not in (SE2, SE3) or is_vmapped(z) or not z.numel():
        return
    farthest = float(z.detach()[..., :-1, -1].norm(dim=-1).max())
    if farthest > MAX_LEVER:
        raise ValueError(
            f"prior of {name!r}: expected poses within {MAX_LEVER:g} m of the world's origin, which it turns about, "
            f"got {farthest:.0f} m; subtract an offset from all poses, or give add_factor a function, such as "
            "lambda x: log(inverse(z) @ x)"
        )


def translation(center: Tensor) -> Tensor:  # center (..., n)
    """(..., 1, n + 1, n + 1), zero but for the translation: what poses are more than relative to the center."""
    return pad(center[..., None, :, None], (center.shape[-1], 0, 0, 1))


def adjoint(center: Tensor) -> Tensor:  # center (..., n)
    """Ad (..., 1, m, m) with which tangents about the center are those about the origin."""
    size = center.shape[-1] + 1
    shift = torch.eye(size, dtype=center.dtype, device=center.device) + translation(center)
    return (se2 if size == 3 else se3).adjoint(shift)


@dataclass(frozen=True, eq=False)
class Centered(Residual):
    """A residual of poses in the world as one of poses relative to centers, with Jacobians to updates about them.

    centers: (..., n) for each variable; None for one that stays as it is.
    """

    residual: Residual
    centers: tuple[Tensor | None, ...]

    def __call__(self, *x: Tensor) -> Tensor:
        return self.residual(*self._world(x))

    def linearize(self, *x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        r, J = self.residual.linearize(*self._world(x))
        return r, [A if c is None else A @ adjoint(c) for A, c in zip(J, self.centers, strict=True)]

    def vjp(self, *x: Tensor) -> tuple[Tensor, Callable[[Tensor], Sequence[Tensor]]]:
        r, transpose = self.residual.vjp(*self._world(x))

        def about_centers(p: Tensor) -> Sequence[Tensor]:
            parts = zip(transpose(p), self.centers, strict=True)
            return [g if c is None else (adjoint(c).mT @ g[..., None])[..., 0] for g, c in parts]

        return r, about_centers

    def _world(self, x: tuple[Tensor, ...]) -> list[Tensor]:
        return [value if c is None else value + translation(c) for value, c in zip(x, self.centers, strict=True)]
