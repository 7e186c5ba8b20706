"""Self-calibration of a depth and a color camera from a recording."""

from gradslam_ng.calibration.calibrate import Calibration, calibrate_sequence
from gradslam_ng.calibration.cameras import CameraPair

__all__ = ["Calibration", "CameraPair", "calibrate_sequence"]
