"""Figure of the learned weights demo, and the power law that the network has found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import gradslam_ng as gs
from demos.common.rooms import facing, sense, sigma, walk
from demos.research.learned_weights.model import Network
from gradslam_ng.datasets.synthetic.render import RenderedView
from gradslam_ng.datasets.synthetic.rooms import room
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import LiveFrame


def models_of(rows: dict[str, dict[str, float]]) -> list[str]:
    return list(next(iter(rows.values())))


@torch.no_grad()
def exponents(network: Network, size: tuple[int, int]) -> tuple[float, float]:
    """Of range and of one over the cosine to the normal, fitted to what the network says of an unseen view.

    Of the noise put in, across the surface as point-to-plane ICP meets it, they are 2 and 1.
    """
    _, _, found = unseen_view(network, size)
    seen = found.surface.weights > 0
    z, normals = found.surface.vertices[..., 2:], found.surface.normals
    cosine = facing(z, normals, found.surface.K)[seen][:, 0].clamp(min=0.05)
    z = z[seen][:, 0]
    terms = torch.stack([z.log(), -cosine.log(), torch.ones_like(z)], dim=-1)
    p, q, _ = torch.linalg.lstsq(terms, found.sigma[seen].log()[:, None]).solution[:, 0].tolist()
    return p, q


def unseen_view(network: Network, size: tuple[int, int]) -> tuple[RenderedView, Tensor, LiveFrame]:
    """Of the living room: the exact view, the noise across the surface (1, H, W), meters, and what the network says."""
    view, _, K = walk(room("living_room"), 1, 1, size, seed=3)
    measured = sense(view.depth, view.normal, K, torch.Generator().manual_seed(0))
    across = sigma(view.depth, view.normal, K) * facing(view.depth, view.normal, K)
    truth = torch.where(measured > 0, across, torch.nan)[..., 0]
    return view, truth, measure_surface(gs.RGBDFrames(view.color, measured, K[None]), noise=network)


@torch.no_grad()
def draw(path: Path, network: Network, tables: dict, size: tuple[int, int]) -> None:
    """What the network says of a view that it has not seen, beside the noise put there; and the errors."""
    view, truth, found = unseen_view(network, size)
    truth, learned = truth[0], torch.where(found.surface.weights > 0, found.sigma, torch.nan)[0]
    learned = learned * (truth.nanmedian() / learned.nanmedian())  # a common factor changes hardly anything
    figure = Figure(figsize=(13, 7), dpi=120, layout="constrained")
    axes = figure.subplot_mosaic([["view", "truth", "learned"], ["unseen rooms", "unseen rooms", "recordings"]])
    axes["view"].imshow(view.color[0].numpy())
    for name, image in (("truth", truth), ("learned", learned)):
        shown = axes[name].imshow(1e3 * image.numpy(), cmap="magma", vmin=0, vmax=30)
    figure.colorbar(shown, ax=axes["learned"], label="depth noise, mm")
    titles = {
        "view": "an unseen view",
        "truth": "its noise, across the surface",
        "learned": "what the network says, scaled",
    }
    for name, title in titles.items():
        axes[name].set(title=title, xticks=[], yticks=[])
    for name, rows in tables.items():
        for i, model in enumerate(models_of(rows) if rows else ()):
            places = np.arange(len(rows)) + 0.8 * i / len(models_of(rows))
            color = {"constant": "0.6", "made by hand": "0.3"}.get(model, "tab:orange")
            width = 0.75 / len(models_of(rows))
            axes[name].bar(places, [row[model] for row in rows.values()], width, color=color, label=model)
        axes[name].set(title=name, xticks=np.arange(len(rows)) + 0.3, xticklabels=list(rows), ylabel="ATE, cm")
    axes["unseen rooms"].legend()
    figure.savefig(path)
