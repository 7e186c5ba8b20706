"""Which files of a folder are images of the recording."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from gradslam_ng.datasets import Folder, FrameError, RecordingWarning, load
from gradslam_ng.datasets.image_files import find_images, match_numbers, visible_files

LAYOUTS = ["tum", "icl", "scannet", "sevenscenes", "replica", "folder"]


def images(folder):
    return [path for path in folder.rglob("*") if path.suffix in (".png", ".jpg")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hidden_files_are_passed_over(recordings, tmp_path, layout):
    """As macOS, Windows and editors leave them, beside images, poses and lists."""
    folder = getattr(recordings, layout)(tmp_path / "sequence")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(60))
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            path.with_name(name).write_bytes(b"\0")
    (folder / "__MACOSX").mkdir()
    sequence = load(folder)
    assert len(sequence) == 8
    assert all(not path.name.startswith(".") for path in [*sequence.color, *sequence.depth])
    assert sequence[7].depth.max() > 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", ["images", "folders"])
def test_links_are_taken_in_every_layout(recordings, tmp_path, layout, what):
    folder = getattr(recordings, layout)(tmp_path / "sequence")
    store = tmp_path / "elsewhere"
    store.mkdir()
    if what == "images":
        for path in images(folder):
            moved = path.rename(store / f"{path.parent.name}_{path.name}")
            path.symlink_to(moved)
    else:
        for below in [path for path in folder.iterdir() if path.is_dir()]:
            moved = below.rename(store / below.name)
            below.symlink_to(moved)
    sequence = load(folder)
    assert len(sequence) == 8 and sequence[7].depth.max() > 1


@pytest.mark.parametrize("layout", ["scannet", "sevenscenes", "replica", "folder"])
@pytest.mark.parametrize("ending", [".png", ".PNG", ".jpeg", ".JPG", ".webp", ".bmp", ".ppm", ".tiff"])
def test_color_of_any_ending(recordings, tmp_path, layout, ending):
    folder = getattr(recordings, layout)(tmp_path / "sequence")
    color = [path for path in images(folder) if "depth" not in path.parent.name + path.name]
    for path in color:
        image = Image.open(path)
        image.load()
        path.unlink()
        image.save(path.with_suffix(ending))
    sequence = load(folder)
    assert len(sequence) == len(color) == 8 and sequence[3].color.std() > 0.03


@pytest.mark.parametrize("layout", ["scannet", "sevenscenes", "replica", "folder"])
@pytest.mark.parametrize("ending", [".pgm", ".tiff", ".PNG"])
def test_depth_of_any_ending(recordings, tmp_path, layout, ending):
    folder = getattr(recordings, layout)(tmp_path / "sequence")
    expected = load(folder)[3].depth
    for path in [path for path in images(folder) if "depth" in path.parent.name + path.name]:
        image = Image.fromarray(iio.imread(path))
        path.unlink()
        image.save(path.with_suffix(ending))
    assert load(folder)[3].depth.equal(expected)


@pytest.mark.parametrize(
    ("kind", "ending"), [("color", ".exr"), ("color", ".npy"), ("depth", ".exr"), ("depth", ".jpg")]
)
def test_other_endings_are_named_with_those_looked_for(recordings, tmp_path, kind, ending):
    folder = recordings.folder(tmp_path / "desk")
    for path in list((folder / kind).iterdir()):
        path.rename(path.with_suffix(ending))
    with pytest.raises(FileNotFoundError, match=rf"\.png.*found names that end in \{ending}"):
        Folder(folder)


@pytest.mark.parametrize("layout", ["scannet", "sevenscenes", "replica", "folder"])
@pytest.mark.parametrize("kind", ["color", "depth"])
def test_no_images_of_one_kind(recordings, tmp_path, layout, kind):
    folder = getattr(recordings, layout)(tmp_path / "sequence")
    for path in images(folder):
        if ("depth" in path.parent.name + path.name) == (kind == "depth"):
            path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no image|not a sequence"):
        load(folder)


def test_order_is_by_number_and_gaps_stay(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    numbers = [1, 2, 9, 10, 11, 99, 100, 1000]
    for i, number in enumerate(numbers):
        for kind in ("color", "depth"):
            (folder / kind / f"{i:04d}.png").rename(folder / kind / f"frame{number}.png")
    sequence = Folder(folder)
    assert [int(frame.color[0, 0, 0] * 255 + 0.5) for frame in sequence] == list(range(8))


@pytest.mark.parametrize("first", [0, 1])
def test_numbered_from_0_and_from_1(recordings, tmp_path, first):
    """Color and depth, or color and poses, counted from different numbers: in order, and said."""
    folder = recordings.folder(tmp_path / "desk")
    (folder / "poses").mkdir()
    for i in range(8):
        (folder / "poses" / f"{i + first}.txt").write_text(recordings.matrix_text(recordings.poses()[i]))
        (folder / "depth" / f"{i:04d}.png").rename(folder / "depth" / f"{i + first}_.png")
    if first == 0:
        sequence = Folder(folder)
        assert not sequence.findings
    else:
        with pytest.warns(RecordingWarning, match="numbered from 1 on, color from 0 on: taken in order"):
            sequence = Folder(folder)
        assert len(sequence.findings) == 2
    assert [float(sequence[i].depth[5, 5, 0]) for i in (0, 7)] == pytest.approx([1.075, 1.005], abs=1e-3)
    assert np.allclose(sequence.T_wc, recordings.poses())


def test_missing_files_are_no_other_numbering():
    frames = [(i,) for i in range(8) if i != 3]
    files = {(i,): None for i in range(8) if i != 5}
    assert match_numbers(frames, files, "poses") == (files, [])


def test_an_empty_file_or_one_of_another_size_costs_one_frame(recordings, tmp_path):
    """Though it is the first."""
    folder = recordings.folder(tmp_path / "desk")
    (folder / "depth" / "0001.png").write_bytes(b"")
    for kind, image in (
        ("color", recordings.color_image(0, (12, 16))),
        ("depth", recordings.depth_image(0, 1000, (12, 16))),
    ):
        iio.imwrite(folder / kind / "0000.png", image)
    sequence = Folder(folder)
    assert sequence.size == (24, 32)
    for index, message in ((0, "is 16x12; expected 32x24"), (1, "not a readable image")):
        with pytest.raises(FrameError, match=message):
            sequence[index]
    assert sequence[2].depth.max() > 1


def test_color_and_depth_swapped(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    (folder / "color").rename(folder / "x")
    (folder / "depth").rename(folder / "color")
    (folder / "x").rename(folder / "depth")
    with pytest.raises(ValueError, match="are color and depth swapped"):
        Folder(folder)


def test_folders_are_no_images(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").write_bytes(b"")
    assert [path.name for path in find_images(tmp_path, (".png",))] == ["b.png"]
    assert visible_files(tmp_path / "nowhere") == []
