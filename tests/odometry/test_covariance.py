"""The covariance says how far off a pose is, and the reasons say why one is not to be trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradslam_ng.geometry import depth_noise, se3
from gradslam_ng.odometry import ProjectiveICP, TrackingStatus
from gradslam_ng.odometry.degeneracy import analyze_degeneracy
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import LiveFrame, RGBDFrames, SurfaceView

DRAWS = 40


@pytest.fixture(scope="module")
def disturbed(room) -> tuple[LiveFrame, SurfaceView, torch.Tensor, torch.Tensor]:
    """A view with 40 draws of depth and color noise, the clean one before it, and where the two were seen from."""
    T, generator = room.walk(9), torch.Generator().manual_seed(0)
    before, now = room.view(T[:1], (120, 160)), room.view(T[4:5], (120, 160))

    def drawn(image: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        noise = torch.randn(DRAWS, *image.shape[1:], generator=generator)
        return image + sigma * noise

    depth, color = drawn(now.depth, depth_noise.axial_sigma(now.depth)), drawn(now.color, 0.01).clamp(0, 1)
    live = measure_surface(RGBDFrames(color, depth, now.K.expand(DRAWS, 3, 3)))
    model = measure_surface(before).surface.map(lambda image: image.expand(DRAWS, *image.shape[1:]))
    return live, model, T[:1].float(), T[4:5]


@pytest.mark.parametrize("settings", [{"photometric": False}, {"photometric": False, "row_stride": 1}, {}], ids=str)
def test_the_covariance_is_that_of_the_errors(disturbed, settings):
    """The mean of 40 squared errors of six dimensions, normalized, lies within 6 +- 1.1, 95% of them would."""
    live, model, T_wm, T_wc = disturbed
    start = T_wm.expand(DRAWS, 4, 4)
    found = ProjectiveICP(iterations=(6, 6, 6), **settings)(live, model.with_pose(start), start)
    error = se3.log(se3.inverse(T_wc) @ found.T_wc.double())
    squared = (error[:, None] @ torch.linalg.inv(found.covariance.double()) @ error[..., None]).flatten()
    assert found.ok.all() and 4.9 < squared.mean() < 7.1


def test_the_covariance_follows_the_noise_found_not_that_assumed(disturbed):
    live, model, T_wm, _ = disturbed
    start = T_wm.expand(DRAWS, 4, 4)
    icp = ProjectiveICP(iterations=(6, 6, 6), photometric=False)
    found, doubted = (
        icp(replace(live, sigma=factor * live.sigma), model.with_pose(start), start).covariance for factor in (1.0, 3.0)
    )
    trace, of_doubted = (x.diagonal(dim1=-2, dim2=-1).sqrt().mean() for x in (found, doubted))
    assert 0.7 < of_doubted / trace < 1.5  # 3, if it were taken at its word


def test_scores_of_blocks_add_up_to_the_gradient(room):
    """Images that no number of blocks divides, and every second row."""
    live = measure_surface(room.view(room.walk(2)[1:], (61, 83), torch.float64))
    model = measure_surface(room.view(room.walk(2)[:1], (61, 83), torch.float64)).surface
    still = torch.eye(4, dtype=torch.float64)[None]
    icp = ProjectiveICP()
    level = icp.build_level(live, live.surface, model.with_pose(still))
    photometric = icp.photometric_factor(level, still)
    for factor, scores in (
        (level.geometry, level.geometry.evaluate(still)[-1]),
        (photometric, photometric.evaluate(still)[-1]),
    ):
        assert torch.allclose(scores.sum(1), factor.linearize(still)[1], rtol=1e-9) and scores.shape == (1, 20, 6)


def test_a_bare_wall_leaves_three_directions_open():
    """They keep the motion that was expected, the others do not."""
    K = torch.tensor([[[64.0, 0, 39.5], [0, 64.0, 29.5], [0, 0, 1]]], dtype=torch.float64)

    def wall(distance: float) -> LiveFrame:
        depth = torch.full((1, 60, 80, 1), distance, dtype=torch.float64)
        noise = 0.001 * torch.randn(depth.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return measure_surface(RGBDFrames(torch.full((1, 60, 80, 3), 0.5, dtype=torch.float64), depth + noise, K))

    still = torch.eye(4, dtype=torch.float64)[None]
    expected = se3.exp(torch.tensor([[0.02, 0.01, 0.03, 0, 0, 0.01]], dtype=torch.float64))
    found = ProjectiveICP()(wall(1.98), wall(2.0).surface.with_pose(still), expected)
    assert found.status == TrackingStatus.DEGENERATE and found.ok
    xi = se3.log(found.T_wc @ se3.inverse(expected))[0]
    assert xi[[0, 1, 5]].abs().max() < 1e-3  # along the wall and about its normal
    assert abs(found.T_wc[0, 2, 3] - 0.02) < 1e-3  # across it
    sigma = found.covariance[0].diagonal().sqrt()
    assert sigma[2] < 1e-3 and sigma[:2].min() > 0.01


def test_what_is_fixed_does_not_depend_on_units_of_noise(room):
    """Nor is anything taken from a scene that fixes everything."""
    live = measure_surface(room.view(room.walk(1), (60, 80), torch.float64))
    seen = live.surface
    factor = ProjectiveICP().build_level(live, seen, seen).geometry
    H, _, _ = factor.linearize(torch.eye(4, dtype=torch.float64)[None])
    for scale in (1e-6, 1.0, 1e6):
        observed = analyze_degeneracy(scale * H, factor.total_information)
        assert observed.num_degenerate.abs() < 1e-6
        assert torch.allclose(observed.projection, torch.eye(6, dtype=torch.float64), atol=1e-6)
    nothing = analyze_degeneracy(torch.zeros_like(H), factor.total_information)
    assert nothing.num_degenerate == 6 and not nothing.projection.any() and nothing.covariance.isfinite().all()


def test_reasons(room):
    T = room.walk(2)
    live, model = measure_surface(room.view(T[1:])), measure_surface(room.view(T[:1])).surface
    start = T[:1].float()
    model = model.with_pose(start)
    empty = measure_surface(RGBDFrames(live.color, torch.zeros(1, 60, 80, 1), live.surface.K))
    assert ProjectiveICP()(empty, model, start).status == TrackingStatus.NO_DEPTH
    assert ProjectiveICP(min_overlap=1.0)(live, model, start).status == TrackingStatus.NO_OVERLAP
    assert ProjectiveICP(max_step=1e-6)(live, model, start).status == TrackingStatus.JUMP
    assert ProjectiveICP()(live, model, start).status == TrackingStatus.TRACKED


def test_the_better_of_two_starts_is_taken(room):
    """A camera that stopped is not where its velocity would have taken it."""
    T = room.walk(2)
    live, model = measure_surface(room.view(T[1:])), measure_surface(room.view(T[:1])).surface
    last, thrown = T[:1].float(), (T[:1] @ se3.exp(torch.tensor([0.2, 0.1, 0, 0, 0.3, 0]).double())).float()
    found = ProjectiveICP(iterations=(0, 0, 0), rotation_iterations=0, min_overlap=0.0)(
        live, model.with_pose(last), thrown, last
    )
    assert torch.allclose(found.T_wc, last, atol=1e-6)
