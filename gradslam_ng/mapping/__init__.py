"""How a frame joins the map."""

from gradslam_ng.mapping.aggregate import Aggregate
from gradslam_ng.mapping.point_fusion import PointFuser
from gradslam_ng.mapping.tsdf import TSDFFuser

__all__ = ["Aggregate", "PointFuser", "TSDFFuser"]
