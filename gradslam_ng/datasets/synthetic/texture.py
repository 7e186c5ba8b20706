"""Procedural texture without files: patterns in a solid's own frame, filtered to the pixel so that nothing aliases.

A pattern is called with points p (N, 3), meters, and outward normals n (N, 3), both in the solid's frame, and the
pixel's footprint on the surface (N,), meters (its standard deviation); it gives the albedo (N, 3) in [0, 1]. Noise is a
sum of plane waves: seen through a Gaussian pixel of deviation s, a wave of frequency f fades by exp(-2 pi^2 f^2 s^2),
exactly. Edges are ramps as wide as the footprint. The factories here bind the settings (`functools.partial`, so that
they pickle).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Material = Callable[[Tensor, Tensor, Tensor], Tensor]
Color = tuple[float, float, float]

OAK: dict[str, Color] = {"light": (0.76, 0.58, 0.38), "dark": (0.58, 0.40, 0.24)}
WALNUT: dict[str, Color] = {"light": (0.50, 0.34, 0.22), "dark": (0.32, 0.20, 0.12)}

WAVES = 8  # plane waves an octave


@functools.cache
def _spectrum(seed: int, wavelength: float, octaves: int, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Wave vectors (3, K), phases (K,), amplitudes (K, channels) and frequency of each octave (octaves,)."""
    random = np.random.default_rng(seed)
    frequency = 2.0 ** np.arange(octaves) / wavelength
    # Directions spread evenly over the half sphere (a Fibonacci lattice), so that the noise has no grain.
    height = (np.arange(WAVES) + 0.5) / WAVES
    turn = math.pi * (3 - math.sqrt(5)) * np.arange(WAVES) + random.uniform(0, math.tau, size=(octaves, 1))
    ring = np.sqrt(1 - height**2)
    direction = np.stack([ring * np.cos(turn), ring * np.sin(turn), np.broadcast_to(height, turn.shape)], -1)
    direction *= frequency[:, None, None] * random.uniform(0.8, 1.25, size=(octaves, WAVES, 1))
    phase = random.uniform(0, math.tau, size=octaves * WAVES)
    amplitude = np.repeat(0.62 ** np.arange(octaves), WAVES)[:, None] * random.normal(size=(octaves * WAVES, channels))
    amplitude /= np.sqrt((amplitude**2).sum(0) / 2)  # unit variance
    vectors = direction.reshape(-1, 3).T
    return tuple(torch.tensor(x, dtype=torch.float32) for x in (vectors, phase, amplitude, frequency))


@functools.cache
def _table(seed: int, columns: int) -> Tensor:
    """256 rows of uniform numbers: the look of a pattern's cells."""
    return torch.tensor(np.random.default_rng(seed).uniform(size=(256, columns)), dtype=torch.float32)


def waves(p: Tensor, footprint: Tensor, seed: int, wavelength: float, octaves: int = 4, channels: int = 1) -> Tensor:
    """Smooth noise (N, channels) of mean 0 and variance 1, from `wavelength` (meters) down by octaves."""
    vectors, phase, amplitude, frequency = (x.to(p) for x in _spectrum(seed, wavelength, octaves, channels))
    fade = torch.exp(-2 * math.pi**2 * (footprint[:, None] * frequency) ** 2)
    wave = torch.cos(math.tau * (p @ vectors) + phase).unflatten(-1, (octaves, WAVES))
    return (wave * fade[:, :, None]).flatten(1) @ amplitude


def _ramp(distance: Tensor, footprint: Tensor) -> Tensor:
    """0 to 1 across an edge at distance 0."""
    return (distance / (3 * footprint).clamp(min=1e-6) + 0.5).clamp(0, 1)


def _cells(x: Tensor, period: float, footprint: Tensor, table: Tensor) -> Tensor:
    """A row of the table for each cell of `period`, blended at boundaries, fading to the mean when too small."""
    table, boundary = table.to(x), (x / period).round()
    upper = _ramp(x - boundary * period, footprint)[:, None]
    index = boundary.long()
    value = torch.lerp(table[(index - 1) % len(table)], table[index % len(table)], upper)
    return torch.lerp(value, table.mean(0), (3 * footprint / period - 1).clamp(0, 1)[:, None])


