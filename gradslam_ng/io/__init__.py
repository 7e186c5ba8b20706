"""File formats: PLY."""

from gradslam_ng.io.ply import read_ply, write_ply

__all__ = ["read_ply", "write_ply"]
