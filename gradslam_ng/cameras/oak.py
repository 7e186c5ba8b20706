"""OAK cameras, by depthai 3: depth of the stereo pair, registered to undistorted color on the device."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import numpy as np
import torch

from gradslam_ng.cameras.camera import PATIENCE, CameraError, LiveCamera, Shot
from gradslam_ng.io.optional_import import import_optional

SIZE = (400, 640)  # image height and width, the stereo pair's own shape
RATE = 30  # frames a second
COLOR, DEPTH = "color", "depth"
APART = timedelta(milliseconds=17)  # color and depth of one shot at most


class Oak(LiveCamera):
    """An OAK camera with a color camera and a stereo pair. Written by depthai's documentation, and tried on its
    messages, not on a device: none was at hand.

    Args:
        serial: number of the camera, or its address; default: the first that is found.

    Raises:
        ImportError: depthai is missing.
        CameraError: no such camera, or it gives no frames.
    """

    kind = "oak"
    size = SIZE
    depth_scale = 1000.0

    def __init__(self, serial: str = "") -> None:
        os.environ.setdefault("DEPTHAI_LEVEL", "error")  # its warnings are of the machine, before any error of ours
        depthai = import_optional("depthai", user="oak:", extra="oak")
        try:
            device = depthai.Device(serial) if serial else depthai.Device()
            self.pipeline = depthai.Pipeline(device)
            self.queue = connect(depthai, self.pipeline, is_rvc4=device.getPlatform() == depthai.Platform.RVC4)
            self.name = device.getProductName()
            socket, (height, width) = depthai.CameraBoardSocket.CAM_A, SIZE
            self.K = torch.tensor(device.readCalibration().getCameraIntrinsics(socket, width, height))
            self.pipeline.start()
        except RuntimeError as error:
            which = f"with serial number {serial}" if serial else "that is free"
            raise CameraError(f"oak: expected a camera {which}: {error}") from None

    def grab(self) -> Shot:
        try:
            group = self.queue.get(timedelta(seconds=PATIENCE))
        except RuntimeError as error:
            raise CameraError(f"{self.name}: gives no more frames, is it still plugged in? ({error})") from None
        if group is None:
            raise CameraError(f"{self.name}: no frame for {PATIENCE:g} s, is it still plugged in?")
        return as_shot(group)

    def close(self) -> None:
        self.pipeline.stop()


def connect(depthai: Any, pipeline: Any, is_rvc4: bool) -> Any:
    """The nodes of a pipeline, and the queue of their registered images. RVC4 devices align in a node of its own."""
    sockets, (height, width) = depthai.CameraBoardSocket, SIZE
    color = pipeline.create(depthai.node.Camera).build(sockets.CAM_A)
    color_out = color.requestOutput(
        (width, height), type=depthai.ImgFrame.Type.RGB888i, fps=RATE, enableUndistortion=True
    )
    pair = [pipeline.create(depthai.node.Camera).build(socket) for socket in (sockets.CAM_B, sockets.CAM_C)]
    left, right = (camera.requestOutput((width, height), fps=RATE) for camera in pair)
    stereo = pipeline.create(depthai.node.StereoDepth).build(left, right)
    sync = pipeline.create(depthai.node.Sync)
    sync.setSyncThreshold(APART)
    if is_rvc4:
        align = pipeline.create(depthai.node.ImageAlign)
        stereo.depth.link(align.input)
        color_out.link(align.inputAlignTo)
        align.outputAligned.link(sync.inputs[DEPTH])
    else:
        color_out.link(stereo.inputAlignTo)
        stereo.depth.link(sync.inputs[DEPTH])
    color_out.link(sync.inputs[COLOR])
    return sync.out.createOutputQueue(maxSize=1, blocking=False)


def as_shot(group: Any) -> Shot:
    """A message with color and depth, millimeters."""
    color, depth = group[COLOR], group[DEPTH]
    seconds = color.getTimestamp().total_seconds()
    return Shot(seconds, np.array(color.getFrame(), np.uint8), np.array(depth.getFrame(), np.uint16))
