"""Synthetic as a Sequence: frames on demand, always the same, and which surface was seen."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from gradslam_ng import datasets
from gradslam_ng.datasets.synthetic import Synthetic
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.evaluation import sample_mesh
from gradslam_ng.geometry import camera, se3

SIZE = (48, 64)


def test_frames():
    sequence = Synthetic("corner", frames=7, size=SIZE)
    frame = sequence[6]
    assert len(sequence) == 7
    assert sequence.layout == "synthetic"
    assert frame.color.shape == (*SIZE, 3)
    assert frame.depth.shape == (*SIZE, 1)
    assert frame.color.dtype == frame.depth.dtype == torch.float32
    assert frame.timestamps == pytest.approx(6 / 30)
    torch.testing.assert_close(frame.T_wc, sequence.ground_truth.T_wc[6])
    torch.testing.assert_close(frame.K, default_intrinsics(SIZE).float())
    with pytest.raises(IndexError):
        sequence[7]


def test_intrinsics_are_those_of_a_kinect_scaled():
    K = torch.tensor([[525, 0, 319.5], [0, 525, 239.5], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(default_intrinsics((480, 640)), K)
    torch.testing.assert_close(default_intrinsics((240, 320)), camera.scale_intrinsics(K, 0.5))


def test_the_same_seed_gives_the_same_frames_in_any_order():
    first, again, other = (Synthetic("corner", frames=5, size=SIZE, noise="kinect", seed=seed) for seed in (3, 3, 4))
    later, earlier = first[4], first[1]
    assert torch.equal(again[1].depth, earlier.depth)
    assert torch.equal(again[4].color, later.color)
    assert not torch.equal(earlier.depth, later.depth)
    assert not torch.equal(other[1].depth, earlier.depth)
    assert not torch.equal(other.T_wc, first.T_wc)


def test_noise_leaves_the_exact_frame_near():
    exact, noisy = (Synthetic("living_room", frames=20, size=SIZE, noise=noise)[19] for noise in ("none", "kinect"))
    both = (exact.depth > 0) & (noisy.depth > 0)
    assert 0.6 < both.float().mean() < 1
    assert (exact.depth - noisy.depth)[both].abs().median() < 0.01
    assert (exact.color - noisy.color).abs().mean() < 0.02


def test_slices_clips_and_workers():
    sequence = Synthetic("wall", frames=9, size=SIZE)
    part = sequence[2:8:3]
    assert len(part) == 2
    assert torch.equal(part[1].depth, sequence[5].depth)
    assert part.mesh is sequence.mesh
    loader = DataLoader(sequence.clips(4, 2), batch_size=2, num_workers=1)
    batch = next(iter(loader))
    assert batch.depth.shape == (2, 4, *SIZE, 1)
    assert torch.equal(batch.depth[1, 0], sequence[2].depth)


def test_it_pickles():
    sequence = Synthetic("living_room", frames=3, size=(24, 32), noise="kinect")
    copy = pickle.loads(pickle.dumps(sequence))
    assert torch.equal(copy[2].color, sequence[2].color)


def test_load_by_name():
    sequence = datasets.load("synthetic:corridor", frames=4, size=(24, 32), noise="kinect", path="fast", seed=2)
    assert sequence.name == "corridor"
    assert len(sequence) == 4
    assert sequence.size == (24, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "attic"}, "attic.*living_room, corridor, wall, corner"),
        ({"path": "spiral"}, "spiral.*handheld, orbit"),
        ({"noise": "salt"}, "salt.*none, kinect"),
        ({"frames": 0}, "at least 1"),
        ({"size": (0, 10)}, "at least 2"),
        ({"seed": -1}, "seed: expected a number of at least 0, got -1"),
    ],
)
def test_wrong_names_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        Synthetic(**({"name": "corner"} | options))


def test_seen_agrees_with_the_depth_images():
    """A sample of the surface is seen where it falls on a pixel whose depth is its own, and not where it is hidden."""
    sequence = Synthetic("living_room", frames=40, size=(120, 160), path="orbit")
    samples = sample_mesh(sequence.mesh, 0.08)
    seen = sequence.seen(samples, every=20)
    agree = torch.zeros(2, len(samples), dtype=torch.bool)
    for i in (0, 20):
        uv, z = camera.project(se3.transform(se3.inverse(sequence.T_wc[i]), samples), sequence.K.double())
        u, v = uv.round().long().unbind(-1)
        inside = (z > 0) & (u >= 0) & (u < 160) & (v >= 0) & (v < 120)
        depth = sequence[i].depth[v.clamp(0, 119), u.clamp(0, 159), 0].double()
        for k, tolerance in enumerate((0.005, 0.15)):
            agree[k] |= inside & ((z - depth).abs() < tolerance)
    assert 0.2 < seen.double().mean() < 0.8
    assert (agree[0] & ~seen).double().mean() < 0.01
    assert (seen & ~agree[1]).double().mean() < 0.01


def test_seen_ends_with_the_sensor_s_range():
    exact, kinect = (Synthetic("corridor", frames=1, size=SIZE, noise=noise) for noise in ("none", "kinect"))
    depth = exact[0].depth.double()
    p_w = se3.transform(exact.T_wc[0], camera.unproject(depth, exact.K.double()).reshape(-1, 3))
    far = depth.flatten() > 5
    assert far.any()
    assert exact.seen(p_w).all()
    assert torch.equal(kinect.seen(p_w), ~far)
