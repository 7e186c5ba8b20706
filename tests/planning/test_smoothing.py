"""Smoothing of paths: the Gaussian process, distances between cells, clearance, and gradients by every way back."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng.planning import DistanceField, smooth
from tests.planning.differences import assert_gradients

F64 = torch.float64


def field(shift=0.0, size=41):
    """Distance to a disk of 0.3 m at (shift, 0), as a grid over 4 x 4 m."""
    x = torch.linspace(-2, 2, size, dtype=F64)
    grid = torch.stack(torch.meshgrid(x, x, indexing="ij"), -1)
    return (grid - torch.tensor([shift, 0.0], dtype=F64)).norm(dim=-1) - 0.3


def line(points=9, offset=0.05):
    """From left to right past the disk, a little above its center."""
    x = torch.linspace(-1.5, 1.5, points, dtype=F64)
    y = offset * torch.cos(x * torch.pi / 3)
    return torch.stack([x, y], -1)


def build(values):
    return DistanceField(values, origin=[-2.0, -2.0], cell=0.1)


def test_a_straight_path_in_the_open_is_the_cubic_of_least_acceleration():
    ends = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=F64)
    t = torch.linspace(0, 1, 7, dtype=F64)[:, None]
    start = ends[0] + t * (ends[1] - ends[0])
    path = smooth(start, lambda p: torch.full_like(p[..., 0], 5.0), radius=0.2, dt=0.5)
    expected = ends[0] + (3 * t**2 - 2 * t**3) * (ends[1] - ends[0])
    torch.testing.assert_close(path.position, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(path.clearance, torch.tensor(4.8, dtype=F64))
    assert path.converged


@pytest.mark.parametrize("d", [2, 3])
def test_distances_between_cells(d):
    """Linear fields are kept exactly, values at cells too, and the gradient has no jumps."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(*(6, 5, 7)[:d], generator=generator, dtype=F64)
    rough = DistanceField(values, origin=[0.0] * d, cell=0.5)
    at = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=F64) for n in values.shape), indexing="ij"), -1)
    torch.testing.assert_close(rough(0.5 * at), values)
    slope = torch.arange(1, d + 1, dtype=F64)
    linear = DistanceField(at @ slope, origin=[0.0] * d, cell=1.0)
    inside = 1 + torch.rand(20, d, generator=generator, dtype=F64) * 2
    torch.testing.assert_close(linear(inside), inside @ slope)
    edge = torch.full((2, d), 1.0, dtype=F64)
    edge[:, 0] += torch.tensor([-1e-7, 1e-7], dtype=F64)
    edge.requires_grad_()
    (g,) = torch.autograd.grad(rough(edge).sum(), edge)
    torch.testing.assert_close(g[0], g[1], atol=1e-5, rtol=0)
    assert_gradients(lambda p: rough(p).sin().sum(), inside[:3] / 2 + 0.01, 1e-7)
    assert_gradients(lambda v: DistanceField(v, origin=[0.0] * d, cell=0.5)(inside[:3] / 2).sin().sum(), values, 1e-7)
    outside = torch.full((d,), -3.0, dtype=F64)
    torch.testing.assert_close(rough(outside), values.flatten()[0])


def test_the_path_is_kept_clear_and_ends_where_it_should():
    start = line()
    assert (build(field())(start) < 0.2).any()
    path = smooth(start, build(field()), radius=0.2, safety_distance=0.1, sigma=0.005)
    assert path.converged and path.clearance > 0.05
    torch.testing.assert_close(path.position[[0, -1]], start[[0, -1]], atol=1e-4, rtol=0)
    assert path.velocity[[0, -1]].abs().max() < 1e-3
    assert (path.position[:, 1] > -1e-3).all()


def test_a_batch_of_paths_in_fields_of_their_own():
    values = torch.stack([field(), field(0.4)])
    start = torch.stack([line(), line(offset=-0.1)])
    together = smooth(start, build(values), radius=0.2)
    for i in range(2):
        alone = smooth(start[i], build(values[i]), radius=0.2)
        torch.testing.assert_close(together.position[i], alone.position, atol=1e-7, rtol=0)


def loss_of(name, **options):
    inputs = {
        "field": field(size=21), "path": line(5), "radius": torch.tensor(0.2, dtype=F64),
        "safety_distance": torch.tensor(0.1, dtype=F64), "acceleration": torch.tensor(0.5, dtype=F64),
        "sigma": torch.tensor(0.02, dtype=F64),
    }  # fmt: skip

    def loss(x):
        values = inputs | {name: x}
        distance = DistanceField(values.pop("field"), origin=[-2.0, -2.0], cell=0.2)
        path = smooth(values.pop("path"), distance, tolerance=1e-15, **values, **options)
        return path.position[..., 1].pow(2).sum() + 0.1 * path.velocity.square().sum() + path.clearance.sum()

    return loss, inputs[name]


