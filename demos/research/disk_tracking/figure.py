"""Figure of the disk tracking demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from demos.research.disk_tracking.scene import SIDE


def draw(path: Path, tables: dict, shown: dict) -> None:
    """Images with the disk found in them, one sequence's positions with their noise, and all methods' errors."""
    sigma = shown["sigma"]["smoother, noise by input"].mean(-1)
    row = int(sigma.amax(-1).argsort()[len(sigma) // 2])
    truth = shown["truth"][row]
    positions = {name: p[row].numpy() for name, p in shown["position"].items()}
    figure = Figure(figsize=(13, 6.4), dpi=90, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.9))
    frames = np.linspace(0, len(truth) - 1, 8).astype(int)
    for axes, t in zip(above.subplots(1, 8), frames, strict=True):
        axes.imshow(shown["images"][row, t].permute(1, 2, 0).clamp(0, 1).numpy())
        middle = (SIDE - 1) / 2
        for name, mark, color in (("network alone", "x", "white"), ("smoother, noise by input", "+", "yellow")):
            axes.plot(*(positions[name][t] + middle), mark, color=color, ms=9, mew=1.8)
        spread = f"{float(sigma[row, t]):.1f}" if sigma[row, t] < 50 else "> 50"
        axes.set(xticks=[], yticks=[], xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5))
        axes.set_title(f"t = {t}\nsigma {spread}", fontsize=10)
    left, *right = below.subplots(1, 3, width_ratios=(1.2, 1, 1))
    k = np.arange(len(truth))
    left.plot(k, truth[:, 0], color="0.2", lw=2, label="truth")
    left.plot(k, positions["network alone"][:, 0], "x", color="#999999", label="network alone")
    for name, color in (("smoother, constant noise", "#2166ac"), ("smoother, noise by input", "#b2182b")):
        left.plot(k, positions[name][:, 0], color=color, lw=1.3, label=name)
    spread = shown["sigma"]["smoother, noise by input"][row, :, 0].numpy()
    seen = positions["network alone"][:, 0]
    left.fill_between(
        k, seen - spread, seen + spread, color="#b2182b", alpha=0.12, label="learned sigma of the network"
    )
    left.set(xlabel="step", ylabel="x [pixels]", title="above: x the network, + the smoother")
    left.set_ylim(-25, 25)
    left.legend(frameon=False, fontsize=7)
    for axes, (scene, rows) in zip(right, tables.items(), strict=True):
        names = sorted(rows, key=lambda name, rows=rows: -rows[name]["mean"])
        means, errors = ([rows[name][kind] or 0.0 for name in names] for kind in ("mean", "standard error"))
        color = ["#b2182b" if name == "smoother, noise by input" else "#92c5de" for name in names]
        axes.barh(names, means, xerr=errors, color=color)
        axes.tick_params(axis="y", labelsize=7)
        axes.set(xlabel="position error, RMS [pixels]", title=scene)
    for axes in (left, *right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
