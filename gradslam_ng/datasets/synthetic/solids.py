"""Analytic solids: where a ray enters them, which way their surface faces, and how far away it is.

A shape lives in its own frame, centred on the origin. It answers four questions and nothing else:

    intersect(o, d) -> (t, hit)   ray o + t d, o (3,), d (N, 3) of any length; t (N,) first entry in front of the origin
    normal(p)                     outward unit normal (N, 3) at points on the surface
    distance(p)                   signed distance (N,), negative inside (for an ellipsoid a close estimate)
    mesh(edge)                    vertices (V, 3) and faces (F, 3), counter-clockwise seen from outside, edges about `edge` long

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


def _safe(d: Tensor) -> Tensor:
    """d with zeros moved away from zero, so that it can divide."""
    return torch.where(d.abs() < TINY, torch.full_like(d, TINY), d)


def _sqrt(x: Tensor) -> Tensor:
    """Square root, 0 with zero gradient below 0."""
    positive = x > TINY**2
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), 0)


def _norm(v: Tensor) -> Tensor:
    """Length over the last axis, with zero gradient at 0."""
    return _sqrt((v * v).sum(-1))


def _entry(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Lower root of a t^2 + 2 b t + c = 0 with a > 0, without cancellation, and whether there is one."""
    disc = b * b - a * c
    root = -b + _sqrt(disc)  # larger than 0 where the solid lies ahead; the product of the roots is c / a
    t = torch.where(root > TINY, c / torch.where(root > TINY, root, 1), (-b - _sqrt(disc)) / a)
    return t, (disc > 0) & (t > NEAR)


