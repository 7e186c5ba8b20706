"""The walking box: it covers what it should, hides what is behind it, and leaves the rest as it was."""

from __future__ import annotations

import itertools

import torch

from gradslam_ng.datasets.synthetic import Synthetic, WithMovingObject
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.geometry import camera, se3

SIZE = (60, 80)


def test_it_comes_goes_and_covers_up_to_three_tenths_of_the_view():
    sequence = WithMovingObject("living_room", frames=120, size=SIZE)
    covered = [sequence.object_coverage(i) for i in range(0, 120, 4)]
    assert covered[0] == 0
    assert 0.25 < max(covered) < 0.32
    away = [share == 0 for share in covered]
    assert sum(a != b for a, b in itertools.pairwise(away)) >= 3  # it came, went, and came again


def test_it_is_nearer_than_what_it_hides_and_the_rest_is_as_without_it():
    visited, alone = (
        kind("living_room", frames=60, size=SIZE, noise="kinect") for kind in (WithMovingObject, Synthetic)
    )
    box = visited.moving_object(30)
    there, before = visited[30], alone[30]
    p_w = se3.transform(visited.T_wc[30], camera.unproject(there.depth.double(), there.K.double()))
    on_box = (box.distance(p_w.reshape(-1, 3)).abs() < 0.03).reshape(SIZE) & (there.depth[..., 0] > 0)
    assert 0.2 < on_box.float().mean() < 0.4
    behind = (before.depth[..., 0] > 0) & on_box
    assert (there.depth[..., 0] < before.depth[..., 0] + 0.02)[behind].float().mean() > 0.98
    assert (there.depth[..., 0] < before.depth[..., 0] - 0.1)[behind].float().mean() > 0.9
    solid = render(visited.scene(30), visited.T_wc[30], visited.K, SIZE, antialias=False).solid
    around = (solid == len(visited.room.solids)).float()[None, None]
    elsewhere = torch.nn.functional.max_pool2d(around, 7, 1, 3)[0, 0] == 0  # an edge costs readings on either side
    assert torch.equal(there.depth[elsewhere], before.depth[elsewhere])
    assert torch.equal(there.color[elsewhere], before.color[elsewhere])


def test_the_box_goes_with_the_camera_s_walk_but_not_with_its_shake():
    still, shaky = (WithMovingObject("living_room", frames=90, size=SIZE, path=path) for path in ("orbit", "handheld"))
    for sequence in (still, shaky):
        at = torch.stack([sequence.moving_object(i).T_ws[:3, 3] for i in range(90)])
        jerk = at.diff(dim=0).diff(dim=0).diff(dim=0).norm(dim=-1)
        assert jerk.max() < 0.002  # meters a frame^3
        speed = 30 * at.diff(dim=0).norm(dim=-1)
        assert 0.5 < speed.max() < 3  # of somebody walking
