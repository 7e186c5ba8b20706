"""Pure functions on tensors: rotations, rigid motions, the pinhole camera and lenses, depth and color images."""

from gradslam_ng.geometry import camera, depth_noise, images, lens, registration, se2, se3, so3

__all__ = ["camera", "depth_noise", "images", "lens", "registration", "se2", "se3", "so3"]
