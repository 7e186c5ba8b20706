"""The page in the browser, looked at in a real one without a display; and what it draws of a scene."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gradslam_ng.viz.browser import BrowserView
from gradslam_ng.viz.scene import LOST, TRACKED, UNCERTAIN, Cloud, Scene

pytest.importorskip("viser", reason="viser comes with the extra `view`")


def wall(frames: int = 10) -> Scene:
    """A red wall two meters ahead, and a camera that walks along it, is lost on the way and closes a loop."""
    x, y = torch.meshgrid(torch.arange(-1, 1, 0.02), torch.arange(-0.75, 0.75, 0.02), indexing="ij")
    points = torch.stack([x, y, torch.full_like(x, 2.0)], -1).reshape(-1, 3)
    count = len(points)
    created = torch.arange(count) * frames // count
    colors = torch.tensor([220, 20, 20], dtype=torch.uint8).expand(count, 3)
    cloud = Cloud(points, colors, torch.tensor([0.0, 0, -1]).expand(count, 3), created, torch.zeros(count).long())
    T_wc = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    T_wc[:, 0, 3] = torch.linspace(-0.5, 0.5, frames)
    outcomes = torch.full((frames,), TRACKED)
    outcomes[3], outcomes[5] = UNCERTAIN, LOST
    return Scene(cloud, T_wc, outcomes, torch.arange(frames).double(), ((0, frames - 1),))


def grown(scene: Scene, times: float) -> Scene:
    return replace(scene, cloud=replace(scene.cloud, points=times * scene.cloud.points))


@pytest.fixture
def view(free_port) -> Iterator[BrowserView]:
    page = BrowserView("a <b>wall</b>", port=free_port, images=lambda seconds: np.full((30, 40, 3), 90, np.uint8))
    yield page
    page.close()


def slide(page, share: float) -> None:
    """Click on the first slider's track at a share of its length; its keys would turn the view as well."""
    track = page.get_by_role("slider").first.locator("xpath=..").bounding_box()
    page.mouse.click(track["x"] + share * track["width"], track["y"] + track["height"] / 2)


def drag(page) -> None:
    page.mouse.move(300, 250)
    page.mouse.down()
    page.mouse.move(500, 250, steps=5)
    page.mouse.up()


def test_the_page_draws_the_map_and_its_slider_moves_the_camera(view, open_page, red_pixels, until, at_rest):
    view.show(wall(), "ten frames")
    asked: list[str] = []
    page = open_page(view.url, 900, 500, asked)
    assert until(lambda: len(red_pixels(page)) > 0.02 * 900 * 500)  # the wall
    assert until(lambda: page.get_by_text("ten frames").count() == 1)
    drawn = at_rest(lambda: red_pixels(page))
    rows, columns = drawn.T
    assert np.ptp(columns) > np.ptp(rows)  # upright: it is wider than high
    before = view.drawing.shown["camera"].position[0]

    def is_at_four() -> bool:
        slide(page, 4 / 9)  # again, where the page was too busy to see it
        return until(lambda: view.frame == 4 and view.drawing.shown["camera"].position[0] < before - 0.5, 5)

    assert until(is_at_four)
    assert not view.follows.value
    assert until(lambda: len(red_pixels(page)) < 0.7 * len(drawn))  # what the camera saw later is gone
    assert all(url.startswith((view.url, "data:", "blob:")) for url in asked)  # nothing comes from elsewhere


@pytest.mark.parametrize("first", [(390, 844), (844, 390)])
def test_a_phone_shows_the_whole_map_above_the_controls(view, open_page, red_pixels, until, first):
    """Also one that is turned."""
    view.show(wall())
    page = open_page(view.url, *first)
    assert until(lambda: len(view.viewpoints.placed) == 1)
    page.set_viewport_size({"width": 390, "height": 844})

    def is_whole() -> bool:
        rows, columns = red_pixels(page).T
        map_ = rows < 0.9 * 844  # below is the legend, with a red of its own
        if map_.sum() < 0.02 * 390 * 844:
            return False
        return columns[map_].min() > 5 and columns[map_].max() < 385 and rows[map_].max() < 0.6 * 844

    assert until(is_whole)


