from __future__ import annotations

import math

import pytest
import torch

from gradslam_ng import planning

DOUBLE = torch.float64


@pytest.fixture
def corner(demo):
    """The module, and the map of an L-shaped corridor 1.2 m wide, 5 cm cells."""
    module = demo("mpc_follow")
    occupied = torch.ones(80, 80, dtype=torch.bool)
    occupied[1:25, 1:-1] = occupied[1:-1, 1:25] = False
    return module, planning.esdf(planning.Occupancy.from_cells(occupied, cell=0.05))


def test_the_drawing_s_robot_is_a_unicycle_and_slipping_wheels_turn_it(demo):
    module = demo("mpc_follow")
    x, u = torch.zeros(1, 3, dtype=DOUBLE), torch.tensor([[0.4, 0.3]], dtype=DOUBLE)
    drawn = module.Robot(module.DRAWING)(x, u)
    torch.testing.assert_close(drawn, planning.Unicycle(module.DT)(x, u))
    straight = torch.tensor([[0.4, 0.0]], dtype=DOUBLE)
    left, right, base = module.TRUE.tolist()
    turned = module.Robot(module.TRUE)(x, straight)[0]
    assert turned[2].item() == pytest.approx(0.4 * (right - left) / base * module.DT)
    assert turned[:2].norm().item() == pytest.approx(0.4 * (left + right) / 2 * module.DT, rel=1e-4)


def test_wheels_are_learned_from_drives(demo):
    """Exactly without noise, to a percent or two from ten noisy drives of five seconds."""
    module = demo("mpc_follow")
    generator = torch.Generator().manual_seed(0)
    u, states = module.drives(3, generator)
    exact = module.Robot(module.TRUE).drive(states.new_zeros(3, 3), u)
    torch.testing.assert_close(module.learn(u, exact), module.TRUE, rtol=1e-5, atol=0)
    learned, rows = module.identify(generator)
    assert max(rows["10 drives"]["off, %"]) < 3
    assert (
        module.predict(learned, generator)["after 5 s, cm"]
        < 0.2 * module.predict(module.DRAWING, generator)["after 5 s, cm"]
    )


def test_robots_follow_paths_around_a_corner_and_hit_nothing(corner, tmp_path):
    module, map_ = corner
    generator = torch.Generator().manual_seed(1)
    starts, paths = module.plan(map_, 3, generator)
    assert (map_.field()(paths) > module.RADIUS).all()
    follower = module.Follower(map_, paths, module.TRUE, 3)
    states = module.follow(follower, starts, paths[:, -1], 350, generator)
    assert ((states[-1, :, :2] - paths[:, -1]).norm(dim=-1) < module.ARRIVED).all()
    assert (map_.field()(states[..., :2]) > module.RADIUS).all()
    found = module.judge(states, paths, torch.tensor([[9.0, 9.0]], dtype=DOUBLE))
    assert found["arrived"] == 3 and found["collisions"] == 0 and found["from the path, mean, cm"] < 5
    speeds = (states[1:, :, :2] - states[:-1, :, :2]).norm(dim=-1) / module.DT
    assert speeds.max() < 0.5 * 0.92 * 1.3  # limits of commands, as the wheels do them, rough floor
    hit = module.judge(states, paths, states[10, :1, :2])
    assert hit["collisions"] >= 1
    module.draw(tmp_path / "ways.png", map_, paths, {"as drawn": states, "learned": states})
    assert (tmp_path / "ways.png").stat().st_size > 10_000


def test_the_controller_of_one_robot_is_timed_in_closed_loop(corner):
    module, map_ = corner
    path = torch.tensor([[0.6, 3.0], [0.6, 1.5]], dtype=DOUBLE)[None]
    start = torch.tensor([[0.6, 3.0, -math.pi / 2]], dtype=DOUBLE)
    took = module.measure(map_, start, path, module.TRUE, 2, steps=5)
    assert 0 < took["median, ms"] <= took["at most, ms"] and set(took) == {
        "first, ms",
        "median, ms",
        "95%, ms",
        "at most, ms",
    }
