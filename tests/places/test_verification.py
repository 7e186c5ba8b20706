"""A frame is located in a map where it fits, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.places.verification import PlaceVerifier
from gradslam_ng.rendering import predict_surfels


def turned(yaw: float, x: float = 0.0) -> torch.Tensor:
    return se3.exp(torch.tensor([x, 0, 0, 0, yaw, 0], dtype=torch.float64))


def locate(verifier, live, before, T_wm, T_wc):
    """The frame in a map, of which the view from T_wm is taken first, expected at T_wc (4, 4)."""
    K, size = live.surface.K, live.surface.size
    return verifier.locate(
        live,
        partial(predict_surfels, before, K=K, size=size, stable_confidence=1.0),
        T_wm.float()[None],
        T_wc.float()[None],
    )


def test_a_frame_is_found_in_an_earlier_pass(seen):
    live, _ = seen(turned(0.3, 0.05))
    _, before = seen(turned(0.3))
    verifier = PlaceVerifier.for_loop_closure(max_sigma=(1.0, 45.0))
    match = locate(verifier, live, before, turned(0.3), turned(0.33, 0.03))
    assert match is not None and match.consistency.coverage > 0.8 and match.consistency.intensity_ncc > 0.9
    meters, radians = se3.distance(match.T_wc[0].double(), turned(0.3, 0.05))
    assert meters < 0.01 and radians < 0.01
    assert locate(verifier, live, before, turned(0.3), turned(2.0)) is None  # looks elsewhere
    dark = replace(live, color=1 - live.color)
    assert locate(verifier, dark, before, turned(0.3), turned(0.33, 0.03)) is None  # shaped alike, colored unlike


def test_each_threshold_of_a_place_holds(seen):
    """A frame and the map there, whose figures are known: each threshold just below passes, just above does not."""
    live, _ = seen(turned(0.3, 0.05))
    _, before = seen(turned(0.3))
    found = locate(PlaceVerifier.for_relocalization(), live, before, turned(0.3), turned(0.3))
    covered, inliers, ncc = found.consistency
    assert found.consistency.overlap == covered * inliers < 1
    for name, value in {
        "coverage": covered,
        "depth_inliers": inliers,
        "overlap": covered * inliers,
        "ncc": ncc,
    }.items():
        for threshold, holds in ((value - 1e-6, True), (value + 1e-6, False)):
            verifier = PlaceVerifier.for_relocalization(**{name: threshold})
            assert (locate(verifier, live, before, turned(0.3), turned(0.3)) is not None) == holds, name


def test_a_flat_wall_closes_no_loop():
    """Depth constrains three directions of six; where color adds nothing, no loop is closed."""
    K = torch.tensor([[64.0, 0, 39.5], [0, 64.0, 29.5], [0, 0, 1]])
    plain = gs.RGBDFrames(torch.full((60, 80, 3), 0.5), torch.full((60, 80, 1), 1.5), K)
    system = gs.PointFusion()
    with torch.no_grad():
        state = system.step(None, plain)
        live = system.preprocess(plain)
        still = torch.eye(4, dtype=torch.float64)
        strict, loose = (
            PlaceVerifier.for_loop_closure(ncc=-1.0, **more) for more in ({}, {"max_sigma": (99.0, 9999.0)})
        )
        assert locate(strict, live, state.map, still, still) is None
        assert locate(loose, live, state.map, still, still) is not None
