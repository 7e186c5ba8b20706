"""The camera in YAML and XML files: OpenCV's FileStorage, ROS's camera_info, Kalibr, camodocal, ORB-SLAM, NICE-SLAM."""

from __future__ import annotations

from pathlib import Path

from gradslam_ng.datasets.intrinsics import CameraFile
from gradslam_ng.datasets.intrinsics_names import CameraReader
from gradslam_ng.io.markup import read_xml, read_yaml

ENDINGS = (".yaml", ".yml", ".xml")
MAX_BYTES = 2**20  # more than any calibration has
FORM = "a camera in YAML or XML: fx, fy, cx, cy or camera_matrix, and perhaps the images' size and a distortion"


def read_camera_markup(path: Path, y_up: bool = False) -> CameraFile | None:
    """The camera in a file, of itself or in any table within; None where it tells none.

    Raises:
        BadMarkup: neither YAML nor XML, as its ending says.
        ValueError: several cameras that differ, or one that cannot be used; names the file.
    """
    if path.stat().st_size > MAX_BYTES:
        return None
    data = read_xml(path, FORM) if path.suffix.lower() == ".xml" else read_yaml(path, FORM)
    cameras = CameraReader(path, form=FORM, is_settings=True, y_up=y_up).read(data)
    if len(cameras) > 1:
        raise ValueError(f"{path}: expected one camera, got {len(cameras)} that differ")
    return cameras[0] if cameras else None
