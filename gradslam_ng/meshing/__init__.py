"""Surface extraction: marching cubes, and conversions between surfels and signed distances."""

from gradslam_ng.meshing.marching_cubes import surface, surfels, volume

__all__ = ["surface", "surfels", "volume"]
