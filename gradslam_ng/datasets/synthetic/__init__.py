"""Rooms of analytic solids, ray-traced: sequences with exact depth, poses and surface. And image corruptions."""

from gradslam_ng.datasets.synthetic.corruptions import Concatenated, Corrupted, Dropout, GainDrift, LensCover, put_back
from gradslam_ng.datasets.synthetic.miscalibrated import Miscalibrated
from gradslam_ng.datasets.synthetic.moving_object import WithMovingObject
from gradslam_ng.datasets.synthetic.sequence import Synthetic

__all__ = [
    "Concatenated",
    "Corrupted",
    "Dropout",
    "GainDrift",
    "LensCover",
    "Miscalibrated",
    "Synthetic",
    "WithMovingObject",
    "put_back",
]
