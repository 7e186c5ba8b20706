"""Surface extraction: marching cubes, and conversions between surfels and signed distances, smaller meshes."""

from gradslam_ng.meshing.conversions import surfels_to_tsdf, tsdf_to_surfels
from gradslam_ng.meshing.marching_cubes import marching_cubes
from gradslam_ng.meshing.simplification import decimate, remove_small_components
from gradslam_ng.meshing.texturing import bake_texture

__all__ = [
    "bake_texture",
    "decimate",
    "marching_cubes",
    "remove_small_components",
    "surfels_to_tsdf",
    "tsdf_to_surfels",
]
