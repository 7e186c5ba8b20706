"""Which camera a name such as `realsense:` or `oak:SERIAL` means."""

from __future__ import annotations

from collections.abc import Callable

from gradslam_ng.cameras.camera import LiveCamera
from gradslam_ng.cameras.oak import Oak
from gradslam_ng.cameras.realsense import RealSense

CAMERAS: dict[str, Callable[[str], LiveCamera]] = {"realsense": RealSense, "oak": Oak}


def is_camera(source: str) -> bool:
    """Whether a source is a live camera, not a file, a folder or a rendered scene."""
    kind, colon, _ = source.partition(":")
    return bool(colon) and kind in CAMERAS


def open_camera(source: str) -> LiveCamera:
    """The camera `KIND:` or `KIND:SERIAL`, opened.

    Raises:
        ValueError: another kind of source.
        ImportError: the library of that kind of camera is missing; says how to install it.
        CameraError: no such camera is plugged in, or it gives no frames.
    """
    if not is_camera(source):
        known = " or ".join(f"{kind}:" for kind in CAMERAS)
        raise ValueError(f"camera: expected {known}, with or without a serial number, got {source!r}")
    kind, _, serial = source.partition(":")
    return CAMERAS[kind](serial)
