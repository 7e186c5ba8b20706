"""Planning and control, differentiated implicitly: linear-quadratic and model predictive control."""

from gradslam_ng.planning.cem import CEMResult, cem, soft_top_k
from gradslam_ng.planning.dare import dare
from gradslam_ng.planning.dynamics import Cartpole, Pendulum, Unicycle
from gradslam_ng.planning.lqr import LQRSolution, lqr
from gradslam_ng.planning.mpc import MPC, MPCSolution
from gradslam_ng.planning.stages import Dynamics, LinearDynamics, QuadraticCost, StageCost

__all__ = [
    "MPC",
    "CEMResult",
    "Cartpole",
    "Dynamics",
    "LQRSolution",
    "LinearDynamics",
    "MPCSolution",
    "Pendulum",
    "QuadraticCost",
    "StageCost",
    "Unicycle",
    "cem",
    "dare",
    "lqr",
    "soft_top_k",
]
