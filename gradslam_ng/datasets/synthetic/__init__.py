"""Rooms of analytic solids, ray-traced: sequences with exact depth, poses and surface. And what disturbs a camera."""

from gradslam_ng.datasets.synthetic.disturbances import Cover, Disturbed, Dropout, GainDrift, Joined, put_back
from gradslam_ng.datasets.synthetic.sequence import Synthetic
from gradslam_ng.datasets.synthetic.visitor import Visited

__all__ = ["Cover", "Disturbed", "Dropout", "GainDrift", "Joined", "Synthetic", "Visited", "put_back"]
