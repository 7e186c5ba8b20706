"""The back end: factor graphs, pose graphs, smoothing, loop closure."""

from gradslam_ng.backend.factor import Factor
from gradslam_ng.backend.graph import FactorGraph, GraphSolution
from gradslam_ng.backend.learning import negative_log_likelihood, surrogate_loss
from gradslam_ng.backend.loops import Loop, LoopCloser
from gradslam_ng.backend.robust import graduated
from gradslam_ng.backend.smoother import Smoother
from gradslam_ng.backend.volumes import Reintegration, VolumeLoopCloser

__all__ = [
    "Factor",
    "FactorGraph",
    "GraphSolution",
    "Loop",
    "LoopCloser",
    "Reintegration",
    "Smoother",
    "VolumeLoopCloser",
    "graduated",
    "negative_log_likelihood",
    "surrogate_loss",
]
