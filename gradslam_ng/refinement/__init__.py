"""Global refinement after a run: direct bundle adjustment of keyframes and surfels."""

from gradslam_ng.refinement.bundle_adjustment import BundleAdjustment, Surfels
from gradslam_ng.refinement.global_refinement import Refinement, refine
from gradslam_ng.refinement.observations import Observations

__all__ = ["BundleAdjustment", "Observations", "Refinement", "Surfels", "refine"]
