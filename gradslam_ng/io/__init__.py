"""File formats: PLY, and in `io.text` the reader of all text files."""

from gradslam_ng.io.ply import read_ply, write_ply

__all__ = ["read_ply", "write_ply"]
