"""Pure functions on tensors: rotations, rigid motions, the pinhole camera, depth and color images."""

from gradslam_ng.geometry import camera, depth_noise, images, se2, se3, so3

__all__ = ["camera", "depth_noise", "images", "se2", "se3", "so3"]
