"""Plots of pose graphs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from gradslam_ng.graph.g2o import G2OGraph
from gradslam_ng.io.atomic import whole_file
from gradslam_ng.viz.plots import ESTIMATE, TRUTH

LOOP = "#b2182b"


def plot_graphs(path: str | os.PathLike, graphs: dict[str, G2OGraph], title: str = "") -> None:
    """Write a picture of pose graphs side by side, by their names: poses in order, and the edges between others.

    Graphs of space are seen along the axis in which the last one is thinnest.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, and the user's backend left alone
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    last = _positions(list(graphs.values())[-1])
    shown = sorted(np.argsort(np.ptp(last, axis=0))[-2:])
    figure = Figure(figsize=(5.5 * len(graphs), 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, graph) in zip(figure.subplots(1, len(graphs), squeeze=False)[0], graphs.items(), strict=True):
        points = _positions(graph)[:, shown]
        segments = points[np.stack([graph.i.numpy(), graph.j.numpy()], -1)]
        loop = (graph.i - graph.j).abs().numpy() > 1
        axes.add_collection(LineCollection(segments[loop], colors=LOOP, linewidths=0.4, alpha=0.5, label="loops"))
        axes.add_collection(LineCollection(segments[~loop], colors=ESTIMATE, linewidths=0.9, label="odometry"))
        axes.plot(*points[0], "o", color=TRUTH, ms=5, mec="white", label="first")
        axes.autoscale()
        axes.set(title=name, xlabel=f"{'xyz'[shown[0]]} [m]", ylabel=f"{'xyz'[shown[1]]} [m]", aspect="equal")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    figure.suptitle(title, parse_math=False)
    with whole_file(path) as part:
        # tight: with axes of one scale, the layout alone leaves a label below the picture
        figure.savefig(part, format=Path(path).suffix[1:] or "png", bbox_inches="tight")


def _positions(graph: G2OGraph) -> np.ndarray:
    return graph.T[:, :-1, -1].detach().numpy()
