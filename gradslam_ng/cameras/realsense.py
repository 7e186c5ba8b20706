"""RealSense cameras, by pyrealsense2: color registered to depth, whose camera has no distortion to speak of."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from gradslam_ng.cameras.camera import PATIENCE, CameraError, LiveCamera, Shot
from gradslam_ng.io.optional_import import import_optional

log = logging.getLogger("gradslam_ng")
RATE = 30  # frames a second


class RealSense(LiveCamera):
    """A RealSense camera at the resolution that it takes by default.

    Args:
        serial: number of the camera; default: the first that is found.
        device: of pyrealsense2, in place of one that is plugged in, such as a `software_device`.

    Raises:
        ImportError: pyrealsense2 is missing.
        CameraError: no such camera, or it gives no frames.
    """

    kind = "realsense"

    def __init__(self, serial: str = "", *, device: Any = None) -> None:
        rs = import_optional("pyrealsense2", user="realsense:", extra="realsense")
        self.pipeline, config = rs.pipeline(), rs.config()
        if device is not None:
            self.pipeline.set_device(device)
        if serial:
            config.enable_device(serial)
        config.enable_stream(rs.stream.depth, rs.format.z16, RATE)
        config.enable_stream(rs.stream.color, rs.format.rgb8, RATE)
        which = f"with serial number {serial}" if serial else "that is plugged in"
        if device is None and not config.can_resolve(rs.pipeline_wrapper(self.pipeline)):  # start would wait for one
            raise CameraError(f"realsense: expected a camera {which}, with streams of depth and color; found none")
        try:
            profile = self.pipeline.start(config)
        except RuntimeError as error:
            raise CameraError(f"realsense: expected a camera {which} and free: {error}") from None
        self.align = rs.align(rs.stream.depth)
        self.name = profile.get_device().get_info(rs.camera_info.name)
        camera = profile.get_stream(rs.stream.depth).as_video_stream_profile().get_intrinsics()
        if any(camera.coeffs):
            log.warning("%s: the distortion of its depth, %s, is not corrected", self.name, list(camera.coeffs))
        self.K = torch.tensor([[camera.fx, 0, camera.ppx], [0, camera.fy, camera.ppy], [0, 0, 1]])
        self.size = (camera.height, camera.width)
        self.depth_scale = 1 / self._wait()[0].get_units()
        self.last = -1  # number of the last depth frame

    def grab(self) -> Shot:
        depth, color = self._wait()
        while depth.get_frame_number() == self.last:  # librealsense pairs a depth anew with each color that comes
            depth, color = self._wait()
        self.last = depth.get_frame_number()
        pixels, units = (np.asanyarray(each.get_data()).copy() for each in (color, depth))  # theirs are used again
        return Shot(depth.get_timestamp() / 1000, pixels, units)

    def close(self) -> None:
        self.pipeline.stop()

    def _wait(self) -> tuple[Any, Any]:
        """The next depth and color frame, registered."""
        try:
            frames = self.align.process(self.pipeline.wait_for_frames(round(1000 * PATIENCE)))
        except RuntimeError as error:
            text = f"{self.name}: no frame for {PATIENCE:g} s, is it still plugged in? ({error})"
            raise CameraError(text) from None
        return frames.get_depth_frame(), frames.get_color_frame()
