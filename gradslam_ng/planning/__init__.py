"""Planning and control, differentiated implicitly: occupancy and distances of maps, paths on grids, linear-quadratic
and model predictive control, harmonic functions, and the cross-entropy method."""

from gradslam_ng.planning.absorbing_chain import AbsorbingChain
from gradslam_ng.planning.cem import CEMResult, cem, soft_top_k
from gradslam_ng.planning.clearance import clearance_cost, path_clearance
from gradslam_ng.planning.controller import Controller
from gradslam_ng.planning.convolutional_planners import VIN, ConvGPPN, ConvolutionalPlan, ConvolutionalPlanner
from gradslam_ng.planning.dare import dare
from gradslam_ng.planning.distance_field import DistanceField
from gradslam_ng.planning.dynamics import Cartpole, Pendulum, Unicycle
from gradslam_ng.planning.esdf import ESDF, esdf
from gradslam_ng.planning.ground import estimate_floor, estimate_up
from gradslam_ng.planning.harmonic import Potential, ResistorGrid
from gradslam_ng.planning.lqr import LQRSolution, lqr
from gradslam_ng.planning.mpc import MPC, MPCSolution
from gradslam_ng.planning.occupancy import Occupancy
from gradslam_ng.planning.policy_iteration import Policy, policy_iteration
from gradslam_ng.planning.safe_path import NoWayError, SafePath, safe_path
from gradslam_ng.planning.shortest_path import ShortestPath, shortest_path
from gradslam_ng.planning.smoothing import SmoothPath, smooth
from gradslam_ng.planning.stages import Dynamics, LinearDynamics, QuadraticCost, StageCost
from gradslam_ng.planning.travel_time import TravelTime, travel_time
from gradslam_ng.planning.value_iteration import ValueIteration, Values
from gradslam_ng.planning.views import NextView, Uncertainty, information, next_best_view

__all__ = [
    "ESDF",
    "MPC",
    "VIN",
    "AbsorbingChain",
    "CEMResult",
    "Cartpole",
    "Controller",
    "ConvGPPN",
    "ConvolutionalPlan",
    "ConvolutionalPlanner",
    "DistanceField",
    "Dynamics",
    "LQRSolution",
    "LinearDynamics",
    "MPCSolution",
    "NextView",
    "NoWayError",
    "Occupancy",
    "Pendulum",
    "Policy",
    "Potential",
    "QuadraticCost",
    "ResistorGrid",
    "SafePath",
    "ShortestPath",
    "SmoothPath",
    "StageCost",
    "TravelTime",
    "Uncertainty",
    "Unicycle",
    "ValueIteration",
    "Values",
    "cem",
    "clearance_cost",
    "dare",
    "esdf",
    "estimate_floor",
    "estimate_up",
    "information",
    "lqr",
    "next_best_view",
    "path_clearance",
    "policy_iteration",
    "safe_path",
    "shortest_path",
    "smooth",
    "soft_top_k",
    "travel_time",
]
