"""Analytic solids: where a ray enters them, which way their surface faces, and how far away it is.

A shape lives in its own frame, centered on the origin. It answers four questions and nothing else:

    intersect(o, d) -> (t, hit)   ray o + t d, o (3,), d (N, 3) of any length; t (N,) first entry in front of the origin
    normal(p)                     outward unit normal (N, 3) at points on the surface
    distance(p)                   signed distance (N,), negative inside (for an ellipsoid a close estimate)
    mesh(edge)                    vertices (V, 3) and faces (F, 3), edges about `edge` long; see `tessellate`

Solids are seen from outside: a ray that starts inside one does not hit it. `t` is finite with finite gradients also
where `hit` is false. A `Solid` is a shape put somewhere in the world with a material.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gradslam_ng.datasets.synthetic import tessellate

NEAR = 1e-3  # hits nearer than this are behind or on the camera
TINY = 1e-12


class Shape(Protocol):
    """What the renderer asks of a shape; see the module's docstring."""

    @property
    def radius(self) -> float: ...  # of the bounding sphere about the shape's origin
    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]: ...
    def normal(self, p: Tensor) -> Tensor: ...
    def distance(self, p: Tensor) -> Tensor: ...
    def mesh(self, edge: float) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Solid:
    """A shape at `T_ws` (4, 4) float64, solid to world, wearing `material(p_s, n_s, footprint) -> albedo (N, 3)`."""

    shape: Shape
    T_ws: Tensor
    material: Callable[[Tensor, Tensor, Tensor], Tensor]
    name: str = ""

    def to_local(self, p_w: Tensor) -> Tensor:
        """World points (..., 3) in the solid's frame."""
        T_ws = self.T_ws.to(p_w)
        return (p_w - T_ws[:3, 3]) @ T_ws[:3, :3]

    def rotate_to_local(self, v_w: Tensor) -> Tensor:
        """World directions (..., 3) in the solid's frame."""
        return v_w @ self.T_ws[:3, :3].to(v_w)

    def rotate_to_world(self, v_s: Tensor) -> Tensor:
        """Directions (..., 3) of the solid's frame in the world."""
        return v_s @ self.T_ws[:3, :3].to(v_s).mT

    def distance(self, p_w: Tensor) -> Tensor:
        """Signed distance (N,) of world points (N, 3)."""
        return self.shape.distance(self.to_local(p_w))


def safe(d: Tensor) -> Tensor:
    """d with zeros moved away from zero, so that it can divide."""
    return torch.where(d.abs() < TINY, torch.full_like(d, TINY), d)


def sqrt(x: Tensor) -> Tensor:
    """Square root, 0 with zero gradient below 0."""
    positive = x > TINY**2
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)


def norm(v: Tensor) -> Tensor:
    """Length over the last axis, with zero gradient at 0."""
    return sqrt((v * v).sum(-1))


@dataclass(frozen=True)
class Rectangle:
    """A one-sided rectangle in the plane z = 0, facing +z; `half` its half width and height, meters."""

    half: tuple[float, float]

    @property
    def radius(self) -> float:
        return (self.half[0] ** 2 + self.half[1] ** 2) ** 0.5

    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        t = -o[2] / safe(d[:, 2])
        x, y = o[0] + t * d[:, 0], o[1] + t * d[:, 1]
        return t, (d[:, 2] < 0) & (t > NEAR) & (x.abs() <= self.half[0]) & (y.abs() <= self.half[1])

    def normal(self, p: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(p[:, 0]), torch.zeros_like(p[:, 0]), torch.ones_like(p[:, 0])], -1)

    def distance(self, p: Tensor) -> Tensor:
        """Height above the plane: what lies behind a wall counts as inside."""
        return p[:, 2]

    def mesh(self, edge: float) -> tuple[Tensor, Tensor]:
        return tessellate.rectangle(self.half, edge)


@dataclass(frozen=True)
class Box:
    """A box with half extents `half`, meters; edges rounded with radius `rounding`, inside those extents."""

    half: tuple[float, float, float]
    rounding: float = 0.0

    @property
    def radius(self) -> float:
        return sum(h * h for h in self.half) ** 0.5

    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        half = o.new_tensor(self.half)
        inverse = 1 / safe(d)
        center, extent = -o * inverse, half * inverse.abs()
        t, leave = (center - extent).amax(-1), (center + extent).amin(-1)
        hit = (t > NEAR) & (t <= leave)
        return (t, hit) if self.rounding == 0 else self._rounded(o, d, t.detach(), hit)

    def _rounded(self, o: Tensor, d: Tensor, t: Tensor, hit: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's method from the sharp box's hit: the distance to a convex solid is convex along a ray.

        So from outside each step ends before the surface or on it, and where the slope turns upwards the ray misses.
        Rays that the sharp box's faces stop are there already. The last step alone carries the gradient.
        """
        with torch.no_grad():
            rim = (hit & (self.distance(o + t[:, None] * d) > 1e-7)).nonzero()[:, 0]
            near, d_rim = t[rim], d[rim]
            for _ in range(8 if len(rim) else 0):
                near = self._newton(o, d_rim, near)[0]
            t = t.index_copy(0, rim, near)
        t, in_front, left = self._newton(o, d, t)
        return t, hit & in_front & (left < 1e-4)

    def _newton(self, o: Tensor, d: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step to the surface; also whether the ray nears it at t, and how far it was."""
        p = o + t[:, None] * d
        beyond, length = self._beyond(p)
        left = length + beyond.amax(-1).clamp(max=0) - self.rounding
        slope = (beyond.clamp(min=0) * p.sign() * d).sum(-1)  # of the distance, times `length`
        in_front = slope < -TINY
        return t + torch.where(in_front, left * length / torch.where(in_front, -slope, 1), 0), in_front, left.detach()

    def _beyond(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """How far p lies beyond each pair of the inner box's faces (N, 3), negative between; and from the box (N,)."""
        beyond = p.abs() - (p.new_tensor(self.half) - self.rounding)
        return beyond, norm(beyond.clamp(min=0))

    def normal(self, p: Tensor) -> Tensor:
        beyond, length = self._beyond(p)
        sign = torch.where(p < 0, -1.0, 1.0).to(p)
        if self.rounding > 0:
            return beyond.clamp(min=0) * sign / length.clamp(min=TINY)[:, None]
        return torch.nn.functional.one_hot(beyond.argmax(-1), 3) * sign

    def distance(self, p: Tensor) -> Tensor:
        beyond, length = self._beyond(p)
        return length + beyond.amax(-1).clamp(max=0) - self.rounding

    def mesh(self, edge: float) -> tuple[Tensor, Tensor]:
        return tessellate.box(self.half, self.rounding, edge)
