"""Rooms: their exact surface, and what depth and color can tell of the pose in them."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng.datasets.synthetic.paths import camera_path
from gradslam_ng.datasets.synthetic.render import RenderedView, render
from gradslam_ng.datasets.synthetic.rooms import ROOMS, room
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.evaluation.mesh import distance
from gradslam_ng.geometry import camera, se3

SIZE = (48, 64)
K = default_intrinsics(SIZE)


def views(name: str, count: int = 5) -> tuple[torch.Tensor, RenderedView]:
    T_wc = camera_path("loop", room(name), count)[1]
    return T_wc, render(room(name), T_wc, K, SIZE)


def fixed_by_depth(view: RenderedView) -> torch.Tensor:
    """Eigenvalues (..., 6) of the point-to-plane Hessian: for each direction, how well depth fixes the pose."""
    p, n = camera.unproject(view.depth, K).flatten(-3, -2), view.normal.flatten(-3, -2)
    J = torch.cat([n, torch.linalg.cross(p, n)], -1)
    return torch.linalg.eigvalsh(J.mT @ J / J.shape[-2])


def test_unknown_room_lists_those_known():
    with pytest.raises(ValueError, match=r"kitchen.*living_room, corridor, wall, corner"):
        room("kitchen")


def test_geometry_fixes_every_view_of_the_living_room():
    _, view = views("living_room", 6)
    assert fixed_by_depth(view)[:, 0].min() > 2e-3


def test_geometry_leaves_three_directions_of_the_wall_free():
    eigenvalues = fixed_by_depth(views("wall")[1])
    assert eigenvalues[:, :3].abs().max() < 1e-12
    assert eigenvalues[:, 3].min() > 1e-3


def test_the_wall_has_texture_everywhere():
    _, view = views("wall")
    blocks = view.color.mean(-1).unflatten(-2, (6, 8)).unflatten(-1, (8, 8))
    assert blocks.std((-3, -1)).min() > 0.01


def test_the_corner_is_fixed_by_geometry_and_all_of_one_color():
    _, view = views("corner", 6)
    assert fixed_by_depth(view)[:, 0].min() > 2e-3
    assert (view.color == view.color[0, 0, 0]).all()
    assert all((view.solid == i).flatten(1).any(-1).all() for i in range(3))


@pytest.mark.parametrize("name", ROOMS)
def test_views_are_within_a_kinect_s_range(name):
    _, view = views(name)
    assert (view.depth > 0.4).all()
    assert (view.depth < 4.5).double().mean() > (0.8 if name in ("corridor", "doors", "twins") else 0.98)


@pytest.mark.parametrize("name", ["living_room", "corner"])
def test_what_is_seen_lies_on_the_exact_surface(name):
    T_wc, view = views(name, 3)
    p_w = se3.transform(T_wc, camera.unproject(view.depth, K).flatten(1, 2)).flatten(0, 1)
    apart = distance(p_w, room(name).surface)
    assert apart.max() < 0.01  # in a gap that is narrower than a triangle
    assert apart.quantile(0.999) < 5e-4
    assert apart.mean() < 2e-5


def test_the_surface_is_on_the_solids_and_has_no_hidden_parts():
    living_room = room("living_room")
    vertices, faces = living_room.surface
    assert faces.min() == 0
    assert faces.max() == len(vertices) - 1
    assert faces.unique().numel() == len(vertices)
    middle = vertices[faces].mean(1)
    clearance = living_room.clearance(middle[::20])
    assert clearance.max() < 1e-9
    assert (clearance > -6e-4).double().mean() > 0.95  # but for triangles that are hidden in part
    # Nothing of the floor is left where the rug lies.
    on_rug = (middle[:, :2] - torch.tensor([0.1, -0.15])).abs() < torch.tensor([1.15, 0.75])
    assert not (on_rug.all(-1) & (middle[:, 2].abs() < 1e-6)).any()
