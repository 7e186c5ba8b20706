"""Surface extraction: marching cubes, and conversions between surfels and signed distances."""

from gradslam_ng.meshing.conversions import surfels_to_tsdf, tsdf_to_surfels
from gradslam_ng.meshing.marching_cubes import marching_cubes

__all__ = ["marching_cubes", "surfels_to_tsdf", "tsdf_to_surfels"]
