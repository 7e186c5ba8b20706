"""The report on a run: what it says, that it is one file, and that names of files stay text."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import SurfelMap, Trajectory
from gradslam_ng.viz.report import grade, lost_frames, summarize, timing, write_report
from gradslam_ng.viz.report_scene import axes_with_y_up, describe_scene
from gradslam_ng.viz.scene import Cloud, Scene, spacing
from gradslam_ng.viz.scene_files import Frames, read_run

NASTY = "</script><script>alert(1)</script> \"'&$title ${map_note} \udcff"


def metrics(**changed) -> dict:
    found = {
        "version": "0.1.0", "sequence": NASTY, "reliable": True, "unreliable_because": None, "interrupted": False,
        "settings": {"source": NASTY, "system": "pointfusion", "loops": True, "scale": None, "command": f"run {NASTY}"},
        "camera": {"fx": 64.0, "fy": 64.0, "cx": 39.5, "cy": 29.5, "width": 80, "height": 60},
        "frames": {"in_sequence": 5, "tracked": 4, "degenerate": 1, "unconfirmed": 0, "lost": 1, "skipped": 1,
                   "relocalized": 0},
        "skipped": [f"{NASTY}: cannot be read"], "submaps": [4], "loops": 1, "loop_frames": [[0, 4]],
        "milliseconds_per_frame": {"read": 1.0, "localize": 7.0, "map": 2.0, "localise": 7.0, "total": 10.0},
        "deprecated_keys": ["milliseconds_per_frame.localise"], "seconds_compiling": 0.0, "peak_memory_mb": 300.0,
        "map": {"surfels": 100, "origin": [0.0, 0.0, 0.0]},
        "findings": [{"severity": "warning", "code": "x", "message": NASTY}],
        "ate": {"rmse": 0.0123}, "rpe": {"translation": {"rmse": 0.001}, "rotation": {"rmse": 0.1}},
    }  # fmt: skip
    return found | changed


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run with a floor of surfels below a camera that walks, lost once; y of the world points down."""
    x, z = torch.meshgrid(torch.linspace(-1, 1, 10), torch.linspace(1, 3, 10), indexing="ij")
    points = torch.stack([x, torch.ones_like(x), z], -1).reshape(1, -1, 3)
    up = torch.tensor([0.0, -1, 0]).expand(1, 100, 3)
    number, ones = torch.zeros(1, 100, dtype=torch.int64), torch.ones(1, 100)
    red = torch.tensor([1.0, 0, 0]).expand(1, 100, 3)
    SurfelMap(points, up, red, ones, ones, number, number, torch.tensor([100])).save(tmp_path / "map.ply")
    poses = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    poses[:, 0, 3] = torch.linspace(-0.5, 0.5, 4)
    Trajectory(torch.tensor([0.0, 1, 3, 4]), poses).save(tmp_path / "trajectory.txt")
    statuses = torch.tensor([0, 0, TrackingStatus.NO_OVERLAP, TrackingStatus.DEGENERATE, 0])
    Frames(torch.arange(5).double(), statuses).save(tmp_path / "frames.csv")
    (tmp_path / "metrics.json").write_text(json.dumps(metrics()))
    return tmp_path