@pytest.mark.parametrize("name", ["path", "radius", "safety_distance", "acceleration", "sigma"])
def test_implicit_gradients_meet_central_differences(name):
    loss, x = loss_of(name)
    if name == "path":  # points between its ends are where the search starts, nothing else
        ends = torch.tensor([[1.0], [0], [0], [0], [1]], dtype=F64)
        direction = torch.tensor([0.3, 1.0], dtype=F64) * ends
        assert_gradients(lambda s: loss(x + s * direction), torch.zeros((), dtype=F64), 1e-5, step=1e-4)
    else:
        assert_gradients(loss, x, 1e-5, step=1e-4)


def test_the_gradient_to_the_field_meets_central_differences():
    loss, x = loss_of("field")
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(x.shape, generator=generator, dtype=F64)
        assert_gradients(lambda s, d=direction: loss(x + s * d), torch.zeros((), dtype=F64), 1e-5, step=1e-5)


@pytest.mark.parametrize("backward", ["unroll", "truncated", "direct"])
def test_other_ways_back_agree(backward):
    gradients = []
    for way in ("implicit", backward):
        loss, x = loss_of("safety_distance", backward=way, iterations=60)
        x = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(x), x)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2e-3, atol=1e-5)


def test_gauss_newton_back_is_exact_where_nothing_pushes_and_close_where_something_does():
    """It leaves out the curvature of distances, which counts where the path stays too near."""
    gradients = []
    for way in ("implicit", "implicit-gn"):
        loss, x = loss_of("safety_distance", backward=way)
        x = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(x), x)[0])
    assert 1e-4 < (gradients[1] / gradients[0] - 1).abs() < 0.05
    free, gradients = build(field() + 5), []
    for way in ("implicit", "implicit-gn"):
        ends = line(5).requires_grad_()
        path = smooth(ends, free, radius=0.2, backward=way)
        gradients.append(torch.autograd.grad(path.position[..., 1].square().sum(), ends)[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_path_in_space_goes_around_a_ball():
    """In the plane in which it begins; turned with it; and with the gradient of central differences."""
    x = torch.linspace(-2, 2, 21, dtype=F64)
    values = torch.stack(torch.meshgrid(x, x, x, indexing="ij"), -1).norm(dim=-1) - 0.3
    ball = DistanceField(values, origin=[-2.0] * 3, cell=0.2)
    start = torch.cat([line(5, 0.1), torch.zeros(5, 1, dtype=F64)], -1)

    def around(start, radius=0.2):
        return smooth(start, ball, radius=radius, sigma=0.005, tolerance=1e-15)

    path = around(start)
    assert path.converged and path.clearance > 0.05 and path.velocity.shape == (5, 3)
    assert path.position[:, 2].abs().max() < 1e-8 and path.position[2, 1] > 0.4
    turned = around(start[:, [0, 2, 1]])
    torch.testing.assert_close(turned.position[:, [0, 2, 1]], path.position, atol=1e-6, rtol=0)
    radius = torch.tensor(0.2, dtype=F64)
    assert_gradients(lambda r: around(start, r).position[2].square().sum(), radius, 1e-5)


def test_what_has_not_converged_has_no_gradient_and_says_so():
    values = field().requires_grad_()
    with pytest.warns(RuntimeWarning, match="1 of 1 paths have not converged"):
        path = smooth(line(), build(values), radius=0.2, iterations=1)
    assert not path.converged
    (g,) = torch.autograd.grad(path.position.sum(), values, allow_unused=True)
    assert g is None or g.abs().max() == 0


def test_a_path_that_ends_where_it_begins_stays_there():
    values = field().requires_grad_()
    still = torch.full((6, 2), 1.2, dtype=F64)
    path = smooth(still, build(values), radius=0.2)
    assert path.converged and path.velocity.abs().max() < 1e-12
    torch.testing.assert_close(path.position, still, rtol=0, atol=1e-12)
    (g,) = torch.autograd.grad(path.position.sum(), values, allow_unused=True)
    assert g is None or g.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: smooth(line()[:1], build(field()), radius=0.2), "path: expected"),
        (lambda: smooth(line() * torch.nan, build(field()), radius=0.2), "path: expected finite"),
        (lambda: smooth(line(), build(field()), radius=0.2, sigma=0.0), "sigma: expected a positive"),
        (lambda: DistanceField(field(), origin=[0.0], cell=0.1), "origin: expected"),
        (lambda: DistanceField(field(), origin=[0.0, 0.0], cell=0.0), "cell: expected"),
        (lambda: DistanceField(field() / 0, origin=[0.0, 0.0], cell=0.1), "values: expected finite"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
