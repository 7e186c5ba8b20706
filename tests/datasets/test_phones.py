"""What apps of phones with a depth sensor record: depth half as large as color, poses of ARKit."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradslam_ng import datasets
from gradslam_ng.datasets import FrameError, RecordingWarning
from gradslam_ng.geometry import se3

COLOR_SIZE, SIZE = (48, 64), (24, 32)
FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
CAMERA = {"fl_x": 60.0, "fl_y": 60.0, "cx": 32.0, "cy": 24.0, "w": 64, "h": 48}


def smooth_color(index: int) -> np.ndarray:
    """(H, W, 3) uint8: red and green tell the place in the image, blue the frame."""
    v, u = np.mgrid[: COLOR_SIZE[0], : COLOR_SIZE[1]]
    return np.stack([3 * u, 4 * v, np.full_like(u, 20 * index)], -1).astype(np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95, subsampling=0)
    return data.getvalue()


def write_transforms(folder: Path, recordings, scale: float = 10 / 65535, **more) -> Path:
    """As NeRFCapture writes it: color is named without its ending, and both lie in one folder."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for i in range(4):
        Image.fromarray(smooth_color(i)).save(folder / "images" / f"{i}.png")
        Image.fromarray(recordings.depth_image(i, 1 / scale)).save(folder / "images" / f"{i}.depth.png")
        T = (recordings.poses()[i] @ FLIP).tolist()
        frames.append({"file_path": f"images/{i}", "depth_path": f"./images/{i}.depth.png", "transform_matrix": T})
    data = {**CAMERA, "integer_depth_scale": scale, "frames": frames, **more}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def write_polycam(folder: Path, recordings) -> Path:
    frames = folder / "keyframes"
    for name in ("images", "cameras", "depth", "confidence", "corrected_cameras", "corrected_images"):
        (frames / name).mkdir(parents=True)
    for i in range(4):
        name = str(71_033_000_000 + 500_000 * i)
        (frames / "images" / f"{name}.jpg").write_bytes(jpeg(smooth_color(i)))
        (frames / "corrected_images" / f"{name}.jpg").write_bytes(jpeg(smooth_color(i)))
        Image.fromarray(recordings.depth_image(i, 1000)).save(frames / "depth" / f"{name}.png")
        confidence = np.full(SIZE, 255, np.uint8)
        confidence[5, 6] = 0
        Image.fromarray(confidence).save(frames / "confidence" / f"{name}.png")
        T = recordings.poses()[i] @ FLIP
        camera = {"fx": 60.0, "fy": 60.0, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48, "blur_score": 1.0}
        camera |= {f"t_{row}{column}": float(T[row, column]) for row in range(3) for column in range(4)}
        (frames / "corrected_cameras" / f"{name}.json").write_text(json.dumps(camera))
        (frames / "cameras" / f"{name}.json").write_text(json.dumps(camera | {"t_03": 99.0}))
    return folder


def write_stray(folder: Path, recordings) -> Path:
    import cv2

    for name in ("depth", "confidence"):
        (folder / name).mkdir(parents=True)
    video = cv2.VideoWriter(str(folder / "rgb.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 60, COLOR_SIZE[::-1])
    lines = ["timestamp, frame, x, y, z, qx, qy, qz, qw"]
    for i in range(4):
        video.write(np.full((*COLOR_SIZE, 3), (20, 60, 50 + 40 * i), np.uint8))  # blue, green, red
        Image.fromarray(recordings.depth_image(i, 1000)).save(folder / "depth" / f"{i:06d}.png")
        confidence = np.full(SIZE, 2, np.uint8)
        confidence[5, 6] = 0
        Image.fromarray(confidence).save(folder / "confidence" / f"{i:06d}.png")
        t, q = se3.to_quaternion(recordings.poses()[i])
        lines.append(", ".join(map(repr, [100 + i / 60, i, *t.tolist(), *q.tolist()])))
    video.release()
    (folder / "odometry.csv").write_text("\n".join(lines) + "\n")
    (folder / "camera_matrix.csv").write_text("60.0, 0.0, 31.5\n0.0, 60.0, 23.5\n0.0, 0.0, 1.0\n")
    return folder


def write_r3d(path: Path, recordings, **more) -> Path:
    import liblzfse

    poses = []
    with zipfile.ZipFile(path, "w") as file:
        for i in range(4):
            depth = (recordings.depth_image(i, 1000) / 1000).astype(np.float32)
            depth[2, 2] = np.nan
            confidence = np.full(SIZE, 2, np.uint8)
            confidence[5, 6] = 0
            file.writestr(f"rgbd/{i}.jpg", jpeg(smooth_color(i)))
            file.writestr(f"rgbd/{i}.depth", liblzfse.compress(depth.tobytes()))
            file.writestr(f"rgbd/{i}.conf", liblzfse.compress(confidence.tobytes()))
            t, q = se3.to_quaternion(recordings.poses()[i] @ FLIP)
            poses.append([*q.tolist(), *t.tolist()])
        about = {"w": 64, "h": 48, "dw": 32, "dh": 24, "fps": 60, "K": [60, 0, 0, 0, 60, 0, 31.5, 23.5, 1]}
        file.writestr("metadata", json.dumps({**about, "poses": poses, **more}))
    return path


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
    sequence = datasets.load(path)
    with pytest.raises(FrameError, match="frame 4"):
        sequence[4]
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
