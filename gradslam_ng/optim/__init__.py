"""Differentiable least squares: any problem that can linearise itself, solved by a rule for its steps."""

from gradslam_ng.optim.problem import Linearization, Problem
from gradslam_ng.optim.solve import Solution, solve
from gradslam_ng.optim.steps import GaussNewton, LevenbergMarquardt, SoftLevenbergMarquardt

__all__ = [
    "GaussNewton",
    "LevenbergMarquardt",
    "Linearization",
    "Problem",
    "SoftLevenbergMarquardt",
    "Solution",
    "solve",
]
