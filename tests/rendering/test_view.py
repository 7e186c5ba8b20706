"""What is asked of a map is checked alike, of surfels and of volumes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import gradslam_ng as gs

SIZE = (36, 48)


@pytest.fixture(scope="module")
def maps(room):
    frames = room.view(room.walk(1), SIZE)
    with torch.no_grad():
        surfels, _ = gs.PointFusion("ground-truth", factor=1)(frames)
        volume = gs.integrate(gs.VoxelGrid.empty(1, 0.06, 0.18), frames)
    return frames, {gs.render: surfels, gs.raycast: volume}


@pytest.mark.parametrize("see", [gs.render, gs.raycast])
@pytest.mark.parametrize(("name", "change", "message"), [
    ("T_wc", lambda x: 0 * x, "rigid"),
    ("T_wc", lambda x: x * math.nan, "rigid"),
    ("T_wc", lambda x: x * torch.tensor([-1.0, 1, 1, 1]), "rigid"),
    ("T_wc", lambda x: x[0], "T_wc: expected shape"),
    ("K", lambda x: x.double(), "K: expected torch.float32 .*got torch.float64"),
    ("K", lambda x: 0 * x, "pinhole"),
    ("K", lambda x: x * math.nan, "pinhole"),
    ("size", lambda x: (0, 48), "size"),
    ("size", lambda x: (36.0, 48.0), "size: expected height and width of an image, pixels, got"),
    ("size", lambda x: 36, "size"),
    ("size", lambda x: (9000, 9000), "in pixels of images of 9000x9000"),
])  # fmt: skip
def test_views_that_make_no_sense_are_refused(maps, see, name, change, message):
    frames, by_view = maps
    given = {"T_wc": frames.T_wc, "K": frames.K, "size": SIZE}
    with pytest.raises(ValueError, match=message):
        see(by_view[see], **(given | {name: change(given[name])}))


@pytest.mark.parametrize("visibility", ["hard", "soft"])
@pytest.mark.parametrize("name", ["points", "normals", "colors", "radii", "confidences"])
def test_surfels_that_are_no_numbers_are_refused(maps, name, visibility):
    frames, by_view = maps
    map_ = by_view[gs.render]
    value = getattr(map_, name).clone()
    value[0, 7] = math.nan
    broken = dataclasses.replace(map_, **{name: value})
    with pytest.raises(ValueError, match=f"map: expected finite {name}, got NaN or infinity in 1 surfels"):
        gs.render(broken, frames.T_wc, frames.K, SIZE, visibility=visibility)


def test_each_kind_of_map_has_its_own_way_to_be_seen(maps):
    frames, by_view = maps
    for see, other in ((gs.render, gs.raycast), (gs.raycast, gs.render)):
        with pytest.raises(TypeError, match=r"expected a (SurfelMap|VoxelGrid), got"):
            see(by_view[other], frames.T_wc, frames.K, SIZE)


@pytest.mark.parametrize(("name", "change", "message"), [
    ("T_wc", lambda x: 2 * x, "T_wc: expected a rigid motion"),
    ("K", lambda x: 0 * x, "K: expected finite"),
    ("color", lambda x: 255 * x, "divide by 255"),
])  # fmt: skip
def test_frames_to_integrate_that_make_no_sense_are_refused(maps, name, change, message):
    frames, by_view = maps
    fields = {n: getattr(frames, n) for n in ("color", "depth", "K", "T_wc")}
    with pytest.raises(ValueError, match=message):
        gs.integrate(by_view[gs.raycast], gs.RGBDFrames(**(fields | {name: change(fields[name])})))


def test_volumes_are_asked_in_their_own_precision(maps):
    frames, by_view = maps
    grid = by_view[gs.raycast]
    with pytest.raises(ValueError, match=r"points: expected torch.float32 .*got torch.float64"):
        grid.query(torch.zeros(1, 3, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"frame: expected torch.float32 .*got torch.float64"):
        gs.integrate(grid, frames.to(dtype=torch.float64))
    sdf, gradient, weight = grid.query(torch.full((1, 3, 3), math.nan))
    assert not sdf.any() and not gradient.any() and not weight.any()


def test_integrating_without_gradients_leaves_a_volume_in_use_alone(maps):
    frames, by_view = maps
    sdf = by_view[gs.raycast].sdf.clone().requires_grad_()
    grid = gs.integrate(gs.VoxelGrid(**(vars(by_view[gs.raycast]) | {"sdf": 1.0 * sdf})), frames)
    before = grid.sdf.detach().clone()
    with torch.no_grad():
        gs.integrate(grid, frames)
    assert torch.equal(grid.sdf, before)
    grid.sdf.sum().backward()
    assert sdf.grad.isfinite().all()
