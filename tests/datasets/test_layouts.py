from __future__ import annotations

import pytest

from gradslam_ng import datasets


@pytest.mark.parametrize("layout", ["tum", "icl", "scannet", "sevenscenes", "replica", "folder"])
def test_recognizes_each_layout(recordings, tmp_path, layout):
    folder = getattr(recordings, layout)(tmp_path / "sequence")
    sequence = datasets.load(str(folder))
    assert sequence.layout == layout and len(sequence) == 8
    assert sequence[1].depth.max() > 1
    overridden = datasets.load(folder, intrinsics="31,32,15,11", depth_scale=2000)
    assert float(overridden.K[1, 1]) == 32 and overridden.depth_scale == 2000


def test_synthetic_by_name():
    sequence = datasets.load("synthetic:corner", frames=2, size=(24, 32))
    assert len(sequence) == 2 and sequence[0].size == (24, 32)


def test_empty_folder_lists_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(?s)tum +rgb\.txt.*icl.*scannet.*sevenscenes.*replica.*folder"):
        datasets.load(tmp_path)


def test_sequence_one_folder_below_is_hinted_at(recordings, tmp_path):
    recordings.sevenscenes(tmp_path / "seq-03")
    with pytest.raises(FileNotFoundError, match="A sequence lies in: seq-03"):
        datasets.load(tmp_path)


def test_sequence_deeper_below_is_hinted_at_and_one_above_too(recordings, tmp_path):
    recordings.sevenscenes(tmp_path / "chess" / "runs" / "seq-03")
    with pytest.raises(FileNotFoundError, match=r"A sequence lies in: chess.runs.seq-03"):
        datasets.load(tmp_path)
    folder = recordings.folder(tmp_path / "walk")
    with pytest.raises(FileNotFoundError, match=r"It is a part of the sequence .*walk"):
        datasets.load(folder / "color")


def test_the_folder_of_a_run_is_said_to_be_none(tmp_path):
    for name in ("metrics.json", "trajectory.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(FileNotFoundError, match="It is what a run left, not a recording"):
        datasets.load(tmp_path)


def test_a_file_that_is_no_recording_is_said_to_be_there(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(
        FileNotFoundError, match=r"(?s)notes.txt: not a sequence: a file of no known layout.*bag .*\.mcap"
    ):
        datasets.load(tmp_path / "notes.txt")


def test_what_is_in_a_folder_that_is_no_recording_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a sequence: an empty folder\. Layouts looked for"):
        datasets.load(tmp_path)
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text("notes")
    with pytest.raises(FileNotFoundError, match=r"in it: 0\.txt, 1\.txt, .*4\.txt and 2 more\. Layouts looked for"):
        datasets.load(tmp_path)


@pytest.mark.parametrize("ending", ["mcap", "bag", "db3", "sens", "klg", "r3d", "mkv", "zip", "tgz"])
def test_an_empty_file_is_told_to_be_empty(tmp_path, ending):
    path = tmp_path / f"walk.{ending}"
    path.touch()
    with pytest.raises(ValueError, match=rf"walk\.{ending}: expected a recording, got an empty file"):
        datasets.load(path)


def test_depth_in_jpeg_is_told_to_be_no_depth(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "walk")
    for path in (folder / "depth").iterdir():
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(FileNotFoundError, match=r"JPEG has 8 bit .* so that it cannot hold depth; record 16 bit PNG"):
        datasets.load(folder)


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        datasets.load(tmp_path / "nowhere")


def test_unknown_option_names_the_known_ones(recordings, tmp_path):
    with pytest.raises(ValueError, match="TUM takes no option 'depth_factor'; it takes intrinsics, depth_scale, max"):
        datasets.load(recordings.tum(tmp_path / "desk"), depth_factor=3)
