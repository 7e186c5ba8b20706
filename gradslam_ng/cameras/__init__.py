"""Live cameras: frames as they come, the newest one first, and recordings of them."""

from gradslam_ng.cameras.camera import CameraError, LiveCamera, Shot
from gradslam_ng.cameras.latest import LatestFrames, at_own_pace
from gradslam_ng.cameras.live_sequence import LiveSequence
from gradslam_ng.cameras.opening import CAMERAS, is_camera, open_camera
from gradslam_ng.cameras.recorder import Recorder

__all__ = [
    "CAMERAS",
    "CameraError",
    "LatestFrames",
    "LiveCamera",
    "LiveSequence",
    "Recorder",
    "Shot",
    "at_own_pace",
    "is_camera",
    "open_camera",
]
