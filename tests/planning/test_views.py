"""What a camera would learn from a pose, and the pose from which it learns the most."""

from __future__ import annotations

import math

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.planning import Occupancy, Uncertainty, information, next_best_view
from gradslam_ng.planning.occupancy import FREE, OCCUPIED, UNKNOWN
from tests.planning.differences import assert_gradients

DOUBLE = torch.float64
SIZE = (6, 8)
K = torch.tensor([[6.0, 0, 3.5], [0, 6.0, 2.5], [0, 0, 1]], dtype=DOUBLE)
AREA = 48 / 36  # of all pixels together at a depth of 1 m, square meters


def corridor(wall=OCCUPIED, weight=1.0):
    """Free cells of 10 cm, (40, 20, 20), from x = 0 on, and a wall 2 to 2.5 m along x, of some state and weight."""
    grid = Occupancy.from_cells(torch.zeros(40, 20, 20, dtype=torch.bool), cell=0.1, origin=(0.0, -0.95, -0.95))
    state = torch.full_like(grid.state, FREE)
    state[20:25] = wall
    opacity = torch.tensor([0.1, 0.0, 1.0], dtype=DOUBLE)[state.long()]
    occupied = torch.full_like(opacity, weight).where(state == OCCUPIED, 0.0)
    return Uncertainty(opacity, occupied, grid, 0.1)


def looking(yaw, x=0.3):
    """T_wc (..., 4, 4) at x on the axis, yaw 0 along x."""
    yaw = torch.as_tensor(yaw, dtype=DOUBLE)
    one, zero = torch.ones_like(yaw), torch.zeros_like(yaw)
    columns = [
        torch.stack([yaw.sin(), -yaw.cos(), zero, zero], -1), torch.stack([zero, zero, -one, zero], -1),
        torch.stack([yaw.cos(), yaw.sin(), zero, zero], -1), torch.stack([x * one, zero, zero, one], -1),
    ]  # fmt: skip
    return torch.stack(columns, -1)


def gain(weight, prior=0.02):
    return prior * (1 + prior) / ((prior + weight) * (prior + weight + 1))


@pytest.mark.parametrize("weight", [1.0, 3.0, 100.0])
def test_a_wall_is_worth_its_area_and_less_the_better_it_is_known(weight):
    """2 m away less half a cell; the camera sees no more than the wall."""
    narrow = K * torch.tensor([[4.0], [4.0], [1.0]], dtype=DOUBLE)
    narrow[:2, 2] = K[:2, 2]
    found = information(corridor(weight=weight), looking(0.0), narrow, SIZE)
    away = 2.0 - 0.3
    expected = gain(weight) * AREA / 16 * away**2
    assert found.item() == pytest.approx(expected, rel=0.1)


def test_what_was_never_seen_is_worth_the_most_and_nothing_is_worth_nothing():
    wall, unknown, free = corridor(), corridor(UNKNOWN), corridor(FREE)
    at = looking(0.0)
    values = [information(field, at, K, SIZE, max_depth=2.4).item() for field in (unknown, wall)]
    assert values[0] > values[1] > 0
    assert information(free, at, K, SIZE, max_depth=0.2).item() == 0


def test_behind_a_wall_nothing_is_gained():
    wall = corridor(weight=1e6)
    behind = wall.opacity.clone()
    behind[26:] = 0.1
    at, K_far = looking(0.0), K * torch.tensor([[8.0], [8.0], [1.0]], dtype=DOUBLE)
    K_far[:2, 2] = K[:2, 2]
    assert information(Uncertainty(behind, wall.weight, wall.grid, 0.1), at, K_far, SIZE).item() < 1e-3


def test_gradients_to_pose_camera_and_field():
    field = corridor(UNKNOWN)
    field.opacity[10:14, 12:] = 1.0
    field.weight[10:14, 12:] = 2.0
    T_wc = se3.exp(torch.tensor([0.013, 0.021, 0.017, 0.05, 0.03, 0.02], dtype=DOUBLE)) @ looking(0.2)

    def value(T=T_wc, K=K, opacity=field.opacity, weight=field.weight):
        return information(Uncertainty(opacity, weight, field.grid, 0.1), T, K, SIZE, max_depth=3.0)

    assert_gradients(lambda xi: value(T=se3.exp(xi) @ T_wc), torch.zeros(6, dtype=DOUBLE), 1e-5, step=1e-7)
    focal = torch.tensor([1.01, 0.98, 1.0], dtype=DOUBLE)
    assert_gradients(lambda f: value(K=f.diag() @ K), focal, 1e-5, step=1e-7)
    part = field.weight[10:12, 12:14, 10].clone()

    def changed(x, name):
        full = getattr(field, name).clone()
        full[10:12, 12:14, 10] = x
        return value(**{name: full})

    assert_gradients(lambda w: changed(w, "weight"), part, 1e-7)
    assert_gradients(lambda o: changed(o, "opacity"), torch.full_like(part, 0.6), 1e-6)


def test_batches_of_views_are_each_as_alone_also_in_single_precision():
    field, yaws = corridor(UNKNOWN), torch.tensor([[0.0, 0.5], [1.0, 3.0]])
    views = looking(yaws)
    together = information(field, views, K, SIZE)
    assert together.shape == (2, 2)
    torch.testing.assert_close(together[1, 0], information(field, views[1, 0], K, SIZE))
    single = information(field, views.float(), K.float(), SIZE)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), together, rtol=1e-3, atol=0)


