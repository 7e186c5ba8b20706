"""Differentiable nonlinear least squares: problems, step strategies, robust kernels, linear solvers."""

from gradslam_ng.optim.compose import Checkpointed, Subspace, Sum, Term
from gradslam_ng.optim.costs import Cost, DiagonalWeight, FullWeight, IsotropicWeight, LeastSquares
from gradslam_ng.optim.implicit import dense_inverse, differentiate_root
from gradslam_ng.optim.kernels import Barron, Cauchy, GemanMcClure, Huber, Kernel, Tukey
from gradslam_ng.optim.problem import Linearization, Problem
from gradslam_ng.optim.solve import BACKWARD, Solution, solve
from gradslam_ng.optim.sparse import BlockSparse, Pattern
from gradslam_ng.optim.steps import GaussNewton, LevenbergMarquardt, SoftLevenbergMarquardt, StepStrategy
from gradslam_ng.optim.variables import SE2, SE3, SO3, Euclidean, Product, TensorVariable, Variable

__all__ = [
    "BACKWARD",
    "SE2",
    "SE3",
    "SO3",
    "Barron",
    "BlockSparse",
    "Cauchy",
    "Checkpointed",
    "Cost",
    "DiagonalWeight",
    "Euclidean",
    "FullWeight",
    "GaussNewton",
    "GemanMcClure",
    "Huber",
    "IsotropicWeight",
    "Kernel",
    "LeastSquares",
    "LevenbergMarquardt",
    "Linearization",
    "Pattern",
    "Problem",
    "Product",
    "SoftLevenbergMarquardt",
    "Solution",
    "StepStrategy",
    "Subspace",
    "Sum",
    "TensorVariable",
    "Term",
    "Tukey",
    "Variable",
    "dense_inverse",
    "differentiate_root",
    "solve",
]
