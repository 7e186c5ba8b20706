from __future__ import annotations

import pytest
import torch

from gradslam_ng.datasets.synthetic import texture
from gradslam_ng.datasets.synthetic.placement import place as put
from gradslam_ng.datasets.synthetic.placement import shell
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.datasets.synthetic.solids import Box
from gradslam_ng.planning import ValueIteration
from gradslam_ng.preprocessing import axial_noise

SIZE = (24, 32)


@pytest.fixture(scope="module")
def world():
    from demos.research.whole_way import world

    return world


@pytest.fixture(scope="module")
def place(world):
    return world.visit(world.cluttered(1), 1, SIZE, frames=4)


def test_faults_go_with_what_a_pixel_looks_like(world):
    K = torch.tensor([[200.0, 0.0, 79.5], [0.0, 200.0, 59.5], [0.0, 0.0, 1.0]])
    depth = torch.full((1, 120, 160, 1), 2.0)
    depth[:, :, 80:] = 3.0
    normal, color = torch.zeros(1, 120, 160, 3), torch.full((1, 120, 160, 3), 0.8)
    normal[..., 2] = -1.0
    color[:, :60] = 0.05
    off = world.faulty(depth, normal, color, K, torch.Generator().manual_seed(0)) - depth
    assert off[:, 40:60, 60:75].mean() > 0.06 > 0.02 > off[:, 60:80, 60:75].mean().abs()  # dark ones read long
    assert off[:, -10:, :10].mean() < -0.05  # corners short
    assert off[:, :, 79:81].std() > 5 * off[:, 55:65, 60:75].std()  # edges fly


def test_the_truth_is_the_distance_to_walls_and_boxes(world):
    gray, names = texture.plain((0.5, 0.5, 0.5)), ("-x", "+x", "-y", "+y", "floor", "ceiling")
    solids = shell((-2.0, -1.5, 0.0), (2.0, 1.5, 2.6), dict.fromkeys(names, gray))
    room = Room("box", [*solids, put(Box((0.2, 0.2, 0.4)), (0.5, 0.0, 0.4), gray)], ())
    one = world.Place(room, None, None)
    at = torch.tensor([[-1.9, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, -1.2]], dtype=torch.float64)
    torch.testing.assert_close(one.truth(at), torch.tensor([0.1, 0.3, 0.3, 0.3]).double(), atol=0.01, rtol=0)
    assert one.standing[tuple(((at[1] - one.centers[0, 0]) / world.CELL).round().long())]
    assert not one.standing[tuple(((at[0] - one.centers[0, 0]) / world.CELL).round().long())]


def test_what_a_policy_costs_by_its_own_cost_is_least_and_has_the_right_gradient(demo):
    train = demo("research.whole_way.train")
    generator = torch.Generator().manual_seed(0)
    true, wrong = (1 + 3 * torch.rand(7, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    goals = torch.tensor([[5, 1], [0, 4]])
    least = train.expected(true, true, goals)
    assert (least[torch.arange(2), *goals.T] == 0).all()
    assert train.expected(wrong, true, goals).sum() > least.sum()
    values = ValueIteration(train.MOVES, temperature=train.TEMPERATURE)(true.expand(2, 7, 6), goals)
    assert (least >= values.cost_to_go - 1e-9).all()  # which is less by the entropy
    way = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    x = wrong.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(train.expected(x, true, goals).sum(), x)
    up, down = (train.expected(wrong + k * 1e-5 * way, true, goals).sum() for k in (1, -1))
    torch.testing.assert_close((gradient * way).sum(), (up - down) / 2e-5, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["volume", "distances", "plan"])
def test_each_error_reaches_the_network(demo, place, name):
    model, train = (demo(f"research.whole_way.{part}") for part in ("model", "train"))
    torch.manual_seed(0)
    network = model.Network()
    trained = train.train(network, [place], train.LOSSES[name], steps=1, rate=0.02, seed=0)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.parameters())
    assert trained.last.weight.abs().max() > 0


def test_trips_in_the_true_room_touch_nothing_and_cost_the_least(demo, place):
    judge, model = (demo(f"research.whole_way.{part}") for part in ("judge", "model"))
    asked = judge.trips(place, 3, 4, torch.Generator().manual_seed(0))
    best = judge.judge_trips(place, judge.drive(place.distance, asked))
    assert best["touching, cm a trip"] == 0 and best["length, m"] > judge.LEAST
    row = judge.judge(place, place.frames, axial_noise, asked)
    assert row["cost, m"] > best["cost, m"] and row["volume off, cm"] > 0.5
    kinds = judge.noise_by_kind([place], model.Network())
    assert all(abs(value - 1) < 1e-6 for value in kinds.values())


def test_table_and_picture(demo, place, tmp_path, monkeypatch):
    module = demo("research.whole_way.__main__")
    row = {"cost, m": 3.0, "length, m": 2.5}
    for name, value in {
        "UNSEEN": (1,),
        "visit": lambda *_: place,
        "train": lambda network, *_: network,
        "judge": lambda *_: row,
    }.items():
        monkeypatch.setattr(module, name, value)
    numbers = module.main(tmp_path, SIZE, rooms=1, goals=1, starts=2)
    assert numbers["mean"].keys() == {"the true room", "exact depth", "untrained", "by hand", *module.LOSSES}
    assert numbers["mean"]["plan"] == row
    assert (tmp_path / "whole_way.png").stat().st_size > 10_000
