from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph.gnc import graduated_non_convexity
from gradslam_ng.optim import FullWeight


def corrupted(rings, share: int = 3):
    """A ring one in `share` of whose loops is nonsense."""
    scene = rings.make(n=60, noise=0.02)
    loops = torch.arange(len(scene.i)) >= scene.n - 1
    false = loops & (torch.arange(len(scene.i)) % share == 0)
    wrong = se3.exp(2 * torch.randn(len(scene.i), 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
    scene.z = torch.where(false[:, None, None], wrong, scene.z)
    # odometry is trusted, loops are robust
    graph = rings.graph(scene, z=scene.z, W=scene.W)
    graph.factors.clear()
    for kind, kernel in ((~loops, None), (loops, optim.GemanMcClure(4.0))):
        graph.add_between(
            "x", scene.i[kind], scene.j[kind], scene.z[kind], weight=FullWeight(scene.W[kind]), kernel=kernel
        )
    return scene, graph, false[loops]


def test_graduated_non_convexity_finds_the_inliers(rings):
    scene, graph, false = corrupted(rings)
    found = graduated_non_convexity(graph).optimize()
    factor = graph.factors[1]
    weights = factor.kernel.weight(factor.squared(*graph.values_of(factor, found.x)))
    assert weights[false].max() < 0.01 and weights[~false].min() > 0.15
    keep = torch.cat([torch.ones(scene.n - 1, dtype=torch.bool), ~false])
    clean = rings.make(n=60, noise=0.02)
    clean.i, clean.j, clean.z, clean.W = (t[keep] for t in (scene.i, scene.j, scene.z, scene.W))
    expected = rings.graph(clean).optimize()["x"]
    difference = scene.variable.local(expected, found["x"]).norm(dim=-1).max()
    plain = scene.variable.local(expected, rings.graph(scene).optimize()["x"]).norm(dim=-1).max()
    assert difference < 0.1 and difference < 0.05 * plain


def test_a_graduated_graph_has_gradients(rings):
    _, graph, _ = corrupted(rings)
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    start = graduated_non_convexity(graph)
    robust = start.with_factors({1: replace(start.factors[1], kernel=optim.GemanMcClure(scale))})
    robust.optimize(backward="implicit")["x"].square().sum().backward()
    assert scale.grad.isfinite() and scale.grad != 0


def test_needs_a_kernel_to_graduate(rings):
    with pytest.raises(ValueError, match="no factor has a Geman-McClure kernel"):
        graduated_non_convexity(rings.graph(rings.make(n=8)))
