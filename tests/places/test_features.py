"""Local features: where they lie, which depth they have, and what is done without any."""

from __future__ import annotations

import sys

import pytest
import torch

from gradslam_ng.geometry import camera
from gradslam_ng.places import FeatureFrame, sift
from gradslam_ng.structures import RGBDFrames

K = torch.tensor([[200.0, 0, 79.5], [0, 210, 59.5], [0, 0, 1]])


def blobs(depth: float = 2.0) -> tuple[RGBDFrames, torch.Tensor]:
    """A frame with Gaussian blobs, and their centers (12, 2)."""
    v, u = torch.meshgrid(torch.arange(120.0), torch.arange(160.0), indexing="ij")
    centers = torch.cartesian_prod(torch.tensor([25.3, 60.0, 95.7, 130.2]), torch.tensor([25.6, 60.4, 95.0]))
    gray = 0.2 + 0.6 * sum(torch.exp(-((u - x) ** 2 + (v - y) ** 2) / 18) for x, y in centers)
    return RGBDFrames(gray[..., None].expand(-1, -1, 3), torch.full((120, 160, 1), depth), K), centers


def test_keypoints_lie_at_blobs_and_at_their_depth():
    frame, centers = blobs()
    features = FeatureFrame(frame, max_depth=5.0).features
    off = torch.cdist(centers, features.pixels).amin(1)
    assert off.max() < 0.3  # pixel centers are at whole numbers
    assert torch.allclose(camera.project(features.points, K)[0], features.pixels, atol=1e-3)
    assert (features.points[:, 2] == 2.0).all() and features.has_depth.all()
    assert torch.allclose(features.descriptors.norm(dim=-1), torch.ones(len(features)))


@pytest.mark.parametrize("depth", [0.0, float("nan"), float("inf"), -1.0, 6.0])
def test_what_is_no_depth_lifts_no_keypoint(depth):
    features = FeatureFrame(blobs(depth)[0], max_depth=5.0).features
    assert len(features) and not features.has_depth.any() and (features.points == 0).all()


@pytest.mark.parametrize("color", [0.0, 0.5, float("nan")])
def test_an_image_of_one_color_has_no_features(color):
    frame = RGBDFrames(torch.full((120, 160, 3), color), torch.ones(120, 160, 1), K)
    features = FeatureFrame(frame, max_depth=5.0).features
    assert len(features) == 0 and not features.are_enough and features.points.shape == (0, 3)


def test_another_extractor_takes_the_place_of_sift():
    seen = []

    def corners(image):
        seen.append((image.dtype, tuple(image.shape)))
        return torch.tensor([[10.0, 20.0], [30.0, 40.0]]), torch.tensor([[2.0, 0], [0, 3]])

    frame = blobs()[0].map(lambda x: x[None])
    image = FeatureFrame(frame, max_depth=5.0, extract=corners)
    assert not seen  # nothing is extracted before it is asked for
    features = image.features
    assert image.features is features and seen == [(torch.uint8, (120, 160))]
    assert features.pixels.tolist() == [[10, 20], [30, 40]] and features.descriptors.tolist() == [[1, 0], [0, 1]]


def test_without_opencv_there_are_none_and_a_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.warns(UserWarning, match="pip install opencv-python-headless"):
        pixels, descriptors = sift(torch.zeros(120, 160, dtype=torch.uint8))
    assert pixels.shape == (0, 2) and descriptors.shape == (0, 128)
