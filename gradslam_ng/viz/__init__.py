"""Pictures of trajectories and maps."""

from gradslam_ng.viz.plots import plot_trajectory
from gradslam_ng.viz.snapshot import snapshot
from gradslam_ng.viz.viewer import view

__all__ = ["plot_trajectory", "snapshot", "view"]
