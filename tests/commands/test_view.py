"""`gradslam-ng view` and `run --view`: what they show, and one clear line for what cannot be shown."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.cli import main
from gradslam_ng.commands import live
from gradslam_ng.places import Relocalizer
from gradslam_ng.slam.stream import Stream
from gradslam_ng.viz.browser import BrowserView
from tests.slam.test_submaps import ELSEWHERE, THERE, clip

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def shown(monkeypatch) -> list[BrowserView]:
    """The pages that are opened; none of them waits for anybody."""
    pytest.importorskip("viser", reason="viser comes with the extra `view`")
    pages: list[BrowserView] = []
    monkeypatch.setattr(BrowserView, "wait", lambda page: pages.append(page))
    monkeypatch.setattr("webbrowser.open", lambda url: None)
    return pages


def test_the_page_of_a_run_while_it_goes_on_and_after(recording, tmp_path, run, shown, monkeypatch, prints):
    scenes, ends = [], []
    show, close = BrowserView.show, BrowserView.close
    written = tmp_path / "out" / "report.html"
    monkeypatch.setattr(BrowserView, "close", lambda page: (ends.append(written.is_file()), close(page)))
    monkeypatch.setattr(BrowserView, "show", lambda page, *what: (scenes.append(what[0]), show(page, *what)))
    assert run(recording, tmp_path / "out", "--view", "--port", "8940") == 0
    assert "look at http://127.0.0.1:" in prints()
    assert len(scenes[-1].T_wc) == 6 and len(scenes[-1].cloud) > 4000
    assert ends == [True]  # it is served until all is written
    assert main(["view", str(tmp_path / "out"), "--port", "8940"]) == 0
    (page,) = shown
    assert len(page.scene.T_wc) == 6 and len(page.scene.cloud) > 4000
    image = page.images(float(page.scene.seconds[2]))  # of the recording
    assert image.shape == (60, 80, 3) and image.std() > 5
    assert page.drawing.shown["camera"].aspect == pytest.approx(80 / 60)


def test_no_path_leads_to_a_submap_that_is_not_connected(room):
    """Which stands beside the map, nobody knows where."""
    frames = room.InMemory(clip(room, torch.cat([THERE, ELSEWHERE])))
    finder = Relocalizer()
    stream = Stream(gs.PointFusion(), sequence=frames, on_frame=None, compile=False, loops=None, relocalizer=finder)
    assert stream.run().submaps == [10, 10]
    segments, _ = live.scene_of(stream).path()
    assert len(segments) == 18 and (segments[:, 1] - segments[:, 0]).norm(dim=-1).max() < 0.1


def test_updates_that_take_long_come_seldom_but_come(monkeypatch):
    clock, shown = SimpleNamespace(now=0.0, takes=0.0), []
    monkeypatch.setattr(live, "time", SimpleNamespace(perf_counter=lambda: clock.now, thread_time=lambda: clock.now))

    def show(stream, note):
        shown.append(clock.now)
        clock.now += clock.takes

    page = live.LiveView(None)
    page.show = show
    for clock.takes, wait in ((9.0, live.PERIOD), (0.001, live.PERIOD), (0.01, 0.01 / live.SHARE), (9.0, live.LONGEST)):
        page.update(None, "")
        assert page.due == pytest.approx(clock.now + wait)
        clock.now += 0.9 * wait
        page.update(None, "")  # not yet
        clock.now += 0.2 * wait
    assert len(shown) == 4


def test_a_map_with_a_trajectory(recording, tmp_path, run, shown):
    assert run(recording, tmp_path, "--frames", ":2") == 0
    assert main(["view", str(tmp_path / "map.ply"), str(tmp_path / "trajectory.txt"), "--port", "8940"]) == 0
    assert len(shown[0].scene.T_wc) == 2


def test_missing_map(tmp_path, capsys):
    assert main(["view", str(tmp_path / "map.ply")]) == 1
    assert " ".join(capsys.readouterr().err.split()) == f"error: no such file: {tmp_path / 'map.ply'}"


def test_missing_trajectory(tmp_path, capsys):
    (tmp_path / "map.ply").write_text("ply\n")
    assert main(["view", str(tmp_path / "map.ply"), str(tmp_path / "trajectory.txt"), "--window"]) == 1
    assert "trajectory.txt" in capsys.readouterr().err


def test_a_folder_without_results(tmp_path, capsys):
    assert main(["view", str(tmp_path)]) == 1
    assert "expected the folder of a run" in capsys.readouterr().err
