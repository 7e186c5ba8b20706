"""Factor graphs: variables, residuals, robust kernels, pose graphs in g2o format, fixed-lag smoothing."""

from gradslam_ng.graph import g2o, residuals
from gradslam_ng.graph.chordal import chordal_initialization
from gradslam_ng.graph.edges import Edge, add_edges
from gradslam_ng.graph.factor import Factor
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.graph.gnc import graduated_non_convexity
from gradslam_ng.graph.learning import negative_log_likelihood, surrogate_loss
from gradslam_ng.graph.residuals import Residual
from gradslam_ng.graph.smoother import Smoother
from gradslam_ng.graph.solution import GraphSolution

__all__ = [
    "Edge",
    "Factor",
    "FactorGraph",
    "GraphSolution",
    "Residual",
    "Smoother",
    "add_edges",
    "chordal_initialization",
    "g2o",
    "graduated_non_convexity",
    "negative_log_likelihood",
    "residuals",
    "surrogate_loss",
]
