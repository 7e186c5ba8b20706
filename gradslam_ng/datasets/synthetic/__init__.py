"""Rooms of analytic solids, ray-traced: sequences with exact depth, poses and surface. And what disturbs a camera."""

from gradslam_ng.datasets.synthetic.corruptions import Cover, Disturbed, Dropout, GainDrift, Joined, put_back
from gradslam_ng.datasets.synthetic.moving_object import Visited
from gradslam_ng.datasets.synthetic.sequence import Synthetic

__all__ = ["Cover", "Disturbed", "Dropout", "GainDrift", "Joined", "Synthetic", "Visited", "put_back"]
