"""How a map becomes an image."""

from gradslam_ng.rendering.raycast import RayCast, raycast
from gradslam_ng.rendering.surfels import Rendering, predict, render

__all__ = ["RayCast", "Rendering", "predict", "raycast", "render"]
