"""Whether a map repeats itself: then how well a view fits a place does not tell where it was seen."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.places.feature_alignment import estimate_motion
from gradslam_ng.places.keyframes import Keyframes

DRIFT = 0.5, 0.25  # meters and radians that poses drift by within a map: what differs by more is another place
NEAR = 3  # keyframes around a place that are asked
ELSEWHERE = 6  # others that each is compared with, the most similar of those farther away than `REACH`
REACH = 0.6, 0.7  # meters and radians over which views of one place are similar


def is_within(T_a: Tensor, T_b: Tensor, most: tuple[float, float]) -> Tensor:
    """Whether poses (..., 4, 4) are less than so many meters and radians apart, (...) bool."""
    meters, radians = se3.distance(T_a, T_b)
    return (meters < most[0]) & (radians < most[1])


def repeats(
    keyframes: Keyframes,
    T_wc: Tensor,  # (4, 4) float64
) -> bool:
    """Whether another place of a map looks like the one at T_wc.

    Local features of keyframes around it and of others say a motion between them: that which the map knows, or, where
    what is seen repeats, another one.
    """
    poses, count = keyframes.poses, min(NEAR, len(keyframes))
    meters, radians = keyframes.distances(T_wc)
    descriptors = torch.stack(keyframes.descriptors)
    for k in (meters / REACH[0] + radians / REACH[1]).topk(count, largest=False).indices.tolist():
        similar = torch.where(
            is_within(poses, poses[k], REACH).to(descriptors.device), -2.0, descriptors @ descriptors[k]
        )
        values, others = similar.topk(min(ELSEWHERE, len(keyframes)))
        for n in others[values > -2.0].tolist():
            motion = estimate_motion(keyframes.images[k].features, keyframes.images[n].features)
            if motion is not None and not bool(is_within(poses[k] @ motion.T_ab.to(poses), poses[n], DRIFT)):
                return True
    return False