def _first(candidates: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The nearest of several (t, hit); where none hits, the nearest t regardless."""
    t, hit = candidates[0]
    for other, other_hit in candidates[1:]:
        take = torch.where(hit == other_hit, other < t, other_hit)
        t, hit = torch.where(take, other, t), hit | other_hit
    return t, hit


@dataclass(frozen=True)
class Rectangle:
    """A one-sided rectangle in the plane z = 0, facing +z; `half` its half width and height, metres."""

    half: tuple[float, float]

    @property
    def radius(self) -> float:
        return (self.half[0] ** 2 + self.half[1] ** 2) ** 0.5

    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        t = -o[2] / _safe(d[:, 2])
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
    """A box with half extents `half`, metres; edges rounded with radius `rounding`, inside those extents."""

    half: tuple[float, float, float]
    rounding: float = 0.0

    @property
    def radius(self) -> float:
        return sum(h * h for h in self.half) ** 0.5

    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        half = o.new_tensor(self.half)
        inverse = 1 / _safe(d)
        centre, extent = -o * inverse, half * inverse.abs()
        t, leave = (centre - extent).amax(-1), (centre + extent).amin(-1)
        hit = (t > NEAR) & (t <= leave)
        return (t, hit) if self.rounding == 0 else self._rounded(o, d, t.detach(), hit)

    def _rounded(self, o: Tensor, d: Tensor, t: Tensor, hit: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's method from the sharp box's hit: the distance to a convex solid is convex along a ray.

        So from outside each step ends before the surface or on it, and where the slope turns upwards the ray misses. Rays
        that the sharp box's faces stop are there already. The last step alone carries the gradient.
        """
        with torch.no_grad():
            rim = (hit & (self.distance(o + t[:, None] * d) > 1e-7)).nonzero()[:, 0]
            near, d_rim = t[rim], d[rim]
            for _ in range(8):
                near = self._newton(o, d_rim, near)[0]
            t = t.index_copy(0, rim, near)
        t, ahead, left = self._newton(o, d, t)
        return t, hit & ahead & (left < 1e-4)

    def _newton(self, o: Tensor, d: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step to the surface; also whether the ray nears it at t, and how far it was."""
        p = o + t[:, None] * d
        beyond, length = self._beyond(p)
        left = length + beyond.amax(-1).clamp(max=0) - self.rounding
        slope = (beyond.clamp(min=0) * p.sign() * d).sum(-1)  # of the distance, times `length`
        ahead = slope < -TINY
        return t + torch.where(ahead, left * length / torch.where(ahead, -slope, 1), 0), ahead, left.detach()

    def _beyond(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """How far p (N, 3) lies beyond each pair of the inner box's faces, negative between them; and how far from it."""
        beyond = p.abs() - (p.new_tensor(self.half) - self.rounding)
        return beyond, _norm(beyond.clamp(min=0))

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


@dataclass(frozen=True)
class Ellipsoid:
    """Semi-axes `axes`, metres; a sphere has three equal ones."""

    axes: tuple[float, float, float]

    @property
    def radius(self) -> float:
        return max(self.axes)

    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        axes = o.new_tensor(self.axes)
        o, d = o / axes, d / axes
        return _entry((d * d).sum(-1), d @ o, (o * o).sum() - 1)

    def normal(self, p: Tensor) -> Tensor:
        return torch.nn.functional.normalize(p / p.new_tensor(self.axes) ** 2, dim=-1)

    def distance(self, p: Tensor) -> Tensor:
        axes = p.new_tensor(self.axes)
        k, slope = _norm(p / axes), _norm(p / axes**2)
        near = k * (k - 1) / slope.clamp(min=TINY)  # first order; far from a flat one the bounding sphere knows better
        return torch.maximum(near, _norm(p) - self.radius)

    def mesh(self, edge: float) -> tuple[Tensor, Tensor]:
        return tessellate.ellipsoid(self.axes, edge)


@dataclass(frozen=True)
class Frustum:
    """A capped cone about z from -height/2 (radius `bottom`) to +height/2 (radius `top`); equal radii make a cylinder."""

    bottom: float
    top: float
    height: float

    @property
    def radius(self) -> float:
        return (max(self.bottom, self.top) ** 2 + self.height**2 / 4) ** 0.5

    @property
    def _cone(self) -> tuple[float, float]:
        """Radius at z = 0 and its slope in z."""
        return (self.bottom + self.top) / 2, (self.top - self.bottom) / self.height

    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        middle, slope = self._cone
        reach, steep = middle + slope * o[2], slope * d[:, 2]
        a = d[:, 0] ** 2 + d[:, 1] ** 2 - steep**2
        b = o[0] * d[:, 0] + o[1] * d[:, 1] - reach * steep
        c = o[0] ** 2 + o[1] ** 2 - reach**2
        root = _sqrt(b * b - a * c)
        candidates = []
        for t in ((-b - root) / _safe(a), (-b + root) / _safe(a)):
            entering = a * t + b < 0  # where the distance to the side falls
            z = o[2] + t * d[:, 2]
            candidates.append((t, (b * b > a * c) & (t > NEAR) & entering & (z.abs() <= self.height / 2)))
        for z, r, sign in ((-self.height / 2, self.bottom, -1), (self.height / 2, self.top, 1)):
            t = (z - o[2]) / _safe(d[:, 2])
            x, y = o[0] + t * d[:, 0], o[1] + t * d[:, 1]
            candidates.append((t, (t > NEAR) & (d[:, 2] * sign < 0) & (x * x + y * y <= r * r)))
        return _first(candidates)

    def _side(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor, float, float]:
        """Signed distances to side and caps, the outward radial direction, and the side's normal as (radial, z)."""
        middle, slope = self._cone
        cosine = (1 + slope**2) ** -0.5
        r = _norm(p[:, :2])
        side = (r - middle - slope * p[:, 2]) * cosine
        outward = p[:, :2] / r.clamp(min=TINY)[:, None]
        return side, p[:, 2].abs() - self.height / 2, outward, cosine, -slope * cosine

    def normal(self, p: Tensor) -> Tensor:
        side, cap, outward, radial, axial = self._side(p)
        lateral = torch.cat([outward * radial, torch.full_like(outward[:, :1], axial)], -1)
        flat = torch.stack([torch.zeros_like(cap), torch.zeros_like(cap), p[:, 2].sign()], -1)
        return torch.where((side >= cap)[:, None], lateral, flat)

    def distance(self, p: Tensor) -> Tensor:
        side, cap, *_ = self._side(p)
        corner = torch.stack([side, cap], -1)  # exact for a cylinder, a lower bound past a cone's rim
        return torch.where((side > 0) & (cap > 0), _norm(corner), corner.amax(-1))

    def mesh(self, edge: float) -> tuple[Tensor, Tensor]:
        return tessellate.frustum(self.bottom, self.top, self.height, edge)


@dataclass(frozen=True)
class Capsule:
    """A cylinder of `height` about z with a half sphere of the same `width` (radius) on either end."""

    width: float
    height: float

    @property
    def radius(self) -> float:
        return self.width + self.height / 2

    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        half = self.height / 2
        side, hit = _entry(
            (d[:, :2] ** 2).sum(-1).clamp(min=TINY), d[:, :2] @ o[:2], (o[:2] ** 2).sum() - self.width**2
        )
        candidates = [(side, hit & ((o[2] + side * d[:, 2]).abs() <= half))]
        for z in (-half, half):
            end = o - o.new_tensor([0, 0, z])
            candidates.append(_entry((d * d).sum(-1), d @ end, (end * end).sum() - self.width**2))
        return _first(candidates)

    def _from_axis(self, p: Tensor) -> Tensor:
        return torch.cat([p[:, :2], p[:, 2:] - p[:, 2:].clamp(-self.height / 2, self.height / 2)], -1)

    def normal(self, p: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self._from_axis(p), dim=-1)

    def distance(self, p: Tensor) -> Tensor:
        return _norm(self._from_axis(p)) - self.width

    def mesh(self, edge: float) -> tuple[Tensor, Tensor]:
        return tessellate.capsule(self.width, self.height, edge)


@dataclass(frozen=True)
class Torus:
    """A ring about z: `ring` from its centre to the tube's, `tube` the tube's radius, metres."""

    ring: float
    tube: float

    @property
    def radius(self) -> float:
        return self.ring + self.tube

    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Sphere tracing (Hart 1996) from the bounding sphere, then one Newton step, which carries the gradient."""
        speed = _norm(d)
        with torch.no_grad():
            t = (-(d @ o) / speed**2 - self.radius / speed).clamp(min=NEAR)
            for _ in range(48):
                t = t + self.distance(o + t[:, None] * d) / speed
        p = o + t[:, None] * d
        f, slope = self.distance(p), (self.normal(p) * d).sum(-1)
        ahead = slope < -1e-3 * speed
        return t + torch.where(ahead, f / torch.where(ahead, -slope, 1), 0), ahead & (f.abs() < 1e-4) & (t > NEAR)

    def _from_ring(self, p: Tensor) -> Tensor:
        r = _norm(p[:, :2]).clamp(min=TINY)[:, None]
        return torch.cat([p[:, :2] * (1 - self.ring / r), p[:, 2:]], -1)

    def normal(self, p: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self._from_ring(p), dim=-1)

    def distance(self, p: Tensor) -> Tensor:
        return _norm(self._from_ring(p)) - self.tube

    def mesh(self, edge: float) -> tuple[Tensor, Tensor]:
        return tessellate.torus(self.ring, self.tube, edge)
