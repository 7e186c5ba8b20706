"""What a noise model is worth in a room: errors of the map, and trips planned on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import gradslam_ng as gs
from demos.research.whole_way.model import distances, fuse
from demos.research.whole_way.train import distance_error, price, volume_error
from demos.research.whole_way.world import CELL, RADIUS, Place, away, darkness
from gradslam_ng import planning
from gradslam_ng.preprocessing import Noise, measure_surface

SAMPLES = 5  # of a step between cells
LEAST = 1.0  # meters from start to goal


@dataclass(frozen=True)
class Trips:
    """Starts for each of some goals, cells."""

    goals: Tensor  # (G, 2)
    starts: Tensor  # (G, S, 2)


def trips(place: Place, goals: int, starts: int, generator: torch.Generator) -> Trips:
    """Random ones, as far apart as `LEAST` at least."""
    ends, begins = place.draw(goals, generator), []
    for end in ends:
        some = place.draw(20 * starts, generator)
        begins.append(some[(some - end).double().norm(dim=-1) * CELL > LEAST][:starts])
    return Trips(ends, torch.stack(begins))


@torch.no_grad()
def drive(distance: Tensor, asked: Trips) -> list[Tensor]:
    """Points (K, 2), in cells, of the cheapest path of each trip by distances (X, Y)."""
    paths = []
    for goal, starts in zip(asked.goals, asked.starts, strict=True):
        found = planning.shortest_path(price(distance), goal)
        paths += [found.path(start) for start in starts]
    share = (torch.arange(SAMPLES) + 0.5)[:, None] / SAMPLES
    return [(path[:-1, None] + share * path.diff(dim=0)[:, None]).flatten(0, 1) for path in paths]


@torch.no_grad()
def judge_trips(place: Place, paths: list[Tensor]) -> dict[str, float]:
    """Means over paths (K, 2) of points in cells, in the true room."""
    cost, length, touches, touching = [], [], [], []
    for path in paths:
        part = CELL * path.diff(dim=0).norm(dim=-1)
        distance = place.truth(place.centers[0, 0] + CELL * 0.5 * (path[1:] + path[:-1]))
        cost.append((part * price(distance)).sum())
        length.append(part.sum())
        touching.append(100 * (part * (distance < RADIUS)).sum())
        touches.append(100.0 * (distance < RADIUS).any().double())
    named = {"cost, m": cost, "length, m": length, "touching, cm a trip": touching, "trips that touch, %": touches}
    return {name: float(torch.stack(values).mean()) for name, values in named.items()}


@torch.no_grad()
def judge(place: Place, frames: gs.RGBDFrames, noise: Noise, asked: Trips) -> dict[str, float]:
    """Errors of the map of frames (L,) under a noise model, and of trips planned on it."""
    volume = fuse(frames, noise)
    row = {
        "volume off, cm": float(volume_error(volume, place)),
        "distances off, cm": float(distance_error(volume, place)),
    }
    return row | judge_trips(place, drive(distances(volume, place), asked))


@torch.no_grad()
def noise_by_kind(places: list[Place], noise: Noise) -> dict[str, float]:
    """Median noise of kinds of pixels relative to that of sound ones: bright, amid the image, at no edge."""
    said, kinds = [], []
    for place in places:
        frames = place.frames
        live = measure_surface(frames, noise=noise)
        dark, corner = darkness(frames.color)[..., 0], away(frames.color)[..., 0]
        off = (frames.depth / place.exact.depth.clamp(min=0.1) - 1)[..., 0]
        edge = off.abs() > 0.15
        known = live.surface.weights > 0
        kinds.append(
            torch.stack(
                [
                    known & (dark == 0) & (corner < 0.3) & ~edge,
                    known & (dark > 0.4) & (corner < 0.3) & ~edge,
                    known & (dark == 0) & (corner > 0.6) & ~edge,
                    known & edge,
                ]
            )
        )
        said.append(live.sigma)
    sigma, masks = torch.cat([x.flatten() for x in said]), torch.cat([x.flatten(1) for x in kinds], 1)
    sound, *rest = (sigma[mask].median() for mask in masks)
    return {name: float(x / sound) for name, x in zip(("dark", "corner", "flown"), rest, strict=True)}
