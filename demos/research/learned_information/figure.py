"""Figure of the learned information demo."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from demos.research.learned_information.model import TURNS, Edges, Hessian, Learned
from gradslam_ng.geometry import se3


@torch.no_grad()
def draw(path: Path, tables: dict, edges: Edges, network: Learned) -> None:
    """How much each alignment of the training rooms is trusted against how far off it is; and the errors."""
    motion = se3.inverse(edges.truth[:, edges.i]) @ edges.truth[:, edges.j]
    off = 100 * (se3.log(se3.inverse(edges.T_ij) @ motion) * TURNS).norm(dim=-1)[edges.ok]
    figure = Figure(figsize=(12, 4.4), dpi=100, layout="constrained")
    left, *right = figure.subplots(1, 3, width_ratios=(1.1, 1.3, 1.0))
    for name, model, color in (("H", Hessian(), "#999999"), ("learned", network, "#d95f02")):
        W = model(edges)[edges.ok]
        sigma = 1 / (W / TURNS).square().sum((-2, -1)).sqrt()  # of the best known direction
        sigma = sigma / sigma[off < 3].median() * off[off < 3].median()
        left.loglog(off, sigma, ".", ms=3, color=color, alpha=0.5, label=name)
    left.set(xlabel="error of an alignment [cm]", ylabel="standard deviation, to scale [cm]", title="training rooms")
    left.legend(frameon=False)
    for axes, (kind, rows) in zip(right, tables.items(), strict=True):
        axes.axvline(1, color="0.7", lw=1)
        for k, row in enumerate(rows.values()):
            for name, error in row.items():
                color = "#d95f02" if name.startswith("learned") else {"H, robust": "#1b9e77"}.get(name)
                if color:
                    axes.plot(error / row["H"], k, "o", ms=5, color=color, alpha=0.7)
        axes.set_yticks(range(len(rows)), list(rows), fontsize=7)
        axes.set(title=f"{kind}; green: robust H", xlabel="error / error with H")
    for axes in (left, *right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
