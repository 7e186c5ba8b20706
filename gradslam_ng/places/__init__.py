"""Place recognition: keyframes, descriptors, geometric verification, relocalization."""

from gradslam_ng.places.consistency import Consistency, compare_views
from gradslam_ng.places.feature_alignment import estimate_motion, locate
from gradslam_ng.places.features import FeatureFrame, LocalFeatures, sift
from gradslam_ng.places.keyframes import Keyframes, tiny_image_descriptor
from gradslam_ng.places.relocalization import Relocalizer
from gradslam_ng.places.search_turns import SearchTurns, in_turn
from gradslam_ng.places.verification import PlaceMatch, PlaceVerifier

__all__ = [
    "Consistency",
    "FeatureFrame",
    "Keyframes",
    "LocalFeatures",
    "PlaceMatch",
    "PlaceVerifier",
    "Relocalizer",
    "SearchTurns",
    "compare_views",
    "estimate_motion",
    "in_turn",
    "locate",
    "sift",
    "tiny_image_descriptor",
]
