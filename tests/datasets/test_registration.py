"""Recordings of two cameras: color registered to depth on loading, at its own time; camera files that tell both."""

from __future__ import annotations

import json
import math

import cv2
import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.datasets import TUM, Folder, FrameError
from gradslam_ng.datasets.intrinsics import CameraFile, ColorCamera
from gradslam_ng.datasets.intrinsics_json import format_camera, read_camera_json
from gradslam_ng.geometry import camera, se3
from gradslam_ng.geometry.registration import register_color

DEPTH = {"fx": 30, "fy": 30, "cx": 15.5, "cy": 11.5, "width": 32, "height": 24, "depth_scale": 1000}
COLOR = {"fx": 60, "fy": 60, "cx": 39.5, "cy": 29.5, "width": 80, "height": 60}
T = se3.exp(torch.tensor([-0.1, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))
TWO = DEPTH | {"color": COLOR, "T_color_depth": T.tolist()}


@pytest.fixture
def folder(recordings, tmp_path):
    """Of a wall at 2 m; color is a ramp that a camera of 80x60, 10 cm to the right, took."""
    folder = recordings.folder(tmp_path / "desk")
    (folder / "intrinsics.txt").unlink(missing_ok=True)
    ramp = camera.pixel_grid(60, 80).numpy()
    for path in (folder / "color").iterdir():
        iio.imwrite(path, np.concatenate([3 * ramp, ramp[..., :1]], -1).round().astype(np.uint8))
    for path in (folder / "depth").iterdir():
        iio.imwrite(path, np.full((24, 32), 2000, np.uint16))
    (folder / "intrinsics.json").write_text(json.dumps(TWO))
    return folder


def test_color_is_registered_to_depth(folder):
    sequence = Folder(folder)
    frame = sequence[0]
    assert any("color registered to depth" in note for note in sequence.notes)
    assert sequence.size == frame.size == (24, 32) and sequence.K[0, 0] == 30
    # depth pixel (u, v) is seen at u' = 2 (u - 15.5) + 39.5 - 60 * 0.1 / 2; images are halved, by blocks, before
    u, v = camera.pixel_grid(24, 32).unbind(-1)
    expected = torch.stack([2 * (u - 15.5) + 36.5, 2 * (v - 11.5) + 29.5], -1)
    torch.testing.assert_close(frame.color[..., :2] * 255 / 3, expected, rtol=0, atol=1e-3)
    assert (frame.depth == 2).all()


def test_a_pixel_has_both_color_and_depth_or_neither(folder):
    wide = DEPTH | {"color": COLOR | {"fx": 100, "fy": 100}, "T_color_depth": T.tolist()}
    (folder / "intrinsics.json").write_text(json.dumps(wide))
    frame = Folder(folder)[0]
    seen = frame.depth > 0
    assert 0.4 < seen.float().mean() < 0.8 and (frame.depth[seen] == 2).all()


def test_a_recording_of_two_cameras_without_the_second_is_refused(folder):
    (folder / "intrinsics.json").write_text(json.dumps(DEPTH))
    with pytest.raises(ValueError, match="color is 80x60, depth is 32x24; expected one size, registered"):
        Folder(folder)
    assert not Folder(folder, intrinsics=_file(folder.parent / "two.json", TWO)).rectification.is_registered


def test_color_of_another_size_costs_the_frame(folder):
    iio.imwrite(next(iter(sorted((folder / "color").iterdir()))), np.zeros((24, 32, 3), np.uint8))
    sequence = Folder(folder)
    with pytest.raises(FrameError, match="is 32x24; expected 80x60 as in other frames"):
        sequence[0]
    assert sequence[1].size == (24, 32)


def test_color_cameras_are_scaled_to_their_images_or_refused(folder):
    half = COLOR | {name: (value + 0.5) / 2 - 0.5 for name, value in COLOR.items() if name[0] == "c"}
    half |= {"fx": 30, "fy": 30, "width": 40, "height": 30}
    given = Folder(folder, intrinsics=_file(folder.parent / "half.json", TWO | {"color": half}))
    torch.testing.assert_close(given[0].color, Folder(folder)[0].color)
    with pytest.raises(ValueError, match=r"two\.json, color belongs to images of 64x60"):
        Folder(folder, intrinsics=_file(folder.parent / "two.json", TWO | {"color": COLOR | {"width": 64}}))


def _file(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("model", ["brown_conrady", "kannala_brandt"])
def test_both_lenses_are_undone(folder, model):
    coefficients = [0.05, -0.02, 0.004, -0.003]
    lens = {"distortion": {"model": model, "coefficients": coefficients}}
    content = TWO | lens | {"color": COLOR | lens}
    depth = 1500 + 10 * np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)
    for path in (folder / "depth").iterdir():
        iio.imwrite(path, depth)
    (folder / "intrinsics.json").write_text(json.dumps(content))
    sequence = Folder(folder)
    frame = sequence[0]
    K = sequence.K.numpy()
    undistort = cv2.fisheye.initUndistortRectifyMap if model == "kannala_brandt" else cv2.initUndistortRectifyMap
    maps = undistort(K, np.array(coefficients), np.eye(3), K, (32, 24), cv2.CV_32FC1)
    expected = torch.from_numpy(cv2.remap(depth.astype(np.float32), *maps, cv2.INTER_NEAREST) / 1000)
    seen = frame.depth[..., 0] > 0
    assert seen.float().mean() > 0.8
    same = (frame.depth[..., 0] - expected).abs()[seen] < 1e-6
    assert same.float().mean() > 0.97  # OpenCV rounds pixels half way between two by its own rules
    assert torch.isin(frame.depth[seen], torch.from_numpy(depth / 1000).float()).all()  # depth is never mixed


def test_a_fisheye_camera_of_registered_images(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    plain = Folder(folder)[0]
    given = {"fx": 30, "fy": 30, "cx": 15.5, "cy": 11.5, "distortion_model": "equidistant", "D": [0.1, -0.02, 0.0, 0.0]}
    (folder / "intrinsics.json").write_text(json.dumps(given))
    frame = Folder(folder)[0]
    K = np.array([[30, 0, 15.5], [0, 30, 11.5], [0, 0, 1]])
    truth = cv2.fisheye.undistortImage(plain.color.numpy(), K, np.array(given["D"]), Knew=K)
    assert (frame.color - torch.from_numpy(truth))[2:-2, 2:-2].abs().max() < 0.05  # of noise; OpenCV rounds to 1/32
    assert (plain.color - frame.color).abs().max() > 0.3


@pytest.mark.parametrize("layout", ["tum", "folder"])
def test_color_and_depth_of_different_times(recordings, tmp_path, layout):
    """Color's clock is ahead by one frame and a bit: without the offset each frame has the color of another."""
    ahead = 1 / 30 + 0.004
    folder = recordings.tum(tmp_path / "desk") if layout == "tum" else recordings.folder(tmp_path / "desk")
    if layout == "tum":  # color is 4 ms late already
        lines = [line.split() for line in (folder / "rgb.txt").read_text().splitlines()[2:]]
        (folder / "rgb.txt").write_text("\n".join(f"{float(time) + 1 / 30:.6f} {name}" for time, name in lines))
        load = TUM
    else:
        for kind, late in (("color", ahead), ("depth", 0.0)):
            for i, path in enumerate(sorted((folder / kind).iterdir())):
                path.rename(path.with_name(f"{100 + i / 30 + late:.6f}{path.suffix}"))
        load = Folder
    for name in folder.glob("intrinsics.*"):
        name.unlink()
    camera_file = {name: DEPTH[name] for name in ("fx", "fy", "cx", "cy")}
    (folder / "intrinsics.json").write_text(json.dumps(camera_file | {"time_offset": ahead}))
    sequence = load(folder)
    assert any("color +37.3333 ms" in note for note in sequence.notes)
    assert len(sequence) == 8
    for i in range(8):
        assert math.isclose(float(sequence[i].timestamps), 100 + i / 30, abs_tol=1e-5)
        assert round(float(sequence[i].color[0, 0, 0]) * 255) == i


def test_two_cameras_are_written_and_read_again(tmp_path):
    K = torch.tensor([[30.25, 0, 15.5], [0, 31, 11.5], [0, 0, 1]], dtype=torch.float64)
    color = ColorCamera(2 * K + torch.diag(torch.tensor([0.0, 0, -1])), T, (48, 64), (0.1, 0.2, 0, 0), "kannala_brandt")
    written = CameraFile(K, (24, 32), (0.1, -0.2, 0.001, 0.002, 0.3), 5000.0, color=color, time_offset=-0.0125)
    read = read_camera_json(_file(tmp_path / "camera.json", format_camera(written)))
    assert read.is_same(written) and (read.depth_scale, read.time_offset) == (5000, -0.0125) and not read.unused
    assert torch.equal(read.color.K, color.K) and torch.equal(read.color.T_color_depth, T)
    assert (read.color.size, read.color.distortion, read.color.lens_model) == (
        (48, 64),
        color.distortion,
        "kannala_brandt",
    )
    alone = CameraFile(K)
    assert read_camera_json(_file(tmp_path / "camera.json", format_camera(alone))).is_same(alone)


def test_forms_of_two_cameras(tmp_path):
    path = tmp_path / "camera.json"
    nested = {"depth": DEPTH, "color": COLOR, "T_color_depth": T.flatten().tolist(), "time_offset": 0}
    for content in (TWO, nested):
        read = read_camera_json(_file(path, content))
        assert read.color.K[0, 0] == 60 and read.K[0, 0] == 30 and read.depth_scale == 1000
    shared = read_camera_json(_file(path, DEPTH | {"T_color_depth": T.tolist()}))
    assert torch.equal(shared.color.K, shared.K) and shared.color.size == (24, 32)


@pytest.mark.parametrize(("change", "message"), [
    ({"T_color_depth": (2 * T).tolist()}, "T_color_depth: expected a rigid motion, 4x4"),
    ({"T_color_depth": [1, 2, 3]}, "T_color_depth: expected a rigid motion, 4x4"),
    ({"T_color_depth": "left"}, "T_color_depth: expected a rigid motion, 4x4"),
    ({"time_offset": "20 ms"}, "time_offset: expected seconds, got 20 ms"),
    ({"time_offset": True}, "time_offset: expected seconds"),
    ({"color": {"fx": 60}}, "expected JSON with"),
    ({"color": 3}, "expected JSON with"),
    ({"color": COLOR | {"distortion": {"model": "ftheta", "coefficients": [1]}}}, "distortion: expected"),
])  # fmt: skip
def test_files_that_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_camera_json(_file(tmp_path / "camera.json", TWO | change))


def test_color_without_a_motion_is_refused(tmp_path):
    without = {name: value for name, value in TWO.items() if name != "T_color_depth"} | {"time_offset": 0.1}
    with pytest.raises(ValueError, match='expected "T_color_depth" beside "color"'):
        read_camera_json(_file(tmp_path / "camera.json", without))
    del without["time_offset"]
    with pytest.raises(ValueError, match="expected one camera, got 2 that differ"):
        read_camera_json(_file(tmp_path / "camera.json", without))


def test_what_is_read_is_what_the_geometry_says(folder):
    raw = torch.from_numpy(iio.imread(next(iter((folder / "color").iterdir())))).float() / 255
    sequence = Folder(folder)
    K_color = torch.tensor([[60.0, 0, 39.5], [0, 60, 29.5], [0, 0, 1]])
    color, seen = register_color(raw, torch.full((24, 32, 1), 2.0), K_color, sequence.K, T.float())
    assert seen.all() and torch.equal(sequence[0].color, color)
