from __future__ import annotations

import torch

import gradslam_ng as gs
from gradslam_ng.geometry import camera


def wall(frames: int) -> tuple[gs.RGBDFrames, torch.Tensor]:
    """Frames (N,) of a bent wall from one place, with noise of 1%, and its exact depth."""
    K = torch.tensor([[40.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]])
    x, y = (camera.unproject(torch.ones(24, 32, 1), K)[..., i, None] for i in (0, 1))
    exact = (1.8 + 0.3 * x - 0.2 * y + 0.4 * (x * x + y * y)).expand(frames, 24, 32, 1)
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    return gs.RGBDFrames(torch.full((frames, 24, 32, 3), 0.5), exact * (1 + 0.01 * noise), K), exact


def test_learns_from_noisy_frames_alone_to_remove_noise(demo, monkeypatch):
    module = demo("depth_denoiser")
    monkeypatch.setattr(module, "LENGTH", 3)
    frames, exact = wall(10)
    torch.manual_seed(0)
    network = module.Denoiser()
    assert torch.equal(network(frames).depth, frames.depth)  # before it has learned anything
    done = module.train(network, frames[:7], every=1, steps=12, rate=0.02)
    assert done.losses[-1] < done.losses[0]
    with torch.no_grad():
        before, after = ((x.depth - exact)[7:].abs().mean() for x in (frames, network(frames)))
    assert after < 0.9 * before


def test_holes_stay_holes(demo):
    frames, _ = wall(2)
    frames.depth[0, 3:5, 4:9] = 0
    network = demo("depth_denoiser").Denoiser()
    network.layers[-1].bias.data[-1] = 1.0
    depth = network(frames).depth
    assert torch.equal(depth > 0, frames.depth > 0) and not torch.equal(depth, frames.depth)
    assert ((depth / frames.depth)[frames.depth > 0] - 1).abs().max() <= 0.01
