"""`.mkv` files with the tracks and the attachment of k4arecorder, written by PyAV."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import recordings as samples
from benchmarks.recordings import packed
from gradslam_ng import datasets
from gradslam_ng.datasets import FrameError
from gradslam_ng.datasets.azure_kinect import color_calibration, depth_calibration

av = pytest.importorskip("av", reason="the extra [mkv] is not installed")

SIZE, COLOR_SIZE = (288, 320), (720, 1280)  # narrow field of view, binned; 720p
BASELINE = 0.032  # meters
NO_LENS = [0.0] * 10


def camera(location: str, parameters: list[float], translation: list[float]) -> dict:
    intrinsics = {"ModelParameterCount": 14, "ModelParameters": parameters}
    intrinsics["ModelType"] = "CALIBRATION_LensDistortionModelBrownConrady"
    place = {"Rotation": [1, 0, 0, 0, 1, 0, 0, 0, 1], "Translation": translation}
    return {"Intrinsics": intrinsics, "Location": location, "Rt": place, "SensorWidth": 1024, "SensorHeight": 1024}


def calibration() -> dict:
    depth = camera("CALIBRATION_CameraLocationD0", [0.5, 0.5, 0.49, 0.49, *NO_LENS], [0, 0, 0])
    color = camera("CALIBRATION_CameraLocationPV0", [0.5, 0.5, 0.48, 0.64, *NO_LENS], [-BASELINE, 0, 0])
    return {"CalibrationInformation": {"Cameras": [depth, color]}}


def write_mkv(path: Path, attachment: bytes | None = None, titles=("COLOR", "DEPTH"), frames: int = 4) -> Path:
    """A wall at 1.5 m whose color tells the place on it; every second color image has no depth."""
    v, u = np.mgrid[: COLOR_SIZE[0], : COLOR_SIZE[1]]
    f = 0.48 * COLOR_SIZE[1]
    x, y = (u - 639.5) / f * 1.5 + BASELINE, (v - 359.5) / f * 1.5
    wall = np.stack([127.5 + 80 * x, 127.5 + 80 * y, np.full_like(x, 90)], -1).round().clip(0, 255).astype(np.uint8)
    attachment = json.dumps(calibration()).encode() if attachment is None else attachment
    depth = np.array([np.full(SIZE, 1500 + 2 * i, np.uint16) for i in range(frames)])
    jpeg = packed(wall, "JPEG", quality=95, subsampling=0)
    return samples.write_mkv(path, jpeg, depth, attachment, sizes=(COLOR_SIZE, SIZE), titles=titles)


def test_reads_what_k4arecorder_writes(tmp_path):
    sequence = datasets.load(write_mkv(tmp_path / "room.mkv"))
    assert sequence.layout == "azure" and len(sequence) == 4 and sequence.size == SIZE
    assert sequence.depth_scale == 1000 and sequence.timestamps.tolist() == pytest.approx(
        [0, 1 / 30, 2 / 30, 0.1], abs=2e-3
    )
    expected_K = torch.tensor([[0.49 * 512, 0, 159.5], [0, 0.49 * 512, 165.5], [0, 0, 1]])
    torch.testing.assert_close(sequence.K, expected_K)
    for i in (3, 0, 1, 2):
        assert float(sequence[i].depth[100, 100, 0]) == pytest.approx(1.5 + 0.002 * i)
    frame = pickle.loads(pickle.dumps(sequence))[0]
    v, u = torch.meshgrid(torch.arange(288.0), torch.arange(320.0), indexing="ij")
    x, y = (u - 159.5) / 250.88 * 1.5, (v - 165.5) / 250.88 * 1.5
    expected = torch.stack([127.5 + 80 * x, 127.5 + 80 * y], -1)
    inner = slice(60, -60), slice(40, -40)
    torch.testing.assert_close(frame.color[..., :2][inner] * 255, expected[inner], atol=4, rtol=0)


def test_calibration_of_each_mode():
    """The numbers of the Sensor SDK: the center of the sensor is that of each mode that is cut out of its middle."""
    told = {each["Location"]: each for each in calibration()["CalibrationInformation"]["Cameras"]}
    for size, focal in (((576, 640), 501.76), ((512, 512), 250.88), ((1024, 1024), 501.76)):
        K = depth_calibration(told, size, "test")[0].K
        assert float(K[0, 0]) == pytest.approx(focal) and float(K[0, 2]) == pytest.approx((size[1] - 1) / 2)
    for size in ((720, 1280), (1080, 1920), (1536, 2048), (3072, 4096)):
        K = color_calibration(told, size, "test")[0].K
        assert float(K[1, 1]) == pytest.approx(0.48 * size[1])
        assert K[:2, 2].tolist() == pytest.approx([(size[1] - 1) / 2, (size[0] - 1) / 2])
    told["CALIBRATION_CameraLocationD0"]["Intrinsics"]["ModelParameters"][4:] = [1, 2, 3, 4, 5, 6, 0, 0, 8, 7]
    camera = depth_calibration(told, (576, 640), "test")[0]
    assert camera.distortion == (1, 2, 7, 8, 3, 4, 5, 6)  # k1, k2, p1, p2, k3, ...


def test_calibration_of_early_devices():
    """Of color images of 16:9, as the Sensor SDK brings it to the others: cut out of the middle, or gone beyond."""
    told = {each["Location"]: each for each in calibration()["CalibrationInformation"]["Cameras"]}
    color = told["CALIBRATION_CameraLocationPV0"]
    color |= {"SensorWidth": 3840, "SensorHeight": 2160}
    color["Intrinsics"]["ModelParameters"][1:4] = [0.51, 0.48, 0.48 * 16 / 9]
    for size in ((720, 1280), (1536, 2048)):
        K = color_calibration(told, size, "test")[0].K
        assert K[[0, 1], [0, 1]].tolist() == pytest.approx([0.48 * size[1]] * 2)
        wide = size[1] * 9 / 16  # the height of the calibration's images
        assert float(K[1, 2]) == pytest.approx(0.51 * wide + (size[0] - wide) / 2 - 0.5)


@pytest.mark.parametrize(
    "change, message",
    [({"ModelType": "CALIBRATION_LensDistortionModelTheta"}, "got CALIBRATION_LensDistortionModelTheta"),
     ({"ModelParameters": [0.5] * 4 + [0.0] * 6 + [0.1, 0, 0, 0]}, "about the principal point"),
     ({"ModelParameters": [0.5]}, "expected the parameters of a camera")],
)  # fmt: skip
def test_lenses_that_are_not_known_are_refused(change, message):
    told = {each["Location"]: each for each in calibration()["CalibrationInformation"]["Cameras"]}
    told["CALIBRATION_CameraLocationD0"]["Intrinsics"] |= change
    with pytest.raises(ValueError, match=message):
        depth_calibration(told, (576, 640), "test")


@pytest.mark.parametrize(
    "options, message",
    [({"attachment": b""}, "expected calibration.json attached"), ({"attachment": b"{}"}, "calibration.json: expected"),
     ({"attachment": b'{"CalibrationInformation": {"Cameras": []}}'}, "calibration.json: expected"),
     ({"titles": ("COLOR", "IR")}, "expected a track DEPTH as of Azure Kinect, got COLOR, IR")],
)  # fmt: skip
def test_other_videos_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        datasets.load(write_mkv(tmp_path / "room.mkv", frames=1, **options))


def test_broken_files_give_one_error_or_cost_frames(tmp_path):
    path = write_mkv(tmp_path / "room.mkv")
    data = path.read_bytes()
    path.write_bytes(data[: 3 * len(data) // 4])
    sequence = datasets.load(path)
    assert 1 <= len(sequence) < 4
    for i in range(len(sequence)):
        try:
            assert float(sequence[i].depth.max()) >= 1.5
        except FrameError:
            assert i == len(sequence) - 1
    path.write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    with pytest.raises(ValueError, match=r"not a readable video|expected a track"):
        datasets.load(path)
