from __future__ import annotations

import pytest
import torch

from demos import registration
from gradslam_ng.geometry import camera


def test_descends_towards_the_true_cameras(tmp_path):
    numbers = registration.main(tmp_path, data=tmp_path, size=(60, 80), frames=4, steps=15)["rendered"]
    assert numbers["misfit after"] < 0.8 * numbers["misfit before"]
    assert numbers["off after, pixels"] < 0.8 * numbers["off before, pixels"]
    assert (tmp_path / "registration.png").is_file() and (tmp_path / "registration.json").is_file()


def test_offsets_are_about_a_pixel_each():
    K = torch.tensor([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    clip = registration.Clip(torch.zeros(1), torch.full((1, 80, 100, 1), 2.0), K, torch.eye(4)[None], [])
    start = registration.Cameras(K, torch.eye(4))
    for k in range(9):
        moved = start.moved(torch.eye(9)[k])
        shift = registration.root_mean_square(registration.displacement(clip, moved, start))
        assert 0.1 < shift < 2
    assert torch.equal(start.moved(torch.zeros(9)).K, K)


def test_the_misfit_of_the_true_cameras_of_a_wall_is_none():
    """A camera that stands still sees the same twice, whatever the gain between the two frames."""
    K = torch.tensor([[40.0, 0, 15.5], [0, 40, 11.5], [0, 0, 1]])
    color = camera.pixel_grid(24, 32).sum(-1, keepdim=True).expand(24, 32, 3) / 60
    color = torch.stack([color, 0.6 * color + 0.1])
    still = torch.eye(4).expand(2, 4, 4)
    clip = registration.Clip(color, torch.full((2, 24, 32, 1), 2.0), K, still, [(0, 1)])
    cameras = registration.Cameras(K, torch.eye(4))
    assert float(registration.misfit(clip, cameras)) == pytest.approx(0, abs=1e-9)
