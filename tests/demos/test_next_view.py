from __future__ import annotations

import math

import torch

from gradslam_ng.geometry import se3


def test_poses_are_rigid_and_look_where_they_should(demo):
    module = demo("next_view")
    T_wc = module.pose(torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, math.pi / 2, 0.3]]))
    assert se3.is_rigid(T_wc, tol=1e-5).all()
    torch.testing.assert_close(T_wc[0, :3, 3], torch.tensor([1.0, 2.0, module.EYE]))
    torch.testing.assert_close(T_wc[0, :3, 2], torch.tensor([1.0, 0.0, 0.0]))
    assert T_wc[1, 1, 2] > 0.9 and T_wc[1, 2, 2] > 0.2 and (T_wc[:, 2, 1] < -0.9).all()  # y of the camera is down


def test_views_at_random_touch_nothing_and_those_ahead_go_around(demo):
    module = demo("next_view")
    room = module.living_room()
    views = module.at_random(room, 20, torch.Generator().manual_seed(0))
    assert len(views) == 20
    assert (room.clearance(module.pose(views.double())[:, :3, 3]) > module.APART).all()
    walk = module.ahead(room, 10)
    assert walk.shape == (10, 4) and walk[:, :2].std(0).min() > 0.3


def test_cells_know_what_a_frame_says_of_them(demo):
    """Looked at from the middle, the wall ahead is occupied, what is before it free, and what is behind it unknown."""
    module = demo("next_view")
    room = module.random_room(3)
    (_, _), (x, _) = module.walls(room)
    frame = module.photograph(room, torch.tensor([0.0, 0.0, 0.0, 0.5]))
    grid, looked = module.tell(module.all_unknown(room), frame)
    depth = float(frame.depth.view(module.SIZE)[48, 64])
    ahead = module.pose(torch.tensor([0.0, 0.0, 0.0, 0.5]))[:3]

    def cell(z):
        return tuple(grid.index((ahead[:, 3] + z * ahead[:, 2]).double()).tolist())

    assert 0.5 < depth < 4.0 and float(x) < 4.0
    assert grid.free[cell(0.5 * depth)] and looked[cell(0.5 * depth)]
    assert grid.occupied[cell(depth)] and looked[cell(depth)]
    behind = cell(depth + 0.15)
    assert grid.unknown[behind] and not looked[behind]


def test_exploration_of_a_few_views(demo, tmp_path, monkeypatch):
    module = demo("next_view")
    monkeypatch.setattr(module, "SIZE", (24, 32))
    monkeypatch.setattr(module, "K", module.default_intrinsics((24, 32)).float())
    monkeypatch.setattr(module, "CELL", 0.1)
    monkeypatch.setattr(module, "VOXEL", 0.04)
    monkeypatch.setattr(module, "TRUNCATION", 0.12)
    monkeypatch.setattr(module, "FEW", (6, 8))
    monkeypatch.setattr(module, "POINTS", 2000)
    monkeypatch.setattr(module, "search", lambda explorer, seed: {})
    numbers = module.main(tmp_path, views=4, pool=6, runs=1, samples=100)
    for name in ("next best", "at random", "looking ahead"):
        shares = [numbers[name][f"share after {k}"][0] for k in (1, 2, 4)]
        assert 0 < shares[0] < shares[-1] <= 1
    assert numbers["at random"]["views to 95%"][0] <= 6
    assert (tmp_path / "next_view.png").stat().st_size > 10_000


def test_how_many_views_are_enough(demo):
    enough = demo("next_view").enough
    assert enough([0.2, 0.5, 0.9], 0.5) == 2 and enough([0.2, 0.5], 0.6) is None
