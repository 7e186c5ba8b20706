from __future__ import annotations

import pytest
import torch

from gradslam_ng.geometry import se3, so3
from gradslam_ng.optim import SE3, SO3, Euclidean, Product

START = {
    "euclidean": (Euclidean(), lambda v: v[..., :4]),
    "so3": (SO3(), lambda v: so3.exp(v[..., :3])),
    "se3": (SE3(), lambda v: se3.exp(v)),
    "product": (Product(SE3(), Euclidean()), lambda v: (se3.exp(v), v[..., :2])),
}


@pytest.mark.parametrize("name", START)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_local_undoes_retract(name, batch):
    variable, start = START[name]
    x = start(torch.randn(*batch, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    n = variable.dimension(x)
    delta = 0.5 * torch.randn(*batch, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(variable.local(x, variable.retract(x, delta)), delta)
    still = variable.retract(x, torch.zeros_like(delta))
    torch.testing.assert_close(still, x, rtol=0, atol=0)


def test_poses_are_updated_from_the_left():
    T = se3.exp(torch.tensor([1.0, 2.0, 3.0, 0.1, 0.2, 0.3]))
    delta = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    moved = SE3().retract(T, delta)
    torch.testing.assert_close(moved[:3, 3] - T[:3, 3], torch.tensor([0.0, 0.0, 1.0]))


def test_product_refuses_a_point_of_another_structure():
    with pytest.raises(ValueError):
        Product(SE3(), Euclidean()).retract((torch.eye(4),), torch.zeros(6))
