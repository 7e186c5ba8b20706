"""The cameras found, as a file that `run --camera` takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from gradslam_ng.calibration.calibrate import Calibration
from gradslam_ng.datasets.intrinsics import CameraFile, ColorCamera
from gradslam_ng.datasets.intrinsics_json import format_camera
from gradslam_ng.datasets.sequence import RGBDSequence


def describe_cameras(found: Calibration, sequence: RGBDSequence) -> dict[str, Any]:
    """The cameras found in a recording, for `json.dumps`; where their scale was found, and the recording's depth has
    units to tell it by, in meters of that scale."""
    cameras = found.cameras
    scale = 1.0 if found.scale is None or sequence.depth_scale is None else found.scale.factor
    T_color_depth = cameras.T_color_depth.clone()
    T_color_depth[:3, 3] *= scale
    before = None if sequence.rectification is None else sequence.rectification.camera
    corrected = (before and before.depth_distortion) or (0.0, 0.0)  # on loading
    distortion = (cameras.depth_distortion + torch.tensor(corrected, dtype=torch.float64, device="cpu")) / scale
    told_offset = 0.0 if before is None else before.time_offset
    color = ColorCamera(cameras.K_color, T_color_depth, sequence.size)
    file = CameraFile(
        cameras.K_depth,
        sequence.size,
        depth_scale=sequence.depth_scale and sequence.depth_scale / scale,
        color=color,
        time_offset=round(told_offset - float(cameras.time_offset), 9),
        depth_distortion=(float(distortion[0]), float(distortion[1])),
    )
    if before is not None:  # lenses are undone before anything else
        told = ColorCamera(color.K, color.T_color_depth, sequence.size, before.distortion, before.lens_model)
        told = told if before.color is None else before.color
        color = replace(color, size=told.size, distortion=told.distortion, lens_model=told.lens_model)
        file = replace(file, color=color, distortion=before.distortion, lens_model=before.lens_model)
    return format_camera(file)