def test_the_view_follows_a_map_that_grows_until_someone_moves_it(view, open_page, until, at_rest):
    def eye() -> np.ndarray:
        (client,) = view.server.get_clients().values()
        return client.camera.position

    def moved() -> bool:
        drag(page)  # again, where the page was too busy to see it
        return until(lambda: np.linalg.norm(eye() - next(iter(view.viewpoints.placed.values())).eye) > 0.5, 5)

    view.show(wall())
    page = open_page(view.url, 900, 500)
    assert until(lambda: len(view.viewpoints.placed) == 1)
    near = at_rest(eye)
    view.show(grown(wall(), 3))
    assert until(lambda: np.linalg.norm(eye() - near) > 1)
    at_rest(eye)
    assert until(moved)
    chosen = at_rest(eye)  # it goes on turning for a moment
    view.show(grown(wall(), 9))
    page.set_viewport_size({"width": 700, "height": 600})
    assert np.linalg.norm(at_rest(eye) - chosen) < 0.5


def test_the_view_is_chosen_anew_where_a_map_grows_out_of_it(view):
    view.show(wall())
    chosen = view.viewpoints.start
    view.show(grown(wall(), 1.02))
    assert view.viewpoints.start is chosen
    longer = replace(wall(), cloud=replace(wall().cloud, points=torch.tensor([1.3, 1, 1]) * wall().cloud.points))
    view.show(longer)
    assert np.linalg.norm(view.viewpoints.start - chosen) > 0.1


def test_the_path_tells_what_became_of_each_frame(view):
    """Each segment in the color of the worse of its two frames, which the page takes in proportion to light."""
    view.show(wall())
    path = view.drawing.shown["path"]
    light = path.colors[:, 0] / 255
    seen = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    blue, orange, red = (33, 102, 172), (245, 158, 11), (178, 24, 43)
    expected = np.array([blue, blue, orange, orange, red, red, blue, blue, blue])
    assert np.abs(255 * seen - expected).max() < 4
    assert path.points.shape == (9, 2, 3) and path.points[0, 0, 0] == pytest.approx(-0.5)
    assert view.drawing.shown["loops"].points[0, :, 0].tolist() == pytest.approx([-0.5, 0.5])
    assert view.drawing.shown["camera"].position[0] == pytest.approx(0.5)


def test_points_that_face_away_open_the_map(view):
    scene = wall()
    view.show(scene)
    assert len(view.drawing.shown["map"].points) == len(scene.cloud)  # seen from the front
    view.viewpoints.eye = np.array([0.0, 0.0, 5.0])
    view.show(scene)
    assert not view.drawing.shown["map"].visible
    view.opens.value = False
    view.show(scene)
    assert view.drawing.shown["map"].visible and len(view.drawing.shown["map"].points) == len(scene.cloud)


def test_where_a_viewer_stops_decides_which_points_face_him(view, until):
    view.show(wall())
    viewer = SimpleNamespace(position=np.array([0.0, 0, -5]))
    view.viewpoints.turn(viewer)
    viewer.position = np.array([0.0, 0, 5])  # and there he stays
    view.viewpoints.turn(viewer)
    assert until(lambda: view.viewpoints.eye[2] == 5 and not view.drawing.shown["map"].visible)


def test_points_are_as_large_as_it_takes_to_close_surfaces(view):
    view.show(wall())
    assert 28 < view.point_size.value < 50  # millimeters; every 20 there is one, along either axis


def test_submaps_in_colors(view):
    """One for all of a submap, darker where what is there is dark: else nothing could be told apart."""
    scene = wall()
    colors = scene.cloud.colors.clone()
    colors[: len(colors) // 2] //= 4
    scene = replace(scene, cloud=replace(scene.cloud, colors=colors))
    view.show(scene)
    view.paint.value = "by submap"
    view.show(scene)
    dark, light = np.unique(view.drawing.shown["map"].colors, axis=0).astype(int)
    assert light.argmax() == dark.argmax() == 2 and 1.2 < light[2] / dark[2] < 3  # blue


def test_a_scene_that_grows_is_followed_until_someone_looks_back(view):
    view.show(wall(7))
    assert view.frame == 6
    view.show(wall(8))
    assert view.frame == 7
    view.follows.value, view.time.value = False, 2
    view.show(wall(9))
    assert view.frame == 2 and view.time.max == 8


def test_nothing_to_show(view):
    """No cloud without a point, which the page refuses, and no control of what there is not."""
    view.show(Scene(Cloud.join([])))
    assert not view.drawing.shown
    assert not (view.time.visible or view.follows.visible or view.point_size.visible or view.legend.visible)
    view.show(wall())
    assert view.drawing.shown["map"].visible and view.time.visible and view.point_size.visible and view.legend.visible
    view.show(Scene(Cloud.join([])))
    assert not view.drawing.shown["map"].visible and not view.opens.visible


def test_served_to_this_machine_alone_unless_told(view):
    assert view.url.startswith("http://127.0.0.1:")


def test_viser_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(ImportError, match=r"pip install 'gradslam_ng\[view\]'"):
        BrowserView("map")
