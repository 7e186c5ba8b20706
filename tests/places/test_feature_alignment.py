"""Motion from matched features: known answers, outliers, derivatives."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from gradslam_ng.geometry import camera, se3
from gradslam_ng.places import LocalFeatures, estimate_motion
from gradslam_ng.places.feature_alignment import fit_rigid, match, match_descriptors

K = torch.tensor([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
XI = torch.tensor([0.2, -0.1, 0.15, 0.1, -0.3, 0.05], dtype=torch.float64)


def pair(count: int = 200, outliers: float = 0.0, holes: float = 0.0, noise: float = 0.0) -> tuple:
    """Features of one scene seen from two cameras, and the motion T_ab (4, 4) between them."""
    generator = torch.Generator().manual_seed(1)
    rand = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    p_a = torch.cat([2 * rand(count, 2) - 1, 1.5 + 2 * rand(count, 1)], -1)
    T_ab = se3.exp(XI)
    p_b = se3.transform(se3.inverse(T_ab), p_a)
    wrong = rand(count) < outliers
    p_b = torch.where(wrong[:, None], p_b[torch.randperm(count, generator=generator)], p_b)
    descriptors = normalize(torch.randn(count, 32, generator=generator), dim=-1)

    def features(p):
        pixels = camera.project(p.float(), K)[0] + noise * torch.randn(count, 2, generator=generator)
        points = torch.where((rand(count) < holes)[:, None], 0.0, p).float()
        return LocalFeatures(pixels, points, torch.full((count,), 0.003), descriptors, K)

    return features(p_a), features(p_b), T_ab


def apart(T, T_true) -> tuple[float, float]:
    xi = se3.log(se3.inverse(T_true) @ T)
    return float(xi[:3].norm()), float(xi[3:].norm())


@pytest.mark.parametrize("outliers", [0.0, 0.5, 0.7])
def test_the_motion_of_most_matches_is_found(outliers):
    a, b, T_ab = pair(outliers=outliers)
    found = estimate_motion(a, b)
    assert max(apart(found.T_ab, T_ab)) < 1e-4
    assert found.inliers == pytest.approx(200 * (1 - outliers), abs=25)
    assert torch.equal(found.T_ab, estimate_motion(a, b).T_ab)  # draws are seeded


def test_noise_of_keypoints_is_averaged():
    a, b, T_ab = pair(outliers=0.3, noise=0.5)
    meters, radians = apart(estimate_motion(a, b).T_ab, T_ab)
    assert meters < 0.004 and radians < 0.002


def test_matches_without_depth_in_one_frame_count():
    a, b, T_ab = pair(holes=0.6)
    found = estimate_motion(a, b)
    assert max(apart(found.T_ab, T_ab)) < 1e-4 and found.inliers > 100  # 32 have depth in both


def test_what_does_not_match_is_no_motion():
    a, b, _ = pair(outliers=1.0)
    assert estimate_motion(a, b) is None
    assert estimate_motion(*pair(holes=1.0)[:2]) is None
    few = pair(count=8)
    assert estimate_motion(*few[:2]) is None


def test_descriptors_are_matched_mutually():
    a = normalize(torch.randn(50, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    i, j = match_descriptors(a, a[order])
    assert i.tolist() == list(range(50)) and torch.equal(order[j], i)
    twice = torch.cat([a, a])  # of two alike neither is the better
    assert len(match_descriptors(a, twice)[0]) == 0
    assert all(len(x) == 0 for x in match_descriptors(a, a[:1]))


def test_rigid_fit():
    p = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    T = se3.exp(XI)
    assert torch.allclose(fit_rigid(p, se3.transform(T, p)), T, atol=1e-12)
    mirrored = p * torch.tensor([1.0, 1.0, -1.0])
    assert torch.linalg.det(fit_rigid(p, mirrored)[:3, :3]) == pytest.approx(1.0)


def test_derivatives_of_the_residuals():
    a, b, T_ab = pair(count=40, holes=0.3, noise=1.0)
    matches, T_ba = match(a, b), se3.inverse(T_ab @ se3.exp(0.05 * XI))[None]
    moved = lambda step: matches.residuals(se3.exp(step) @ T_ba)  # noqa: E731
    steps = 1e-6 * torch.eye(6, dtype=torch.float64)
    differences = torch.stack([(moved(h) - moved(-h)) / 2e-6 for h in steps], -1)
    assert torch.allclose(matches.jacobian(T_ba), differences, atol=1e-4, rtol=1e-6)
    errors = torch.stack([(matches.error(se3.exp(h) @ T_ba) - matches.error(se3.exp(-h) @ T_ba)) / 2e-6 for h in steps])
    H, g, error = matches.linearize(T_ba)
    assert torch.allclose(g[0], errors[:, 0], rtol=1e-5, atol=1e-4) and error == matches.error(T_ba)
    assert torch.linalg.eigvalsh(H[0]).min() > 0
