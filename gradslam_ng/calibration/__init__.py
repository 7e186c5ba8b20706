"""Self-calibration of a depth and a color camera from a recording."""

from gradslam_ng.calibration.calibrate import Calibration, calibrate_sequence
from gradslam_ng.calibration.cameras import CameraPair
from gradslam_ng.calibration.scale import Scale

__all__ = ["Calibration", "CameraPair", "Scale", "calibrate_sequence"]
