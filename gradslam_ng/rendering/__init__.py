"""How a map becomes an image."""

from gradslam_ng.rendering.surfels import Rendering, predict, render

__all__ = ["Rendering", "predict", "render"]