class Page(HTMLParser):
    """Text and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts, self.sources = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


def test_what_a_report_says(folder):
    asked = []

    def images(seconds: float) -> np.ndarray:
        asked.append(seconds)
        return np.full((480, 640, 3), 99, np.uint8)

    write_report(folder / "report.html", images)
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    said = " ".join(page.texts)
    assert (
        "4 of 5 frames were tracked, 1 of them uncertain; 1 lost; 1 could not be read; the trajectory is 1.23" in said
    )
    assert "1 no overlap" in said and "1 degenerate" in said and "frame 2, no overlap" in said
    assert asked == [2.0]  # what was seen in the lost frame, at its time
    (picture,) = [source for source in page.sources if source.startswith("data:image/jpeg")]
    assert iio.imread(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).shape == (150, 200, 3)
    assert "localize 7.0 ms" in said and "localise" not in said
    assert len(text) < 200_000


def test_names_of_files_stay_text_and_nothing_comes_from_elsewhere(folder):
    write_report(folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("script") == 1 and "alert" not in text.partition("<script>")[2]
    assert sum(NASTY.replace("\udcff", "?") in each for each in page.texts) >= 5
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.search(r"https?://|@import|url\(", text)


def test_settings_as_one_says_them(folder):
    settings = metrics()["settings"] | {"frames": "::", "strict": False, "scale": 1.0, "prior_extrinsics": [0.0, 1.0]}
    (folder / "metrics.json").write_text(json.dumps(metrics(settings=settings)))
    write_report(folder / "report.html")
    rows = dict(re.findall("<tr><td>(.*?)</td><td>(.*?)</td></tr>", (folder / "report.html").read_text()))
    assert [rows[name] for name in ("frames", "strict", "loops", "scale")] == ["all", "no", "yes", "1.0"]


def test_verdicts():
    assert summarize(metrics(reliable=False, unreliable_because="4 of 6 frames have no pose")) == (
        "Not to be relied on: 4 of 6 frames have no pose."
    )
    counts = metrics()["frames"] | {"in_sequence": 40, "lost": 35}
    told = summarize(metrics(submaps=[4, 20, 10], frames=counts))
    assert "uncertain; 5 lost; 1 could not be read; 30 more in submaps that are not connected with the map" in told
    assert summarize(metrics(interrupted=True)).endswith("; interrupted before the end.")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "good"),
        ({"tracked": 98, "lost": 2}, "good"),
        ({"tracked": 70, "lost": 20}, "fair"),
        ({"tracked": 90, "skipped": 10}, "fair"),
        ({"degenerate": 20}, "fair"),
    ],
)
def test_a_run_that_lost_many_frames_does_not_look_good(changed, expected):
    counts = {"in_sequence": 100, "tracked": 100, "degenerate": 0, "unconfirmed": 0, "lost": 0, "skipped": 0}
    assert grade(metrics(frames=counts | changed)) == expected
    assert grade(metrics(frames=counts | changed, interrupted=True)) == "fair"
    assert grade(metrics(frames=counts | changed, reliable=False)) == "bad"


def test_many_frames_that_could_not_be_read_are_counted(folder):
    lines = lost_frames(
        Frames(torch.zeros(0), torch.zeros(0).long()), metrics(skipped=["x"] * 20), lambda seconds: None
    )
    assert lines.count("<td>skipped</td>") == 7 and "14 more, see run.log" in lines


def test_a_bar_without_any_time():
    assert "0.0 ms in all" in timing(metrics(milliseconds_per_frame={"read": 0.0, "total": 0.0}))


def test_points_come_back_from_their_16_bits(folder):
    """In axes whose y is up: the floor, one meter below, is at y = -1."""
    scene = read_run(folder)
    told = describe_scene(scene)
    quantized = np.frombuffer(base64.b64decode(told["points"]), "<u2").reshape(-1, 4)[:, :3]
    points = torch.tensor(told["low"]) + torch.from_numpy(quantized / 65535) * torch.tensor(told["size"])
    R = axes_with_y_up(scene)
    assert torch.allclose(points.float() @ R, scene.cloud.points, atol=1e-4)
    assert torch.allclose(points[:, 1].float(), torch.tensor(-1.0)) and torch.linalg.det(R) > 0
    normals = np.frombuffer(base64.b64decode(told["normals"]), np.int8).reshape(-1, 4)
    assert (normals[:, 1] == 127).all() and told["views"][0]["pitch"] > 0  # seen from above
    assert told["line_count"] == 2 * (4 + 1 + 8)  # path, loop, camera


def test_points_close_surfaces_that_are_sparser_than_most_of_the_map():
    """As half of every map is, which the camera saw from farther away."""
    near, far = (step * torch.cartesian_prod(torch.arange(20.0), torch.arange(20.0)) for step in (0.01, 0.02))
    points = torch.cat([near, far[:300] + 10])
    assert 0.02 * 2**0.5 < spacing(torch.nn.functional.pad(points, (0, 1))) < 0.05  # the diagonal of a cell


def test_nothing_to_draw():
    told = describe_scene(Scene(Cloud.join([])))
    assert told["count"] == told["line_count"] == 0


def test_a_folder_without_results(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a run"):
        write_report(tmp_path / "report.html")


def test_the_map_can_be_turned_in_a_browser(folder, open_page, red_pixels, until, at_rest):
    """On a screen and on a phone nothing is wider than the page."""
    for name, size in (("trajectory.png", (960, 1320)), ("narrow.png", (1320, 600))):
        iio.imwrite(folder / name, np.zeros((*size, 3), np.uint8))
    write_report(folder / "report.html", narrow=folder / "narrow.png")
    asked: list[str] = []
    page = open_page((folder / "report.html").as_uri(), 1000, 700, asked)
    assert until(lambda: len(red_pixels(page)) > 1000)
    before = at_rest(lambda: red_pixels(page))
    page.mouse.move(500, 400)
    page.mouse.down()
    page.mouse.move(620, 340)
    page.mouse.up()
    assert until(lambda: not np.array_equal(red_pixels(page), before))
    for width, is_high in ((1000, False), (390, True)):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        image = page.locator("img[alt=trajectory]").bounding_box()  # for a phone one whose letters can be read, whole
        assert (image["height"] > image["width"]) == is_high and image["x"] + image["width"] <= width
    phone = open_page((folder / "report.html").as_uri(), 390, 844)
    canvas = phone.locator("canvas").bounding_box()

    def is_whole() -> bool:
        columns = red_pixels(phone)[:, 1] - canvas["x"]
        return len(columns) > 1000 and 5 < columns.min() and columns.max() < canvas["width"] - 5

    assert until(is_whole)
    assert all(url.startswith(("file:", "data:")) for url in asked)
