"""Rendering: pictures of surfel maps, ray casting of volumes, and the views that tracking expects of either."""

from gradslam_ng.rendering.prediction import predict_surfels, predict_surfels_softly, predict_volume
from gradslam_ng.rendering.raycast import RayCast, raycast
from gradslam_ng.rendering.surfels import Rendering, render

__all__ = ["RayCast", "Rendering", "predict_surfels", "predict_surfels_softly", "predict_volume", "raycast", "render"]
