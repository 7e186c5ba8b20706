"""Plots of trajectories and pose graphs, snapshots of maps, a page in the browser, and an interactive viewer."""

from gradslam_ng.viz.plots import plot_trajectory
from gradslam_ng.viz.show import show
from gradslam_ng.viz.snapshot import snapshot
from gradslam_ng.viz.viewer import view

__all__ = ["plot_trajectory", "show", "snapshot", "view"]
