"""The back end: factor graphs, pose graphs, smoothing, loop closure."""

from gradslam_ng.backend.graph import Factor, FactorGraph, GraphSolution

__all__ = ["Factor", "FactorGraph", "GraphSolution"]
