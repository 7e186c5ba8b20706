from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.structures import LiveFrame


def trained(module: ModuleType, rooms: list[Tensor], steps: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return module.train(module.Network(), rooms, steps, rate=0.01, seed=0, batch=12)


def test_learns_from_poses_alone_that_far_and_slanted_readings_are_noisy(demo):
    """A few steps in six rooms, 80x60; the noise that it says goes with the one put in, pixel by pixel."""
    module = demo("learned_weights")
    rooms = module.training_rooms(6, (60, 80))
    network = trained(module, rooms, 25)
    again = trained(module, rooms, 2)
    for a, b in zip(again.parameters(), trained(module, rooms, 2).parameters(), strict=True):
        assert torch.equal(a, b)  # the same numbers every time

    color, depth, normal, _, K = (x[:, 0] if x.ndim > 3 else x for x in module.training_rooms(2, (60, 80)))
    with torch.no_grad():
        live = LiveFrame.of(gs.RGBDFrames(color, depth, K.expand(2, 3, 3)), noise=network)
    seen = (live.surface.weights > 0) & (depth[..., 0] > 0.3) & (depth[..., 0] < 5)
    pair = torch.stack([live.sigma[seen], module.sigma(depth, normal, K)[..., 0][seen]]).log()
    assert torch.corrcoef(pair)[0, 1] > 0.3


def test_writes_tables_and_a_picture(demo, tmp_path, monkeypatch):
    module = demo("learned_weights")
    monkeypatch.setattr(module, "UNSEEN", {"random room 1": module.UNSEEN["random room 1"]})
    numbers = module.main(tmp_path, tmp_path, size=(48, 64), rooms=2, steps=3, seeds=1, frames=3)
    row = numbers["ATE, cm"]["unseen rooms"]["random room 1"]
    assert row.keys() == {"constant", "made by hand", "learned 0"} and all(0 < x < 100 for x in row.values())
    assert numbers["mean ratio to constant"]["unseen rooms"]["constant"] == 1
    assert (tmp_path / "learned_weights.png").stat().st_size > 10_000


def test_models_side_by_side_are_each_alone(demo):
    module = demo("learned_weights")
    models = {"one": module.Constant(), "two": module.axial_noise}
    frames, truth = module.clip(module.random_room(1), 0, 3, (48, 64))
    together = module.judge(models, (frames[i] for i in range(3)), truth)
    for name, model in models.items():
        alone = module.judge({name: model}, (frames[i] for i in range(3)), truth)
        assert abs(alone[name] - together[name]) < 1e-3
