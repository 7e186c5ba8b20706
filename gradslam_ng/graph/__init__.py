"""Factor graphs: variables, residuals, robust kernels, pose graphs in g2o format, fixed-lag smoothing."""

from gradslam_ng.graph import residuals
from gradslam_ng.graph.factor import Factor
from gradslam_ng.graph.factor_graph import FactorGraph, GraphSolution
from gradslam_ng.graph.gnc import graduated_non_convexity
from gradslam_ng.graph.learning import negative_log_likelihood, surrogate_loss
from gradslam_ng.graph.smoother import Smoother

__all__ = [
    "Factor",
    "FactorGraph",
    "GraphSolution",
    "Smoother",
    "graduated_non_convexity",
    "negative_log_likelihood",
    "residuals",
    "surrogate_loss",
]
