from __future__ import annotations

import torch

import gradslam_ng as gs
from gradslam_ng.geometry import camera


def test_the_field_learned_beats_the_best_constant_on_later_frames(demo, tmp_path):
    """Six steps on the embedded recording at 40x30."""
    numbers = demo("depth_bias").main(tmp_path, tmp_path, width=40, steps=6)["living room"]
    first, last = numbers["loss, first and last tenth of the steps"]
    assert last < first
    assert numbers["learned"]["depth, mm"] < numbers["best constant"]["depth, mm"] <= numbers["none"]["depth, mm"]
    assert (tmp_path / "depth_bias.png").stat().st_size > 10_000


def test_the_bias_is_none_without_depth_and_more_in_corners(demo):
    module = demo("depth_bias")
    depth = torch.full((1, 30, 40, 1), 2.0)
    depth[0, 3, 4] = 0
    measured = module.bent(depth)
    assert measured[0, 3, 4] == 0 and measured[0, 0, 0] > 1.03 * measured[0, 15, 20]
    field = module.BiasField((30, 40))
    assert torch.equal(field(measured), measured)  # before it has learned anything


def test_frames_agree_where_poses_and_depth_are_right_alone(demo):
    """A slanting wall from two places: nothing between them, more where one is moved or bent."""
    disagreement = demo("common.consistency").disagreement
    K = torch.tensor([[50.0, 0, 19.5], [0, 50.0, 14.5], [0, 0, 1]])
    normal = torch.tensor([0.3, 0.1, -1.0])
    T_wc = torch.eye(4).repeat(1, 2, 1, 1)
    T_wc[0, 1, :3, 3] = torch.tensor([0.1, 0.02, 0.05])
    rays = camera.unproject(torch.ones(30, 40, 1), K)
    depth = torch.stack([(normal @ (torch.tensor([0, 0, 2.0]) - t)) / (rays @ normal) for t in T_wc[0, :, :3, 3]])
    frames = gs.RGBDFrames(torch.full((1, 2, 30, 40, 3), 0.5), depth[None, ..., None], K)
    assert disagreement(frames, T_wc) < 1e-9
    moved = T_wc.clone()
    moved[0, 1, 2, 3] += 0.02
    assert disagreement(frames, moved) > 0.1
    bent = gs.RGBDFrames(frames.color, demo("depth_bias").bent(frames.depth), K)
    assert disagreement(bent, T_wc) > 0.01
