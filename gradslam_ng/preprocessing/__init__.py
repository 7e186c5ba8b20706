"""Surface measurement: vertices, normals and noise of depth images, and their pyramids (Newcombe et al. 2011)."""

from gradslam_ng.preprocessing.pyramid import downsample
from gradslam_ng.preprocessing.surface import MAX_DEPTH, Noise, axial_noise, measure_surface, with_raw_vertices

__all__ = ["MAX_DEPTH", "Noise", "axial_noise", "downsample", "measure_surface", "with_raw_vertices"]
