"""Mapping: aggregation, point fusion, and integration into truncated signed distances."""

from gradslam_ng.mapping.aggregate import Aggregate
from gradslam_ng.mapping.mapper import Mapper
from gradslam_ng.mapping.point_fusion import PointFuser
from gradslam_ng.mapping.tsdf import TSDFFuser, integrate

__all__ = ["Aggregate", "Mapper", "PointFuser", "TSDFFuser", "integrate"]
