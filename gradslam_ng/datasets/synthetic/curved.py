"""Curved analytic shapes: ray intersection, normals and distances; what a shape is and does is told in `solids`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.datasets.synthetic import tessellate
from gradslam_ng.datasets.synthetic.solids import NEAR, TINY, norm, safe, sqrt


def _entry(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Lower root of a t^2 + 2 b t + c = 0 with a > 0, without cancellation, and whether there is one."""
    disc = b * b - a * c
    root = -b + sqrt(disc)  # larger than 0 where the solid lies ahead; the product of the roots is c / a
    t = torch.where(root > TINY, c / torch.where(root > TINY, root, 1), (-b - sqrt(disc)) / a)
    return t, (disc > 0) & (t > NEAR)


def _first(candidates: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The nearest of several (t, hit); where none hits, the nearest t regardless."""
    t, hit = candidates[0]
    for other, other_hit in candidates[1:]:
        take = torch.where(hit == other_hit, other < t, other_hit)
        t, hit = torch.where(take, other, t), hit | other_hit
    return t, hit


@dataclass(frozen=True)
class Ellipsoid:
    """Semi-axes `axes`, meters; a sphere has three equal ones."""

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
        k, slope = norm(p / axes), norm(p / axes**2)
        near = k * (k - 1) / slope.clamp(min=TINY)  # first order; far from a flat one the bounding sphere knows better
        return torch.maximum(near, norm(p) - self.radius)

    def mesh(self, edge: float) -> tuple[Tensor, Tensor]:
        return tessellate.ellipsoid(self.axes, edge)


@dataclass(frozen=True)
class Frustum:
    """A capped cone about z, radius `bottom` at -height/2 and `top` at +height/2; equal ones make a cylinder."""

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
        root = sqrt(b * b - a * c)
        candidates = []
        for t in ((-b - root) / safe(a), (-b + root) / safe(a)):
            entering = a * t + b < 0  # where the distance to the side falls
            z = o[2] + t * d[:, 2]
            candidates.append((t, (b * b > a * c) & (t > NEAR) & entering & (z.abs() <= self.height / 2)))
        for z, r, sign in ((-self.height / 2, self.bottom, -1), (self.height / 2, self.top, 1)):
            t = (z - o[2]) / safe(d[:, 2])
            x, y = o[0] + t * d[:, 0], o[1] + t * d[:, 1]
            candidates.append((t, (t > NEAR) & (d[:, 2] * sign < 0) & (x * x + y * y <= r * r)))
        return _first(candidates)

    def _side(self, p: Tensor) -> tuple[Tensor, Tensor, Tensor, float, float]:
        """Signed distances to side and caps, the outward radial direction, and the side's normal as (radial, z)."""
        middle, slope = self._cone
        cosine = (1 + slope**2) ** -0.5
        r = norm(p[:, :2])
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
        return torch.where((side > 0) & (cap > 0), norm(corner), corner.amax(-1))

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
        for sign in (-1, 1):
            end = o - o.new_tensor([0, 0, sign * half])
            t, hit = _entry((d * d).sum(-1), d @ end, (end * end).sum() - self.width**2)
            candidates.append((t, hit & (sign * (o[2] + t * d[:, 2]) >= half)))
        return _first(candidates)

    def _from_axis(self, p: Tensor) -> Tensor:
        return torch.cat([p[:, :2], p[:, 2:] - p[:, 2:].clamp(-self.height / 2, self.height / 2)], -1)

    def normal(self, p: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self._from_axis(p), dim=-1)

    def distance(self, p: Tensor) -> Tensor:
        return norm(self._from_axis(p)) - self.width

    def mesh(self, edge: float) -> tuple[Tensor, Tensor]:
        return tessellate.capsule(self.width, self.height, edge)


@dataclass(frozen=True)
class Torus:
    """A ring about z: `ring` from its center to the tube's, `tube` the tube's radius, meters."""

    ring: float
    tube: float

    @property
    def radius(self) -> float:
        return self.ring + self.tube

    def intersect(self, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Sphere tracing (Hart 1996) from the bounding sphere, then Newton's method; its last step has the gradient."""
        speed = norm(d)
        with torch.no_grad():
            t = (-(d @ o) / speed**2 - self.radius / speed).clamp(min=NEAR)
            for _ in range(40):
                t = t + self.distance(o + t[:, None] * d) / speed
            for _ in range(6):
                t = self._newton(o, d, speed, t)[0]
        t, in_front, left = self._newton(o, d, speed, t)
        return t, in_front & (left < 1e-4) & (t > NEAR)

    def _newton(self, o: Tensor, d: Tensor, speed: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step to the surface; also whether the ray nears it at t, and how far it was."""
        p = o + t[:, None] * d
        left, slope = self.distance(p), (self.normal(p) * d).sum(-1)
        in_front = slope < -1e-3 * speed
        return t + torch.where(in_front, left / torch.where(in_front, -slope, 1), 0), in_front, left.detach().abs()

    def _from_ring(self, p: Tensor) -> Tensor:
        r = norm(p[:, :2]).clamp(min=TINY)[:, None]
        return torch.cat([p[:, :2] * (1 - self.ring / r), p[:, 2:]], -1)

    def normal(self, p: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self._from_ring(p), dim=-1)

    def distance(self, p: Tensor) -> Tensor:
        return norm(self._from_ring(p)) - self.tube

    def mesh(self, edge: float) -> tuple[Tensor, Tensor]:
        return tessellate.torus(self.ring, self.tube, edge)
