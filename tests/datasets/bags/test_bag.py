from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.datasets import FrameError, RecordingWarning

pytest.importorskip("rosbags", reason="the extra [rosbag] is not installed")


def check_frames(sequence, recordings, count=8):
    """The frames that `bags.fill` wrote, bit for bit."""
    assert len(sequence) == count and sequence.size == (24, 32)
    assert float(sequence.K[0, 0]) == 30 and float(sequence.K[0, 2]) == 15.5
    for i in range(count):
        frame = sequence[i]
        color = torch.from_numpy(recordings.color_image(i).astype(np.float32) / 255)
        depth = torch.from_numpy(recordings.depth_image(i, 1000).astype(np.float32) / 1000)
        torch.testing.assert_close(frame.color, color)
        torch.testing.assert_close(frame.depth[..., 0], depth)


@pytest.mark.parametrize(
    "kind, compression",
    [("ros1", "none"), ("ros1", "bz2"), ("ros1", "lz4"), ("db3", "none"), ("db3", "zstd"), ("mcap", "none"),
     ("mcap", "zstd")],
)  # fmt: skip
def test_reads_every_kind_of_bag(bags, recordings, kind, compression):
    sequence = datasets.load(bags.write(kind, compression))
    assert sequence.layout == "bag" and sequence.depth_scale == 1000
    check_frames(sequence, recordings)
    expected = torch.arange(8, dtype=torch.float64) * bags.step * 1e-9 + bags.start * 1e-9
    torch.testing.assert_close(sequence.timestamps, expected, atol=1e-6, rtol=0)  # of the headers, not of recording
    again = pickle.loads(pickle.dumps(sequence))
    torch.testing.assert_close(again[3].depth, sequence[3].depth)


def test_a_single_file_of_ros2_needs_no_metadata(bags, recordings):
    folder = bags.write("mcap")
    check_frames(datasets.load(folder / f"{folder.name}.mcap"), recordings)
    folder = bags.write("db3")
    (folder / "metadata.yaml").unlink()
    check_frames(datasets.load(folder), recordings)


def test_a_journal_that_is_not_read_is_told(bags, recordings):
    folder = bags.write("db3")
    (folder / f"{folder.name}.db3-wal").write_bytes(b"messages")
    with pytest.warns(RecordingWarning, match="its journal, walk_db3.db3-wal, is not read"):
        check_frames(datasets.load(folder), recordings)


def test_an_unfinished_ros1_bag_is_read_as_far_as_it_goes(bags, recordings):
    path = bags.write("ros1")
    data = path.read_bytes()
    at = data.index(b"index_pos=") + len(b"index_pos=")
    (index,) = struct.unpack_from("<Q", data, at)
    path.write_bytes(data[:at] + bytes(8) + data[at + 8 : index])
    with pytest.warns(RecordingWarning, match="was not closed"):
        check_frames(datasets.load(path), recordings)


@pytest.mark.parametrize("kind", ["ros1", "mcap"])
def test_a_bag_that_is_cut_off_keeps_what_came_before(bags, recordings, kind):
    def fill(bag):
        bags.fill(bag)
        for i in range(8, 600):  # so that there are several chunks
            bag.image("/other/image", np.zeros((40, 50), np.uint8), "mono8", bags.start + i * bags.step, "other")

    path = bags.write(kind, filling=fill)
    path = path if path.is_file() else path / f"{path.name}.mcap"
    path.write_bytes(path.read_bytes()[:-200_000])
    with pytest.warns(RecordingWarning, match="read as far as it goes"):
        check_frames(datasets.load(path), recordings)


@pytest.mark.parametrize("kind", ["ros1", "db3", "mcap"])
def test_broken_bags_give_one_error_or_skip_frames(bags, kind):
    """Whatever bytes are changed, nothing but ValueError, or FrameError of a frame, is raised."""
    path = bags.write(kind)
    path = path if path.is_file() else next(each for each in path.iterdir() if each.suffix == f".{kind}")
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    outcomes = set()
    for _ in range(12):
        broken = whole.copy()
        where = random.integers(20, len(whole), 60)
        broken[where] = random.integers(0, 256, len(where))
        path.write_bytes(broken.tobytes())
        try:
            sequence = datasets.load(path)
        except ValueError:
            outcomes.add("refused")
            continue
        for i in range(len(sequence)):
            try:
                sequence[i]
                outcomes.add("read")
            except FrameError:
                outcomes.add("skipped")
    assert "read" in outcomes
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="expected a bag of ROS 1 or ROS 2"):
        datasets.load(path)


@pytest.mark.parametrize("kind", ["ros1", "db3"])
def test_compressed_images(bags, recordings, kind):
    """JPEG and PNG; depth behind the header of 12 bytes, as integers and as quantized inverse depth."""
    smooth = np.add.outer(np.arange(24), np.arange(32))[..., None].repeat(3, -1).astype(np.uint8) * 3
    scale, offset = 20000.0, 7.5

    def fill(bag):
        for i in range(3):
            time = bags.start + i * bags.step
            bag.info("/cam/color/camera_info", time, "optical")
            form = "rgb8; jpeg compressed bgr8"
            bag.compressed("/cam/color/image_raw/compressed", bags.jpeg(smooth), form, time, "optical")
            meters = recordings.depth_image(i, 1000) / 1000
            inverse = np.where(meters > 0, scale / np.maximum(meters, 1e-3) + offset, 0).astype(np.uint16)
            header = struct.pack("<iff", 0, scale, offset)
            form = "32FC1; compressedDepth png"
            bag.compressed(
                "/cam/depth_registered/image/compressedDepth", header + bags.png(inverse), form, time, "optical"
            )
            form = "16UC1; compressedDepth png"
            depth = bags.png(recordings.depth_image(i, 1000))
            bag.compressed("/cam/depth/image/compressedDepth", bytes(12) + depth, form, time, "optical")

    path = bags.write(kind, filling=fill)
    quantized = datasets.load(path)
    assert (quantized[0].color * 255 - torch.from_numpy(smooth)).abs().max() < 12
    expected = torch.from_numpy(recordings.depth_image(1, 1000).astype(np.float32) / 1000)
    torch.testing.assert_close(quantized[1].depth[..., 0], expected, atol=2e-4, rtol=0)
    integers = datasets.load(path, topics="/cam/color/image_raw/compressed,/cam/depth/image/compressedDepth")
    torch.testing.assert_close(integers[1].depth[..., 0], expected)


