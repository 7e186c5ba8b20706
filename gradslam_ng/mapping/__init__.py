"""How a frame joins the map."""

from gradslam_ng.mapping.aggregate import Aggregate
from gradslam_ng.mapping.fusion import PointFuser

__all__ = ["Aggregate", "PointFuser"]
