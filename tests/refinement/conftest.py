"""Keyframes and surfels of the closed-form room."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gradslam_ng.geometry import se3
from gradslam_ng.preprocessing import axial_noise
from gradslam_ng.refinement import Surfels
from gradslam_ng.refinement.keyframes import read_keyframes


@pytest.fixture(scope="session")
def scene(room) -> SimpleNamespace:
    """Five keyframes (80x60), their true poses (5, 4, 4), poses that are off, and 400 surfels as one frame saw them."""
    T_wc = room.walk(41)[::10]
    keyframes = read_keyframes(
        room.InMemory(room.view(T_wc)), range(5), range(5), axial_noise, 50.0, torch.device("cpu")
    )
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randperm(60 * 80, generator=generator)[:400]
    points, normals = (image[2].flatten(0, 1)[pixels].double() for image in (keyframes.vertices, keyframes.normals))
    there = normals.norm(dim=-1) > 0.5
    surfels = Surfels(se3.transform(T_wc[2], points[there]), se3.rotate(T_wc[2], normals[there]))
    off = torch.randn(5, 6, generator=generator, dtype=torch.float64) * torch.tensor([0.006] * 3 + [0.004] * 3)
    off[0] = 0
    return SimpleNamespace(keyframes=keyframes, T_wc=T_wc, T_off=se3.exp(off) @ T_wc, surfels=surfels)
