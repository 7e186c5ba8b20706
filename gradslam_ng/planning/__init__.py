"""Planning and control, differentiated implicitly: linear-quadratic and model predictive control."""

from gradslam_ng.planning.dare import dare
from gradslam_ng.planning.lqr import LQRSolution, lqr

__all__ = [
    "LQRSolution",
    "dare",
    "lqr",
]
