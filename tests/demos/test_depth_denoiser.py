from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import gradslam_ng as gs
from demos.common import clips
from gradslam_ng.geometry import camera


def wall(frames: int) -> tuple[gs.RGBDFrames, torch.Tensor]:
    """Frames (N,) of a bent wall from one place, with noise of 1%, and its exact depth."""
    K = torch.tensor([[40.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]])
    x, y = (camera.unproject(torch.ones(24, 32, 1), K)[..., i, None] for i in (0, 1))
    exact = (1.8 + 0.3 * x - 0.2 * y + 0.4 * (x * x + y * y)).expand(frames, 24, 32, 1)
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    return gs.RGBDFrames(torch.full((frames, 24, 32, 3), 0.5), exact * (1 + 0.01 * noise), K), exact


def passing_wall(frames: int) -> tuple[gs.RGBDFrames, torch.Tensor]:
    """Frames (N,) of a wall that a camera nears while it goes along, exact, and its poses (N, 4, 4)."""
    near = 0.02 * torch.arange(frames)
    T_wc = torch.eye(4).repeat(frames, 1, 1)
    T_wc[:, 0, 3], T_wc[:, 2, 3] = 2 * near, near
    depth = (2 - near)[:, None, None, None].expand(frames, 24, 32, 1)
    return gs.RGBDFrames(torch.full((frames, 24, 32, 3), 0.5), depth.clone(), wall(1)[0].K), T_wc


def test_learns_from_noisy_frames_alone_to_remove_noise(demo, monkeypatch):
    module = demo("depth_denoiser")
    monkeypatch.setattr(module, "LENGTH", 3)
    frames, exact = wall(12)
    mean = module.mean_with_before(frames, torch.eye(4).expand(12, 4, 4))
    torch.manual_seed(0)
    network = module.Denoiser()
    assert torch.equal(network(frames, mean).depth, frames.depth)  # before it has learned anything
    done = module.train(network, frames[:8], mean[:8], every=2, steps=12, rate=0.02)
    assert done.losses[-1] < done.losses[0] and len(done.megabytes) == 12
    with torch.no_grad():
        depths = frames.depth, network(frames, mean).depth
        before, after = ((depth - exact)[8:].abs().mean() for depth in depths)
    assert after < 0.7 * before


def test_mean_is_of_what_each_pixel_was_measured_before(demo):
    module = demo("depth_denoiser")
    frames, T_wc = passing_wall(6)
    torch.testing.assert_close(module.mean_with_before(frames, T_wc), frames.depth)
    frames.depth[4] *= 1.02  # frames 3 and 1 measured less; where they both saw the wall
    mean = module.mean_with_before(frames, T_wc)[4]
    right = (frames.depth[4] / 1.02 * (1.02 + 2) / 3)[:, :26]
    torch.testing.assert_close(mean[:, :26], right, rtol=2e-3, atol=0)
    frames.depth[4] *= 1.1  # another surface
    assert torch.equal(module.mean_with_before(frames, T_wc)[4], frames.depth[4])


def test_network_never_sees_what_the_loss_compares_with(demo):
    """Frames of a clip are an even number apart: in the mean of each none of the others has a part, nor one after."""
    module = demo("depth_denoiser")
    assert all(every % 2 == 0 for every in module.EVERY.values())
    frames, T_wc = passing_wall(24)
    for changed in (4, 7):
        mean = module.mean_with_before(frames, T_wc)
        frames.depth[changed] *= 1.01
        differs = (module.mean_with_before(frames, T_wc) != mean).flatten(1).any(1).nonzero()[:, 0].tolist()
        assert differs == [changed, *range(changed + 1, changed + 16, 2)]
    with pytest.raises(ValueError, match="expected more than 21, an even number apart"):
        module.train(module.Denoiser(), frames, frames.depth, every=3, steps=1)
    with pytest.raises(ValueError, match="expected more than 28"):
        module.train(module.Denoiser(), frames, frames.depth, every=4, steps=1)


def test_truth_of_a_frame_is_made_of_none_that_the_network_sees(demo):
    module = demo("depth_denoiser")
    frames, T_wc = passing_wall(6)
    frames = replace(frames, T_wc=T_wc.double())
    frames.depth[1::2] *= 1.02
    depth = module.fused(frames, voxel=0.04)
    seen = depth[:, 6:18, 8:24]
    torch.testing.assert_close(seen, frames.depth[:, 6:18, 8:24], rtol=5e-3, atol=0)


def test_holes_stay_holes(demo):
    module = demo("depth_denoiser")
    frames, _ = wall(2)
    frames.depth[0, 3:5, 4:9] = 0
    mean = module.mean_with_before(frames, torch.eye(4).expand(2, 4, 4))
    assert torch.equal(mean > 0, frames.depth > 0)
    network = module.Denoiser()
    network.layers[-1].bias.data[-1] = 1.0
    depth = network(frames, mean).depth
    assert torch.equal(depth > 0, frames.depth > 0) and not torch.equal(depth, frames.depth)
    assert ((depth / frames.depth)[frames.depth > 0] - 1).abs().max() <= 0.01


def test_frames_that_came_without_a_pose_are_left_out(monkeypatch, tmp_path):
    class Few(list):
        size = (24, 32)

    frames, T_wc = passing_wall(4)
    T_wc[0] = torch.nan
    frames = replace(frames, T_wc=T_wc.double(), timestamps=torch.arange(4, dtype=torch.float64))
    monkeypatch.setitem(clips.FOLDERS, "few", "")
    monkeypatch.setattr(gs.datasets, "load", lambda path: Few(frames[i] for i in range(4)))
    loaded = clips.Recording.load("few", tmp_path, 32, average=False).frames
    assert torch.equal(loaded.depth, frames.depth[1:]) and torch.equal(loaded.T_wc, T_wc[1:].double())
