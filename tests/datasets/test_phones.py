"""What apps of phones with a depth sensor record: depth half as large as color, poses of ARKit."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import recordings as samples
from gradslam_ng import datasets
from gradslam_ng.datasets import FrameError, RecordingWarning

COLOR_SIZE, SIZE = (48, 64), (24, 32)
FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
CAMERA = {"fl_x": 60.0, "fl_y": 60.0, "cx": 32.0, "cy": 24.0, "w": 64, "h": 48}


def smooth_color(index: int) -> np.ndarray:
    """(H, W, 3) uint8: red and green tell the place in the image, blue the frame."""
    v, u = np.mgrid[: COLOR_SIZE[0], : COLOR_SIZE[1]]
    return np.stack([3 * u, 4 * v, np.full_like(u, 20 * index)], -1).astype(np.uint8)


def colors() -> np.ndarray:
    return np.array([smooth_color(i) for i in range(4)])


def depths(recordings, units: float = 1000) -> np.ndarray:
    return np.array([recordings.depth_image(i, units) for i in range(4)])


def confidences(level: int) -> np.ndarray:
    confidence = np.full((4, *SIZE), level, np.uint8)
    confidence[:, 5, 6] = 0
    return confidence


def write_transforms(folder: Path, recordings, scale: float = 10 / 65535, **more) -> Path:
    about = {**CAMERA, "integer_depth_scale": scale, **more}
    return samples.write_transforms(folder, colors(), depths(recordings, 1 / scale), recordings.poses(), about)


def write_polycam(folder: Path, recordings) -> Path:
    camera = {"fx": 60.0, "fy": 60.0, "cx": 31.5, "cy": 23.5}
    given = colors(), depths(recordings), recordings.poses(), camera
    return samples.write_polycam(folder, *given, confidence=confidences(255))


def write_stray(folder: Path, recordings) -> Path:
    color = np.array([np.full((*COLOR_SIZE, 3), (50 + 40 * i, 60, 20), np.uint8) for i in range(4)])
    K = np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
    return samples.write_stray(folder, color, depths(recordings), recordings.poses(4), K, confidence=confidences(2))


def write_r3d(path: Path, recordings, **more) -> Path:
    depth = (depths(recordings) / 1000).astype(np.float32)
    depth[:, 2, 2] = np.nan
    more = {"K": [60, 0, 0, 0, 60, 0, 31.5, 23.5, 1], **more}
    return samples.write_r3d(path, colors(), depth, recordings.poses(4), confidence=confidences(2), **more)


def check(sequence, recordings, layout: str, step: float, lossless: bool = False):
    """Sizes, the camera of depth, poses, times, and that color is where it should be."""
    assert sequence.layout == layout and len(sequence) == 4 and sequence.size == SIZE
    K = torch.tensor([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]])
    torch.testing.assert_close(sequence.K, K)
    steps = sequence.timestamps.diff()
    torch.testing.assert_close(steps, torch.full_like(steps, step), atol=1e-6, rtol=0)
    for i in range(4):
        frame = sequence[i]
        torch.testing.assert_close(frame.T_wc, recordings.poses()[i], atol=1e-6, rtol=0)
        expected = torch.from_numpy(recordings.depth_image(i, 1000).astype(np.float32) / 1000)
        seen = frame.depth[..., 0]
        keep = seen > 0
        assert keep.sum() >= 24 * 32 - 4
        torch.testing.assert_close(seen[keep], expected[keep], atol=1e-3, rtol=0)
    pickle.loads(pickle.dumps(sequence))[2]


def check_color(frame, index: int):
    v, u = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    expected = torch.stack([3 * (2 * u + 0.5), 4 * (2 * v + 0.5), torch.full_like(u, 20 * index)], -1)
    inner = slice(2, -2), slice(2, -2)
    torch.testing.assert_close(frame.color[inner] * 255, expected[inner], atol=4, rtol=0)


def test_transforms_of_nerfcapture(recordings, tmp_path):
    sequence = datasets.load(write_transforms(tmp_path / "capture", recordings))
    check(sequence, recordings, "transforms", 1 / 30)
    check_color(sequence[3], 3)
    assert not sequence.findings and sequence.depth_scale == pytest.approx(6553.5)


def test_what_nerfcapture_itself_saves_is_told_to_have_no_depth(recordings, tmp_path):
    """The app names its unit otherwise, and its depth images have 8 bits."""
    folder = write_transforms(tmp_path / "capture", recordings, depth_integer_scale=1.0, depth_source="x")
    assert len(datasets.load(folder)) == 4
    for path in folder.glob("images/*.depth.png"):
        Image.fromarray(np.zeros((*SIZE, 4), np.uint8)).save(path)
    with pytest.raises(ValueError, match="expected a depth image of one channel"):
        datasets.load(folder)


def test_transforms_of_nerfstudio_with_a_camera_for_each_frame(recordings, tmp_path):
    folder = write_transforms(tmp_path / "capture", recordings, 0.001, camera_model="OPENCV", k1=0.0)
    path = folder / "transforms.json"
    data = json.loads(path.read_text())
    for i, frame in enumerate(data["frames"]):
        frame |= {"fl_x": 59.0 + i, "fl_y": 60.0, "cx": 32.0, "cy": 24.0, "w": 64, "h": 48, "timestamp": i / 10}
        frame |= {"depth_file_path": frame.pop("depth_path"), "file_path": f"images/{i}.png"}
    for name in (*CAMERA, "integer_depth_scale"):
        del data[name]
    path.write_text(json.dumps(data))
    with pytest.warns(RecordingWarning, match="focal lengths of the frames differ by 5.0%"):
        sequence = datasets.load(folder)
    check(sequence, recordings, "transforms", 1 / 10)
    del data["frames"][1]["depth_file_path"]
    path.write_text(json.dumps(data))
    with pytest.warns(RecordingWarning, match="1 of 4 frames have no depth, and are left out"):
        assert len(datasets.load(folder)) == 3


@pytest.mark.parametrize(
    "change, message",
    [({"frames": []}, "expected depth_file_path in its frames"), ({"frames": 3}, "expected JSON with"),
     ({"frames": [{"file_path": "../../x.png", "depth_path": "d.png"}]}, "leaves the sequence folder"),
     ({"camera_model": "OPENCV_FISHEYE", "camera_model_": 0}, "transforms.json"), ({"fl_x": "much"}, "expected JSON")],
)  # fmt: skip
def test_transforms_that_are_not_as_described(recordings, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(write_transforms(tmp_path / "capture", recordings, **change))


def test_polycam(recordings, tmp_path):
    sequence = datasets.load(write_polycam(tmp_path / "room", recordings))
    check(sequence, recordings, "polycam", 0.5)
    check_color(sequence[2], 2)
    assert float(sequence[0].depth[5, 6, 0]) == 0  # of no confidence
    assert len(datasets.load(tmp_path / "room" / "keyframes")) == 4


def test_stray_scanner(recordings, tmp_path):
    sequence = datasets.load(write_stray(tmp_path / "walk", recordings))
    check(sequence, recordings, "stray", 1 / 60)
    assert float(sequence[0].depth[5, 6, 0]) == 0
    for i in (3, 0, 2):
        color = sequence[i].color[12, 16] * 255
        torch.testing.assert_close(color, torch.tensor([50.0 + 40 * i, 60, 20]), atol=8, rtol=0)


def test_record3d(recordings, tmp_path):
    pytest.importorskip("liblzfse", reason="the extra [record3d] is not installed")
    sequence = datasets.load(write_r3d(tmp_path / "walk.r3d", recordings))
    check(sequence, recordings, "record3d", 1 / 60)
    check_color(sequence[1], 1)
    assert float(sequence[0].depth[5, 6, 0]) == 0 and float(sequence[0].depth[2, 2, 0]) == 0
    own = {"perFrameIntrinsicCoeffs": [[60, 60, 31.5, 23.5]] * 4, "frameTimestamps": [0, 0.1, 0.2, 0.3], "dw": 0}
    check(datasets.load(write_r3d(tmp_path / "walk.r3d", recordings, **own)), recordings, "record3d", 0.1)


def test_broken_record3d_gives_one_error_or_costs_frames(recordings, tmp_path):
    pytest.importorskip("liblzfse", reason="the extra [record3d] is not installed")
    path = write_r3d(tmp_path / "walk.r3d", recordings)
    data = path.read_bytes()
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("rgbd/4.depth", b"bvxn" + bytes(50))
        file.writestr("rgbd/5.depth", bytes(1_600_000))  # may unpack to more than 2 GB
        file.writestr("rgbd/5.jpg", samples.packed(smooth_color(5), "JPEG"))
    sequence = datasets.load(path)
    with pytest.raises(FrameError, match="frame 4"):
        sequence[4]
    with pytest.raises(FrameError, match="1600000 bytes, expected at most"):
        sequence[5]
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="expected a zip file"):
        datasets.load(path)
    with pytest.raises(ValueError, match="expected metadata to be JSON"):
        datasets.load(write_r3d(path, recordings, K=[1, 2]))


def test_without_liblzfse_one_line_says_what_to_install(tmp_path, monkeypatch):
    import importlib.util

    (tmp_path / "walk.r3d").write_bytes(b"PK")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "liblzfse" else find_spec(name))
    with pytest.raises(ImportError, match=r"pip install gradslam_ng\[record3d\]"):
        datasets.load(tmp_path / "walk.r3d")
