"""Trajectory and surface metrics: ATE, RPE, accuracy, completion and F-score."""

from gradslam_ng.evaluation.alignment import align, associate
from gradslam_ng.evaluation.ate import ATE, ate
from gradslam_ng.evaluation.mesh import sample_mesh
from gradslam_ng.evaluation.rpe import RPE, rpe
from gradslam_ng.evaluation.statistics import Statistics
from gradslam_ng.evaluation.surface import SurfaceErrors, seen_samples, surface

__all__ = [
    "ATE",
    "RPE",
    "Statistics",
    "SurfaceErrors",
    "align",
    "associate",
    "ate",
    "rpe",
    "sample_mesh",
    "seen_samples",
    "surface",
]
