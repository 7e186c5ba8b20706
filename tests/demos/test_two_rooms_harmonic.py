from __future__ import annotations

import torch

from gradslam_ng.planning import ResistorGrid


def test_walls_that_conduct_less_are_passed_closer(demo):
    module = demo("two_rooms_harmonic")
    free = module.two_rooms()
    grid, near = ResistorGrid(free), module.nearness(free)
    share = []
    for walls in (1e-6, 1e-2, 1.0, 100.0):
        one = module.controller(grid, torch.tensor(walls).double())
        assert one.least_gain() > 0 and one.led_home().all()
        share.append(float(one.travel(near).sum() / one.travel().sum()))
    assert share == sorted(share, reverse=True)


def test_nearness_falls_by_e_with_each_cell(demo):
    module = demo("two_rooms_harmonic")
    free = torch.ones(5, 3, dtype=torch.bool)
    free[0] = False
    near = module.nearness(free).view(4, 3)
    torch.testing.assert_close(near[:, 1], torch.exp(-torch.arange(4.0, dtype=torch.float64)))


def test_learning_finds_what_the_scan_finds(demo, tmp_path, monkeypatch):
    module = demo("two_rooms_harmonic")
    monkeypatch.setattr(module, "NEAR_COSTS", (0.0, 5.0))
    monkeypatch.setattr(module, "SCAN", torch.logspace(-4, 2, 4, dtype=torch.float64))
    numbers = module.main(tmp_path, steps=20, policy_steps=15)
    for near_cost in ("0", "5"):
        found = numbers[f"cost near walls {near_cost}"]
        assert found["one number learned"] < 1.02 * found["best of the scan"]
        assert found["all conductances learned"] < found["absorbing"]
    assert all(one["led to the goal"] == 1 for one in numbers["controllers"].values())
    assert (tmp_path / "two_rooms_harmonic.png").stat().st_size > 10_000
