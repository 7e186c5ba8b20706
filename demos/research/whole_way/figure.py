"""Figure of the whole way: trips in a room not seen, what they cost, and which pixels each network trusts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demos.research.whole_way.judge import Trips, drive, trips
from demos.research.whole_way.model import distances, fuse
from demos.research.whole_way.world import RADIUS, Place
from gradslam_ng.preprocessing import Noise, measure_surface

COLORS = {"untrained": "0.6", "by hand": "0.35", "volume": "tab:blue", "distances": "tab:green", "plan": "tab:red"}


@torch.no_grad()
def draw(path: Path, place: Place, noises: dict[str, Noise], numbers: dict) -> None:
    """The room from above with trips by maps of each error, a view with what two networks say, and bars."""
    asked = trips(place, 1, 8, torch.Generator().manual_seed(3))
    figure = Figure(figsize=(14, 8), dpi=90, layout="constrained")
    axes = figure.subplot_mosaic([["volume", "plan", "view", "seen"], ["cost", "cost", "kinds", "kinds"]])
    for name in ("volume", "plan"):
        draw_trips(axes[name], place, noises[name], asked)
        axes[name].set(title=f"trained by the {name}", xticks=[], yticks=[])
    frame = place.frames[len(place.frames) // 2 : len(place.frames) // 2 + 1]
    axes["view"].imshow(frame.color[0].numpy())
    said = [measure_surface(frame, noise=noises[name]).sigma[0].log() for name in ("plan", "volume")]
    ratio = torch.where(frame.depth[0, ..., 0] > 0, said[0] - said[0].median() - said[1] + said[1].median(), torch.nan)
    shown = axes["seen"].imshow(ratio, cmap="RdBu_r", vmin=-2, vmax=2)
    figure.colorbar(shown, ax=axes["seen"], label="log of noise: plan less volume", shrink=0.6)
    axes["view"].set(title="an unseen view", xticks=[], yticks=[])
    axes["seen"].set(title="what the plan trusts less (red)", xticks=[], yticks=[])
    bars(axes["cost"], numbers)
    kinds = numbers["noise of kinds of pixels"]
    for k, (name, row) in enumerate(kinds.items()):
        axes["kinds"].bar(np.arange(len(row)) + 0.16 * k, list(row.values()), 0.15, color=COLORS[name], label=name)
    axes["kinds"].set(xticks=np.arange(3) + 0.32, xticklabels=["dark", "corner", "flown"], yscale="log")
    axes["kinds"].set(title="noise told of kinds of pixels, over that of sound ones")
    axes["kinds"].legend()
    figure.savefig(path)


def draw_trips(ax: Axes, place: Place, noise: Noise, asked: Trips) -> None:
    """The true room in gray, what the map believes as a line, and trips: red where they touch something."""
    found = distances(fuse(place.frames, noise), place)
    ax.imshow(place.distance.T, origin="lower", cmap="gray", vmin=-0.05, vmax=0.05)
    ax.contour(found.T, levels=[0.0], colors="tab:orange", linewidths=1)
    for path in drive(found, asked):
        touching = place.truth(place.centers[0, 0] + (place.centers[1, 0, 0] - place.centers[0, 0, 0]) * path) < RADIUS
        ax.plot(*path.T, color="tab:blue", lw=1.2)
        ax.plot(*path[touching].T, ".", color="tab:red", ms=4)


def bars(ax: Axes, numbers: dict) -> None:
    """What trips cost in the true room over the best, by room and way."""
    rooms = numbers["rooms"]
    for k, name in enumerate(COLORS):
        above = [100 * (rows[name]["cost, m"] / rows["the true room"]["cost, m"] - 1) for rows in rooms.values()]
        ax.bar(np.arange(len(rooms)) + 0.16 * k, above, 0.15, color=COLORS[name], label=name)
    ax.set(xticks=np.arange(len(rooms)) + 0.32, xticklabels=list(rooms), ylabel="cost of trips above the best, %")
    ax.set(title="rooms not seen")
    ax.legend()
