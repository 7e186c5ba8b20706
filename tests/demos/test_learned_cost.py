from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradslam_ng.planning import Occupancy, esdf


@pytest.fixture
def learned(demo):
    return demo("learned_cost")


@pytest.fixture
def room_map(demo):
    return demo("common.room_map")


def pillars(learned, *tall: bool):
    """A floor of 2 x 1.5 m with a pillar, tall or low, in the middle of each part."""
    occupied = torch.zeros(40 * len(tall), 30, dtype=torch.bool)
    distances = torch.full((*occupied.shape, len(learned.ABOVE)), learned.FAR, dtype=torch.float64)
    for k, high in enumerate(tall):
        one = torch.zeros_like(occupied)
        one[40 * k + 18 : 40 * k + 22, 13:17] = True
        found = esdf(Occupancy.from_cells(one, cell=learned.CELL), unknown="free").distance
        reached = len(learned.ABOVE) if high else 2
        distances[..., :reached] = torch.minimum(distances[..., :reached], found[..., None])
        occupied |= one
    color = torch.full((*occupied.shape, 3), 0.5, dtype=torch.float64)
    free = distances[..., 0] > learned.RADIUS
    return learned.Floor(free, torch.cat([distances, color], -1), Occupancy.from_cells(occupied, cell=learned.CELL))


def test_the_demonstrator_goes_wide_around_what_is_tall_alone(learned):
    least = {}
    for tall in (True, False):
        floor = pillars(learned, tall)
        asked = learned.Trips(torch.tensor([[38, 15]]), torch.tensor([[[1, 15]]]))
        (path,) = learned.drive(floor, learned.hidden, asked)
        least[tall] = floor.features[(*path.T, 0)].min()
    assert least[True] > learned.KEPT > least[False] > learned.LOW_KEPT


def test_steps_taken_are_those_of_the_paths(learned):
    floor, asked = pillars(learned, True), learned.Trips(torch.tensor([[38, 15]]), torch.tensor([[[1, 15], [2, 3]]]))
    paths = learned.drive(floor, learned.hidden, asked)
    taken = learned.steps_taken(paths, asked, floor.free.shape)
    assert taken.sum() == sum(len(path) - 1 for path in paths)
    goal, move, x, y = taken.nonzero().T
    after = torch.stack([x, y], -1) + learned.MOVES[move]
    visited = {tuple(cell) for path in paths for cell in path.tolist()}
    assert {tuple(cell) for cell in after.tolist()} <= visited and not goal.any()


def test_trips_are_of_the_seed_and_not_of_each_cell_of_the_map(learned):
    floor = pillars(learned, True)
    asked = learned.trips(floor, 4, 3, torch.Generator().manual_seed(0), least=0.8)
    assert asked.starts.shape == (4, 3, 2)
    assert ((asked.starts - asked.goals[:, None]).double().norm(dim=-1) * learned.CELL > 0.8).all()
    other = floor.free.clone()
    other[0, 0] = False  # is on none of the trips
    again = learned.trips(replace(floor, free=other), 4, 3, torch.Generator().manual_seed(0), least=0.8)
    assert torch.equal(again.goals, asked.goals) and torch.equal(again.starts, asked.starts)


def test_a_path_is_not_off_itself_and_a_shorter_one_comes_too_near(learned):
    floor, asked = pillars(learned, True), learned.Trips(torch.tensor([[38, 15]]), torch.tensor([[[1, 15]]]))
    shown = learned.drive(floor, learned.hidden, asked)
    itself = learned.judge(floor, shown, shown)
    assert (
        max(itself["from the demonstrations, cm"], itself["hidden cost above, %"], itself["too near, cm a trip"]) < 1e-4
    )
    assert itself["the same way, %"] == 100
    shortest = learned.judge(floor, learned.drive(floor, lambda x: torch.ones_like(x[..., 0]), asked), shown)
    assert shortest["from the demonstrations, cm"] > 3 and shortest["too near, cm a trip"] > 20
    assert shortest["length, m"] < itself["length, m"] and shortest["hidden cost above, %"] > 20


@pytest.mark.parametrize("kind", ["sigmoids", "network"])
def test_what_is_learned_keeps_away_where_it_was_not_shown(learned, kind):
    torch.manual_seed(0)
    floor, other = pillars(learned, True, False), pillars(learned, False, True)
    generator = torch.Generator().manual_seed(0)
    asked, new = learned.trips(floor, 3, 4, generator), learned.trips(other, 3, 4, generator)
    taken = learned.steps_taken(learned.drive(floor, learned.hidden, asked), asked, floor.free.shape)
    model = learned.Sigmoids() if kind == "sigmoids" else learned.Network(len(learned.ABOVE))
    shown = learned.drive(other, learned.hidden, new)
    before = learned.judge(other, learned.drive(other, lambda x: torch.ones_like(x[..., 0]), new), shown)
    cost = learned.learn(model, floor, taken, asked.goals, 7, 0.15 if kind == "sigmoids" else 0.03)
    after = learned.judge(other, learned.drive(other, cost, new), shown)
    assert after["too near, cm a trip"] < 0.3 * before["too near, cm a trip"]
    assert after["hidden cost above, %"] < 0.3 * before["hidden cost above, %"]


def test_features_of_a_room_and_the_table(learned, room_map, tmp_path, monkeypatch):
    monkeypatch.setattr(room_map, "VOXEL", 0.06)
    monkeypatch.setattr(room_map, "TRUNCATION", 0.18)
    floor = learned.floor_of(learned.record(5, (24, 32))[1], 0.1)
    distances = floor.features[..., : len(learned.ABOVE)]
    assert (distances[..., 1:].diff(dim=-1) >= 0).all()  # less reaches higher
    assert (distances[floor.free][:, 0] > learned.RADIUS).all()
    monkeypatch.setattr(learned, "floor_of", lambda *_: pillars(learned, True))
    monkeypatch.setattr(learned, "unseen", lambda _: pillars(learned, False))
    monkeypatch.setattr(learned, "record", lambda *_: (None, None))
    for name, values in (("RADII", (0.4,)), ("WEIGHTS", (10.0,)), ("SOFT", (0.04,))):
        monkeypatch.setattr(learned, name, values)
    numbers = learned.main(tmp_path, goals=3, starts=1, steps=1, rooms=1)
    assert set(numbers["places"]) == {"demonstrations", "living room, other trips", "random 1"}
    assert numbers["inflation, height too"]["radius"] == 0.4
    assert (tmp_path / "learned_cost.png").stat().st_size > 10_000
