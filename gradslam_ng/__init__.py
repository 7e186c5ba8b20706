"""gradslam_ng: dense RGB-D SLAM as one differentiable PyTorch program."""

from gradslam_ng.structures import RGBDFrames, Trajectory

__version__ = "0.1.0"
__all__ = ["RGBDFrames", "Trajectory"]
