"""`.mkv` recordings of Azure Kinect, as k4arecorder writes them: color, depth, and the factory's calibration."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.camera import Camera, with_color
from gradslam_ng.datasets.camera_files import with_given
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.images import decode_color
from gradslam_ng.datasets.intrinsics import Intrinsics, parse_intrinsics
from gradslam_ng.datasets.lens import parse_distortion
from gradslam_ng.datasets.recorded import RecordedSequence
from gradslam_ng.datasets.tum import associate
from gradslam_ng.datasets.video_packets import VideoPackets, require_av
from gradslam_ng.geometry import se3

CALIBRATION = "calibration.json"
DEPTH_CAMERA, COLOR_CAMERA = "CALIBRATION_CameraLocationD0", "CALIBRATION_CameraLocationPV0"
# Of each mode of depth, by the size of its images: the size that the calibration is brought to, and what is cut off of
# it, both height and width (Azure Kinect Sensor SDK, narrow and wide field of view, binned or not).
DEPTH_MODES = {
    (576, 640): ((1024, 1024), (180, 192)),
    (288, 320): ((512, 512), (90, 96)),
    (512, 512): ((512, 512), (0, 0)),
    (1024, 1024): ((1024, 1024), (0, 0)),
}
MODEL = "CALIBRATION_LensDistortionModelBrownConrady"  # with six radial coefficients
MAX_DIFFERENCE = 0.02  # seconds between the color and the depth of a frame
FORM = 'JSON with "CalibrationInformation" and "Cameras" in it'


class AzureKinect(RecordedSequence):
    """An `.mkv` file of Azure Kinect: depth of 16 bit in millimeters, color as JPEG, NV12 or YUY2, `calibration.json`.

    Color is looked up at the pixels of depth by the factory's calibration, of which both lenses are undone.

    Args:
        path: of the file.
        intrinsics: of depth, without distortion; overrides the calibration's.
        depth_scale: units in a meter; default 1000.

    Raises:
        ImportError: `av` is not installed; says how to.
        ValueError: not such a file, or of a mode that is not known.
    """

    layout = "azure"
    expected_files = "NAME.mkv of Azure Kinect (k4arecorder)"

    def __init__(
        self, path: str | os.PathLike, *, intrinsics: Intrinsics | None = None, depth_scale: float | None = None
    ) -> None:
        path = Path(path)
        require_av("recordings of Azure Kinect")
        self.packets = VideoPackets(path)
        self.color_stream, self.depth_stream = (_stream(self.packets, kind) for kind in ("COLOR", "DEPTH"))
        calibration = _calibration(self.packets)
        sizes = self.packets.sizes
        depth_camera, T_depth = depth_calibration(calibration, sizes[self.depth_stream], str(path))
        color_camera, T_color = color_calibration(calibration, sizes[self.color_stream], str(path))
        times = [self.packets.times.get(stream, []) for stream in (self.color_stream, self.depth_stream)]
        camera = with_given(with_color(depth_camera, color_camera, T_color @ se3.inverse(T_depth)), intrinsics)
        self.pairs = associate([time - camera.time_offset for time in times[0]], times[1], MAX_DIFFERENCE)
        if not self.pairs:
            raise ValueError(f"{path}: no color within {MAX_DIFFERENCE} s of a depth image")
        findings = []
        if not self.packets.is_whole:
            findings.append(
                Finding("warning", "files.unfinished", f"{path.name} is cut off, and read as far as it goes")
            )
        super().__init__(
            name=path.stem,
            layout=self.layout,
            camera=camera,
            is_paired_by_time=True,
            depth_scale=depth_scale,
            timestamps=torch.tensor([times[1][j] for _, j in self.pairs], dtype=torch.float64),
            notes=[f"{len(times[0])} color and {len(times[1])} depth images, {len(self.pairs)} pairs"],
            findings=findings,
        )

    @staticmethod
    def recognizes(path: Path) -> bool:
        return path.suffix.lower() == ".mkv" and path.is_file()

    def decode_color(self, index: int) -> np.ndarray:
        data = self.packets.read(self.color_stream, self.pairs[index][0])
        if self.packets.codecs[self.color_stream] == "mjpeg":
            return decode_color(data)
        return _raw_color(data, self.packets.sizes[self.color_stream])

    def decode_depth(self, index: int) -> np.ndarray:
        data = self.packets.read(self.depth_stream, self.pairs[index][1])
        height, width = self.packets.sizes[self.depth_stream]
        if len(data) != 2 * height * width:
            raise ValueError(f"depth: expected {width}x{height} numbers of 16 bit, got {len(data)} bytes")
        return np.frombuffer(data, ">u2").astype(np.uint16).reshape(height, width)


def depth_calibration(calibration: dict[str, Any], size: tuple[int, int], where: str) -> tuple[Camera, Tensor]:
    """The camera of depth images (H, W), and what maps points of the device to it, (4, 4), meters."""
    if size not in DEPTH_MODES:
        raise ValueError(f"{where}: depth of {size[1]}x{size[0]}: expected one of Azure Kinect's modes")
    return _camera(calibration[DEPTH_CAMERA], size, *DEPTH_MODES[size], where)


def color_calibration(calibration: dict[str, Any], size: tuple[int, int], where: str) -> tuple[Camera, Tensor]:
    """Likewise of color: images of 16:9 are cut out of the sensor's 4:3, above and below.

    Early devices have a calibration of images of 16:9, which those of 4:3 go beyond.
    """
    told = calibration[COLOR_CAMERA]
    try:
        is_wide = 9 * float(told["SensorWidth"]) == 16 * float(told["SensorHeight"])
    except (KeyError, TypeError, ValueError):
        is_wide = False
    height = size[1] * 9 // 16 if is_wide else size[1] * 3 // 4
    return _camera(told, size, (height, size[1]), ((height - size[0]) // 2, 0), where)


def _camera(
    told: dict[str, Any], size: tuple[int, int], whole: tuple[int, int], cut: tuple[int, int], where: str
) -> tuple[Camera, Tensor]:
    """A camera of the calibration, whose numbers are shares of the image's size and count from its corner."""
    try:
        numbers = [float(x) for x in told["Intrinsics"]["ModelParameters"]]
        rotation = torch.tensor(told["Rt"]["Rotation"], dtype=torch.float64).reshape(3, 3)
        translation = torch.tensor(told["Rt"]["Translation"], dtype=torch.float64).reshape(3)
        model = str(told["Intrinsics"].get("ModelType", MODEL))
        cx, cy, fx, fy, k1, k2, k3, k4, k5, k6, *center, p2, p1 = numbers[:14]
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{where}: {CALIBRATION}: expected the parameters of a camera: {error}") from error
    if model != MODEL or any(center):
        raise ValueError(f"{where}: {CALIBRATION}: expected {MODEL} about the principal point, got {model}, {center}")
    (height, width), (top, left) = whole, cut
    values = [fx * width, fy * height, cx * width - left - 0.5, cy * height - top - 0.5]
    distortion = parse_distortion([k1, k2, p1, p2, k3, k4, k5, k6], where)
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = rotation, translation
    return Camera(parse_intrinsics(values, where), CALIBRATION, size, distortion), T


