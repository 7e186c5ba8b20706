"""The camera in a JSON file."""

from __future__ import annotations

from pathlib import Path

from gradslam_ng.datasets.intrinsics import CameraFile
from gradslam_ng.datasets.intrinsics_names import CameraReader
from gradslam_ng.io.text import read_json

FORM = 'JSON with "fx", "fy", "cx", "cy" or "K" (3x3), and optionally "width", "height", "distortion", "depth_scale"'


def read_camera_json(path: Path, y_up: bool = False) -> CameraFile:
    """The camera in a file, by itself or in a table within, as under "camera".

    K is "fx", "fy", "cx" and "cy", "K" (3x3), or Open3D's column-major "intrinsic_matrix"; "width" and "height" are
    those of its images. "distortion" is [k1, k2, p1, p2] or more, or {"model": ..., "coefficients": [...]}.

    Raises:
        ValueError: the file does not hold this, or several cameras, or has a name that is nearly one of these; names
            the file.
    """
    data = read_json(path, FORM)
    cameras = CameraReader(path, form=FORM, y_up=y_up).read(data)
    if not cameras:
        raise ValueError(f"{path}: expected {FORM}; got {str(data)[:100]}")
    if len(cameras) > 1:
        raise ValueError(f"{path}: expected one camera, got {len(cameras)} that differ")
    return cameras[0]
