"""Plots of pose graphs: all of the graph is in the picture."""

from __future__ import annotations

import imageio.v3 as iio
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from gradslam_ng.graph import g2o
from gradslam_ng.viz.graphs import plot_graphs

SQUARE = [(0, 0), (40, 0), (40, 3), (-2, 3), (0, 0.5)]  # meters, far wider than high


@pytest.fixture(params=[(1, 1), (6.5, 85), (0.1, 10)], ids=["wide", "square", "high"])
def graph(tmp_path, request):
    """Around a long square and back to the start, and what becomes of it when it is stretched."""
    corners = [(x * request.param[0], y * request.param[1]) for x, y in SQUARE]
    lines = [f"VERTEX_SE2 {k} {x} {y} 0" for k, (x, y) in enumerate(corners)]
    pairs = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]
    steps = [(corners[j][0] - corners[i][0], corners[j][1] - corners[i][1]) for i, j in pairs]
    lines += [f"EDGE_SE2 {i} {j} {x} {y} 0 1 0 0 1 0 1" for (i, j), (x, y) in zip(pairs, steps, strict=True)]
    (tmp_path / "square.g2o").write_text("\n".join(lines) + "\n")
    return g2o.load(tmp_path / "square.g2o")


def test_nothing_is_cut_off(graph, tmp_path, monkeypatch):
    """Every edge lies within its axes, and all that is written within the picture."""
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: (drawn.append(self), save(self, *args, **kwargs))
    )
    plot_graphs(tmp_path / "graph.png", {"start": graph, "optimum": graph}, title="a_long$ name")
    figure = drawn[0]
    for axes in figure.axes:
        edges = [each for each in axes.collections if isinstance(each, LineCollection)]
        ends = torch.tensor([end for each in edges for segment in each.get_segments() for end in segment.tolist()])
        assert len(ends) == 10
        limits = torch.tensor([axes.get_xlim(), axes.get_ylim()])
        assert (ends >= limits[:, 0]).all() and (ends <= limits[:, 1]).all()
    picture = iio.imread(tmp_path / "graph.png")[..., :3]
    for rim in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]):
        assert (rim == 255).all()  # no letter reaches it
