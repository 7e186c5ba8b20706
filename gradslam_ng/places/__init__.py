"""Place recognition: keyframes, descriptors, geometric verification, relocalization."""

from gradslam_ng.places.consistency import Consistency, compare_views
from gradslam_ng.places.keyframes import Keyframes, tiny_image_descriptor
from gradslam_ng.places.relocalization import Relocalizer
from gradslam_ng.places.verification import PlaceMatch, PlaceVerifier

__all__ = [
    "Consistency",
    "Keyframes",
    "PlaceMatch",
    "PlaceVerifier",
    "Relocalizer",
    "compare_views",
    "tiny_image_descriptor",
]