@pytest.mark.parametrize("encoding", ["bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8", "yuv422"])
def test_encodings_of_color(bags, recordings, encoding):
    gray = np.full((24, 32), 100, np.uint8)
    pixels = {
        "bgr8": recordings.color_image(5)[..., ::-1],
        "rgba8": np.dstack([recordings.color_image(5), gray]),
        "bgra8": np.dstack([recordings.color_image(5)[..., ::-1], gray]),
        "mono8": gray,
        "bayer_rggb8": gray,
        "yuv422": np.stack([np.full_like(gray, 128), gray], -1),  # U or V, then Y
    }[encoding]

    def fill(bag):
        bag.info("/cam/camera_info", bags.start, "optical")
        bag.image("/cam/image", pixels, encoding, bags.start, "optical")
        bag.image("/cam/depth", recordings.depth_image(0, 1000), "mono16", bags.start, "optical")

    color = datasets.load(bags.write("ros1", filling=fill))[0].color * 255
    expected = np.repeat(gray[..., None], 3, -1) if pixels.ndim == 2 else recordings.color_image(5)
    if encoding == "yuv422":
        expected = np.full((24, 32, 3), round((100 - 16) * 1.164))  # of video range
    torch.testing.assert_close(color, torch.from_numpy(expected.astype(np.float32)), atol=1.01, rtol=0)


def test_floats_are_meters_and_nan_is_no_depth(bags, recordings):
    meters = (recordings.depth_image(0, 1000) / 1000).astype(np.float32)
    meters[2, 5], meters[3, 6] = np.nan, np.inf

    def fill(bag):
        bag.info("/cam/camera_info", bags.start, "optical")
        bag.image("/cam/rgb", recordings.color_image(0), "rgb8", bags.start, "optical")
        bag.image("/cam/depth", meters, "32FC1", bags.start, "optical")

    depth = datasets.load(bags.write("ros1", filling=fill))[0].depth[..., 0]
    assert float(depth[2, 5]) == 0 and float(depth[3, 6]) == 0
    assert float(depth[10, 10]) == pytest.approx(float(meters[10, 10]))


def test_depth_at_another_rate_is_paired_by_the_nearest_time(bags, recordings):
    def fill(bag):
        for i in range(8):
            bag.info("/cam/camera_info", bags.start, "optical")
            bag.image("/cam/rgb", recordings.color_image(i), "rgb8", bags.start + i * bags.step, "optical")
        for i in range(3):
            time = bags.start + 2 * i * bags.step + 9_000_000
            bag.image("/cam/depth", recordings.depth_image(i, 1000), "16UC1", time, "optical")

    sequence = datasets.load(bags.write("db3", filling=fill))
    assert [round(float(sequence[i].color[0, 0, 0]) * 255) for i in range(len(sequence))] == [0, 2, 4]


def test_times_of_recording_where_headers_have_none(bags, recordings):
    def fill(bag):
        for i in range(4):
            time = bags.start + i * bags.step
            bag.info("/cam/camera_info", time, "optical")
            bag.image("/cam/rgb", recordings.color_image(i), "rgb8", 0, "optical", recorded=time)
            bag.image("/cam/depth", recordings.depth_image(i, 1000), "16UC1", 0, "optical", recorded=time)

    sequence = datasets.load(bags.write("ros1", filling=fill))
    assert len(sequence) == 4 and float(sequence.timestamps[3]) == pytest.approx(1.7e9 + 0.1)
    assert any("by the time of recording" in note for note in sequence.notes)


def test_topics_are_listed_where_none_fit(bags, recordings):
    def fill(bag):
        bag.image("/left/image", recordings.color_image(0), "rgb8", bags.start, "optical")

    path = bags.write("ros1", filling=fill)
    with pytest.raises(ValueError, match=r"topics: .*images in it: /left/image \(rgb8, 1\)"):
        datasets.load(path)
    with pytest.raises(ValueError, match=r"topics: expected COLOR,DEPTH of the bag, got '/a,/b'"):
        datasets.load(path, topics="/a,/b")


def test_a_camera_that_nothing_tells_is_asked_for(bags, recordings):
    def fill(bag):
        bag.image("/rgb", recordings.color_image(0), "rgb8", bags.start, "optical")
        bag.image("/depth", recordings.depth_image(0, 1000), "16UC1", bags.start, "optical")

    path = bags.write("ros1", filling=fill)
    with pytest.raises(ValueError, match="the camera of /rgb is not known"):
        datasets.load(path)
    assert float(datasets.load(path, intrinsics="30,31,15,11").K[1, 1]) == 31


def test_without_rosbags_one_line_says_what_to_install(bags, monkeypatch):
    path = bags.write("ros1")
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rosbags" else find_spec(name))
    with pytest.raises(ImportError, match=r"pip install gradslam_ng\[rosbag\]"):
        datasets.load(path)
