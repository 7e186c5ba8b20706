from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradslam_ng.preprocessing import axial_noise


def test_the_error_of_the_pose_reaches_the_whole_network_the_same_way_each_time(demo):
    model, module = (demo(f"research.learned_weights.{name}") for name in ("model", "train"))
    pairs = module.training_pairs(2, 1, (48, 64))

    def trained(steps: int) -> list[Tensor]:
        torch.manual_seed(0)
        return list(module.train(model.Network(), pairs, steps, rate=0.01, seed=0, batch=6).parameters())

    for before, after, again in zip(trained(0), trained(3), trained(3), strict=True):
        assert after.isfinite().all() and not torch.equal(before, after)
        assert torch.equal(after, again)


@pytest.mark.slow
def test_learns_from_poses_alone_to_trust_what_is_far_or_slanting_less(demo):
    model, module, figure = (demo(f"research.learned_weights.{name}") for name in ("model", "train", "figure"))
    size = (72, 96)
    torch.manual_seed(0)
    network = module.train(model.Network(), module.training_pairs(10, 4, size), steps=60, rate=0.02, seed=0)
    with torch.no_grad():
        unseen = module.training_pairs(8, 4, size, first=4000)
        which = torch.arange(len(unseen.features))
        learned, flat = (
            unseen.error(sigma, which, torch.Generator().manual_seed(0)).mean()
            for sigma in (network.of(unseen.features), torch.full(unseen.features.shape[:3], 0.02))
        )
    assert learned < 0.97 * flat  # any constant: without robust weights a common factor says nothing
    far, slanting = figure.exponents(network, size)
    assert far > 0.5 and slanting > 0.1


def test_writes_tables_and_a_picture(demo, tmp_path, monkeypatch):
    module = demo("research.learned_weights.__main__")
    monkeypatch.setattr(module, "UNSEEN", {"random room 1": module.UNSEEN["random room 1"]})
    numbers = module.main(tmp_path, tmp_path, size=(48, 64), rooms=2, steps=3, seeds=1, frames=3)
    row = numbers["ATE, cm"]["unseen rooms"]["random room 1"]
    assert row.keys() == {"constant", "made by hand", "learned 0"} and all(0 < x < 100 for x in row.values())
    assert numbers["mean ratio to constant"]["unseen rooms"]["constant"] == 1
    assert numbers["constant, m"] in demo("research.learned_weights.train").CONSTANTS
    assert (tmp_path / "learned_weights.png").stat().st_size > 10_000


def test_models_side_by_side_are_each_alone(demo):
    module = demo("research.learned_weights.train")
    models = {"one": demo("research.learned_weights.model").Constant(0.02), "two": axial_noise}
    frames, truth = module.clip(demo("common.rooms").random_room(1), 0, 3, (48, 64))
    together = module.judge(models, (frames[i] for i in range(3)), truth)
    for name, model in models.items():
        alone = module.judge({name: model}, (frames[i] for i in range(3)), truth)
        assert abs(alone[name] - together[name]) < 1e-3
