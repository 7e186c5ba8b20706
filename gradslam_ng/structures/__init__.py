"""The nouns that flow through the house."""

from gradslam_ng.structures.frames import RGBDFrames
from gradslam_ng.structures.trajectory import Trajectory

__all__ = ["RGBDFrames", "Trajectory"]