def test_uncertainty_of_a_volume_and_its_gradient():
    """A wall seen twice, by a camera 1.5 m before it: occupied, weight 2; free between; unknown behind."""
    frame = gs.RGBDFrames(
        torch.full((1, 24, 32, 3), 0.5), torch.full((1, 24, 32, 1), 1.5),
        torch.tensor([[[20.0, 0, 15.5], [0, 20, 11.5], [0, 0, 1]]]), torch.eye(4)[None],
    )  # fmt: skip
    volume = gs.VoxelGrid.empty(1, 0.05, 0.15)
    for _ in range(2):
        volume = gs.integrate(volume, frame)
    weight = volume.weight.requires_grad_()
    grid = Occupancy.of(volume, up=(0.0, -1.0, 0.0), heights=(-0.6, 0.6), cell=0.1, floor=0.0).carve(frame)
    field = Uncertainty.of(grid, volume)
    at = torch.tensor([[0.0, 0.0, 1.5], [0.0, 0.0, 1.4], [0.0, 0.0, 9.0]])
    density, seen = field.at(at)
    opacity = -torch.expm1(-density)
    assert opacity[0] > 0.5 and opacity[1] < 0.05 and opacity[2].item() == pytest.approx(0.1)
    assert 0.5 < seen[0] <= 2.0 and seen[1] == 0 and seen[2] == 0
    K = torch.tensor([[20.0, 0, 7.5], [0, 20, 5.5], [0, 0, 1]])
    (slope,) = torch.autograd.grad(information(field, torch.eye(4), K, (12, 16)), weight)
    assert slope.isfinite().all() and slope.min() < 0 and slope.max() == 0


def test_the_next_view_turns_to_what_is_unknown_and_the_gradient_helps():
    """In a known room with one unknown corner."""
    occupied = torch.ones(30, 30, 20, dtype=torch.bool)
    occupied[1:-1, 1:-1, 1:-1] = False
    grid = Occupancy.from_cells(occupied, cell=0.1, origin=(-1.45, -1.45, -0.95))
    unknown = torch.zeros_like(occupied)
    unknown[22:, 22:, 5:15] = True
    opacity = torch.where(unknown, 0.1, occupied.double())
    field = Uncertainty(opacity, torch.where(occupied & ~unknown, 20.0, 0.0), grid, 0.1)
    mean, std = torch.zeros(1, dtype=DOUBLE), torch.full((1,), 2.0, dtype=DOUBLE)
    found = next_best_view(
        field, K, SIZE, pose=lambda p: looking(p[..., 0], 0.0), mean=mean, std=std, limits=(-math.pi, math.pi),
        samples=20, elites=4, iterations=3, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert found.parameters.item() == pytest.approx(math.pi / 4, abs=0.15)
    yaws = torch.linspace(-math.pi, math.pi, 721, dtype=DOUBLE)
    best = information(field, looking(yaws, 0.0), K, SIZE).max()
    assert found.sampled <= found.information <= best * 1.02 and found.information > 0.98 * best
    torch.testing.assert_close(found.T_wc, looking(found.parameters[0], 0.0))


def test_no_view_from_within_a_wall_or_where_nobody_looked():
    """Along x the gain grows up to the wall and beyond."""
    field = corridor(UNKNOWN)
    found = next_best_view(
        field, K, SIZE, pose=lambda p: looking(torch.zeros_like(p[..., 0]), p[..., :1] * 1.0) if p.ndim == 1 else
        torch.stack([looking(0.0, float(x)) for x in p[..., 0]]), mean=torch.tensor([1.5]).double(),
        std=torch.tensor([1.0]).double(), limits=(0.0, 3.9), samples=20, elites=4, refinements=0,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert 0.0 <= found.parameters.item() < 2.0


@pytest.mark.parametrize(("change", "message"), [
    ({"T_wc": torch.eye(3, dtype=DOUBLE)}, "T_wc"),
    ({"T_wc": 2 * torch.eye(4, dtype=DOUBLE)}, "rigid"),
    ({"K": torch.zeros(3, 3, dtype=DOUBLE)}, "pinhole"),
    ({"max_depth": 0.0}, "max_depth"),
    ({"prior": -1.0}, "prior"),
])  # fmt: skip
def test_views_that_make_no_sense(change, message):
    arguments = {"T_wc": looking(0.0), "K": K, "max_depth": 4.0, "prior": 0.02} | change
    with pytest.raises(ValueError, match=message):
        information(corridor(), arguments.pop("T_wc"), arguments.pop("K"), SIZE, **arguments)


def test_what_makes_no_field():
    flat = Occupancy.from_cells(torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="in space"):
        Uncertainty.of(flat, gs.VoxelGrid.empty())
    with pytest.raises(ValueError, match="refinements"):
        next_best_view(
            corridor(), K, SIZE, pose=lambda p: looking(p[..., 0]), mean=torch.zeros(1), std=torch.ones(1),
            limits=(-1, 1), refinements=-1,
        )  # fmt: skip