def _stream(packets: VideoPackets, kind: str) -> int:
    """The stream of that title; ValueError where there is none."""
    for index, about in packets.streams.items():
        if str(about.get("title", about.get("TITLE", ""))).upper() == kind:
            return index
    there = ", ".join(str(about.get("title", "one without a title")) for about in packets.streams.values())
    raise ValueError(f"{packets.path}: expected a track {kind} as of Azure Kinect, got {there or 'none'}")


def _calibration(packets: VideoPackets) -> dict[str, Any]:
    """The cameras in the attached calibration, by where they are on the device."""
    data = packets.attachments.get(CALIBRATION)
    if data is None:
        raise ValueError(f"{packets.path}: expected {CALIBRATION} attached to it, got none")
    try:
        cameras = json.loads(bytes(data).rstrip(b"\0"))["CalibrationInformation"]["Cameras"]
        found = {each["Location"]: each for each in cameras}
        return {name: found[name] for name in (DEPTH_CAMERA, COLOR_CAMERA)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{packets.path}: {CALIBRATION}: expected {FORM}: {error}") from error


def _raw_color(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Color (H, W, 3) of NV12 or YUY2, by the number of bytes."""
    import cv2

    height, width = size
    pixels = np.frombuffer(data, np.uint8)
    if len(pixels) == height * width * 3 // 2:
        return cv2.cvtColor(pixels.reshape(height * 3 // 2, width), cv2.COLOR_YUV2RGB_NV12)
    if len(pixels) == height * width * 2:
        return cv2.cvtColor(pixels.reshape(height, width, 2), cv2.COLOR_YUV2RGB_YUY2)
    if len(pixels) == height * width * 4:
        return np.ascontiguousarray(pixels.reshape(height, width, 4)[..., 2::-1])
    raise ValueError(f"color: expected JPEG, NV12, YUY2 or BGRA of {width}x{height}, got {len(data)} bytes")
