from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import se2, se3, so3

KINDS = {
    "SE(3)": (optim.SE3(), se3, 6),
    "SE(2)": (optim.SE2(), se2, 3),
    "SO(3)": (optim.SO3(), so3, 3),
    "Euclidean": (optim.Euclidean(), None, 4),
}


def between(group, x_i: Tensor, x_j: Tensor) -> Tensor:
    return x_j - x_i if group is None else group.inverse(x_i) @ x_j


def ring(kind: str = "SE(3)", n: int = 30, noise: float = 0.05, batch: tuple[int, ...] = (), seed: int = 0):
    """Poses around a ring with odometry and loops, all noisy: truth, start, edges, their motions and weights."""
    variable, group, d = KINDS[kind]
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    elements = (lambda v: v) if group is None else group.exp
    truth = elements(random(*batch, n, d))
    i = torch.cat([torch.arange(n - 1), torch.arange(0, n - 5, 3)])
    j = torch.cat([torch.arange(1, n), torch.arange(5, n, 3)])
    errors = elements(noise * random(*batch, len(i), d))
    z = between(group, truth[..., i, :] if group is None else truth[..., i, :, :],
                truth[..., j, :] if group is None else truth[..., j, :, :])  # fmt: skip
    z = z + errors if group is None else z @ errors
    W = torch.eye(d, dtype=torch.float64) + 0.2 * random(*batch, len(i), d, d).triu()
    start = variable.retract(truth, 0.1 * random(*batch, n, d))
    return SimpleNamespace(
        variable=variable, group=group, d=d, n=n, truth=truth, start=start, i=i, j=j, z=z, W=W / max(noise, 1e-3)
    )


def graph_of(scene, z: Tensor | None = None, W: Tensor | None = None, kernel=None, start=None) -> gs.FactorGraph:
    graph = gs.FactorGraph()
    graph.add_variables("x", scene.variable, scene.start if start is None else start)
    weight = optim.FullWeight(scene.W if W is None else W)
    graph.add_between("x", scene.i, scene.j, scene.z if z is None else z, weight=weight, kernel=kernel)
    return graph


@pytest.fixture(scope="session")
def rings() -> SimpleNamespace:
    return SimpleNamespace(make=ring, graph=graph_of, kinds=list(KINDS))