def _lines(x: Tensor, period: float, width: float, footprint: Tensor) -> Tensor:
    """1 on lines of `width` every `period`, 0 between; box-filtered, so thin lines fade instead of flickering."""
    away = (x - (x / period).round() * period).abs()
    line = _ramp(width / 2 - away, footprint) * (width / (3 * footprint).clamp(min=width))
    return torch.lerp(line, torch.full_like(line, width / period), (3 * footprint / period - 1).clamp(0, 1))


def _color(color: Color, like: Tensor) -> Tensor:
    return like.new_tensor(color)


def _surface_coordinates(p: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """Two coordinates along the face that n points out of most: (x, y) on top, (x, z) or (y, z) on the sides."""
    up, in_front = n[:, 2].abs() > 0.7, n[:, 1].abs() > n[:, 0].abs()
    u = torch.where(up | in_front, p[:, 0], p[:, 1])
    return u, torch.where(up, p[:, 1], p[:, 2])


def _clouds(p, n, footprint, *, color, contrast, wavelength, octaves, seed):
    tone = waves(p, footprint, seed, wavelength, octaves)
    return _color(color, p) * (1 + contrast * tone)


def clouds(color: Color, contrast: float = 0.08, wavelength: float = 0.25, octaves: int = 4, seed: int = 0) -> Material:
    """One color, lighter and darker in soft patches: plaster, leather, leaves."""
    return functools.partial(_clouds, color=color, contrast=contrast, wavelength=wavelength, octaves=octaves, seed=seed)


def _plain(p, n, footprint, color):
    return _color(color, p).expand(len(p), 3)


def plain(color: Color) -> Material:
    """One color and nothing else: what color cannot track."""
    return functools.partial(_plain, color=color)


def _blend(p, n, footprint, colors, wavelength, octaves, seed):
    tone = waves(p, footprint, seed, wavelength, octaves, channels=len(colors))
    weight = torch.softmax(2.0 * tone, -1)
    return weight @ p.new_tensor(colors)


def blend(*colors: Color, wavelength: float = 0.4, octaves: int = 5, seed: int = 0) -> Material:
    """Several colors flowing into one another: paintings, marble, a globe."""
    return functools.partial(_blend, colors=colors, wavelength=wavelength, octaves=octaves, seed=seed)


def _wood(p, n, footprint, *, light, dark, grain, axis, seed):
    along = torch.ones(3, device=p.device, dtype=p.dtype)
    along[axis] = 0.12  # grain is drawn out along the axis
    q = p * along
    bend = waves(q, footprint, seed, 6 * grain, 2)[:, 0]
    across = q[:, (axis + 1) % 3] + q[:, (axis + 2) % 3]
    fade = torch.exp(-2 * math.pi**2 * (footprint / grain) ** 2)
    rings = 0.5 + 0.5 * torch.cos(math.tau * across / grain + 2.0 * bend) * fade
    tone = (0.7 * rings + 0.15 * waves(q, footprint, seed + 1, 2 * grain, 3)[:, 0]).clamp(0, 1)
    return torch.lerp(_color(light, p), _color(dark, p), tone[:, None])


def wood(
    light: Color = (0.72, 0.52, 0.34),
    dark: Color = (0.50, 0.33, 0.20),
    grain: float = 0.03,
    axis: int = 0,
    seed: int = 0,
) -> Material:
    """Grain along an axis (0 x, 1 y, 2 z), `grain` meters apart."""
    return functools.partial(_wood, light=light, dark=dark, grain=grain, axis=axis, seed=seed)


def _planks(p, n, footprint, light, dark, width, seed):
    tone = _cells(p[:, 1], width, footprint, _table(seed, 1))
    board = _wood(p, n, footprint, light=light, dark=dark, grain=0.04, axis=0, seed=seed) * (0.78 + 0.36 * tone)
    joint = _lines(p[:, 1] + width / 2, width, 0.006, footprint)
    return board * (1 - 0.6 * joint[:, None])


def planks(
    light: Color = (0.74, 0.55, 0.37), dark: Color = (0.58, 0.40, 0.25), width: float = 0.14, seed: int = 0
) -> Material:
    """Floor boards along x."""
    return functools.partial(_planks, light=light, dark=dark, width=width, seed=seed)


def _tiles(p, n, footprint, *, color, joint, size, contrast, seed):
    u, v = _surface_coordinates(p, n)
    table = _table(seed, 1)
    tone = _cells(u, size, footprint, table) + _cells(v, size, footprint, table.roll(91, 0)) - 1
    gap = torch.maximum(_lines(u, size, 0.008, footprint), _lines(v, size, 0.008, footprint))
    face = _color(color, p) * (1 + contrast * tone + 0.05 * waves(p, footprint, seed, size, 3))
    return torch.lerp(face, _color(joint, p), gap[:, None])


def tiles(
    color: Color, joint: Color = (0.4, 0.4, 0.4), size: float = 0.3, contrast: float = 0.3, seed: int = 0
) -> Material:
    """Square tiles with joints, every row and column of its own tone."""
    return functools.partial(_tiles, color=color, joint=joint, size=size, contrast=contrast, seed=seed)


def _stripes(p, n, footprint, light, dark, period, seed):
    u, _ = _surface_coordinates(p, n)
    tone = _cells(u, period, footprint, _table(seed, 1))
    weave = 0.06 * waves(p, footprint, seed, 0.08, 3)
    return torch.lerp(_color(light, p), _color(dark, p), tone) * (1 + weave)


def stripes(light: Color, dark: Color, period: float = 0.06, seed: int = 0) -> Material:
    """Fabric in upright stripes of mixed tones."""
    return functools.partial(_stripes, light=light, dark=dark, period=period, seed=seed)


def _books(p, n, footprint, thickness, seed):
    u, v = _surface_coordinates(p, n)
    spine = _cells(u, thickness, footprint, _table(seed, 5))
    color = 0.15 + 0.7 * spine[:, :3] * (0.5 + 0.5 * spine[:, 3:4])
    title = _lines(v - 0.12 * spine[:, 4], 0.22, 0.05, footprint) * (1 - _lines(u, thickness, thickness / 3, footprint))
    gap = _lines(u, thickness, 0.004, footprint)
    return torch.lerp(color, torch.full_like(color, 0.85), 0.8 * title[:, None]) * (1 - 0.7 * gap[:, None])


def books(thickness: float = 0.035, seed: int = 0) -> Material:
    """A row of book spines with titles."""
    return functools.partial(_books, thickness=thickness, seed=seed)


def _rug(p, n, footprint, inner, outer, half, seed):
    away = torch.maximum(p[:, 0].abs() / half[0], p[:, 1].abs() / half[1]) * min(half)
    border = sum(_lines(away - at * min(half), 10.0, wide, footprint) for at, wide in ((0.8, 0.12), (0.95, 0.03)))
    check = torch.cos(p[:, 0] * math.tau / 0.22) * torch.cos(p[:, 1] * math.tau / 0.22)
    fade = torch.exp(-4 * math.pi**2 * (footprint / 0.22) ** 2)
    flower = _ramp((check - 0.35) * 0.05, footprint) * fade
    tone = waves(p, footprint, seed, 0.3, 5)
    base = torch.lerp(_color(inner, p), _color(outer, p), (border.clamp(0, 1) + 0.75 * flower).clamp(0, 1)[:, None])
    return base * (1 + 0.07 * tone)


def rug(inner: Color, outer: Color, half: tuple[float, float], seed: int = 0) -> Material:
    """A woven rug of half extents `half` with a border and a field of flowers."""
    return functools.partial(_rug, inner=inner, outer=outer, half=half, seed=seed)


def _framed(p, n, footprint, picture, frame, half, width):
    u, v = _surface_coordinates(p, n)
    inside = torch.minimum(half[0] - width - u.abs(), half[1] - width - v.abs())
    inside = torch.where(n[:, 1].abs() > 0.7, inside, -1.0)  # the sides are frame
    mat = _ramp(inside, footprint)[:, None]
    return torch.lerp(_color(frame, p).expand(len(p), 3), picture(p, n, footprint), mat)


def framed(
    picture: Material, half: tuple[float, float], frame: Color = (0.15, 0.11, 0.08), width: float = 0.03
) -> Material:
    """A picture with a frame of `width`, for a thin box that hangs on a wall; `half` its half width and height."""
    return functools.partial(_framed, picture=picture, frame=frame, half=half, width=width)
