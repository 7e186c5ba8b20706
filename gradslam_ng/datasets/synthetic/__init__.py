"""Rooms of analytic solids, ray-traced: sequences with exact depth, poses and surface."""

from gradslam_ng.datasets.synthetic.sequence import Synthetic

__all__ = ["Synthetic"]
