"""Training by many processes takes the steps of one with as many clips; broken off, it goes on as it would have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradslam_ng.io.tensor_tree import load_tree

ROOT = Path(__file__).parents[2]
SMALL = {"width": 20, "frames": 13, "every": 4, "length": 2}


@pytest.fixture
def module(demo):
    return demo("train_distributed")


def weights(folder: Path) -> torch.Tensor:
    tree = load_tree(folder / "checkpoint.safetensors", ())
    return torch.cat([value.flatten() for value in tree["field"].values()])


def momentum(folder: Path) -> torch.Tensor:
    """Of Adam: the gradients of the last steps, weighted."""
    state = load_tree(folder / "checkpoint.safetensors", ())["descent"]["state"]
    return torch.cat([each["exp_avg"].flatten() for each in state.values()])


def two_processes(out: Path, **options) -> dict:
    """What a training by two processes of `torchrun` wrote."""
    given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "demos.train_distributed", "--out", str(out), "--double", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "train_distributed.json").read_text())


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_with_twice_the_clips(module, tmp_path):
    """Weights, and the momentum of gradients, after twenty."""
    if not torch.distributed.is_gloo_available():
        pytest.skip("no gloo")
    two = two_processes(tmp_path / "two", steps=20, batch=1, **SMALL)
    one = module.main(tmp_path / "one", steps=20, batch=2, double=True, **SMALL)
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-8, atol=0)
    for read in (weights, momentum):
        found, expected = read(tmp_path / "two"), read(tmp_path / "one")
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)
        assert expected.abs().max() > 1e-4


def test_a_training_broken_off_goes_on_as_if_it_had_not_been(module, tmp_path, monkeypatch):
    options = {"steps": 5, "batch": 2, "save_every": 2, **SMALL}
    whole = module.main(tmp_path / "whole", **options)
    forward, calls = module.DisagreementOfClips.forward, iter(range(9))

    def broken(self, clips):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, clips)

    with monkeypatch.context() as patch:
        patch.setattr(module.DisagreementOfClips, "forward", broken)
        with pytest.raises(KeyboardInterrupt):
            module.main(tmp_path / "broken", **options)
    resumed = module.main(tmp_path / "broken", **options)
    assert resumed["first step"] == 2 and resumed["losses"] == whole["losses"]
    assert torch.equal(weights(tmp_path / "broken"), weights(tmp_path / "whole"))


def test_processes_share_the_clips_of_each_step(module):
    clips = range(11)

    def plan(rank, size, batch, first=0):
        group = module.Group(rank, size, torch.device("cpu"))
        return module.batches(clips, group, batch=batch, first=first, steps=12, seed=3)

    one, both = plan(0, 1, 4), [plan(rank, 2, 2) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*both, strict=True)] == [sorted(batch) for batch in one]
    first, second = ({*one[i], *one[i + 1]} for i in (0, 2))
    assert len(first) == len(second) == 8 and first != second
    assert plan(1, 2, 2, first=5) == both[1][5:]
    with pytest.raises(ValueError, match="clips: expected at least 12, one for each place in a batch, got 11"):
        plan(0, 2, 6)


def test_clips_from_shards_and_no_tensorboard(module, tmp_path, monkeypatch, capsys):
    pytest.importorskip("webdataset")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    found = module.main(tmp_path, shards=tmp_path / "shards", steps=2, batch=2, **SMALL)
    assert len(found["losses"]) == 2 and all(0 < loss < 1 for loss in found["losses"])
    assert list((tmp_path / "shards").glob("*.tar"))
    assert capsys.readouterr().out.count("no TensorBoard: the curve of the loss needs tensorboard") == 1


def test_the_curve_of_the_loss(module, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = module.main(tmp_path, steps=2, batch=1, **SMALL)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [event.step for event in events] == [1, 2]
    assert [event.value for event in events] == pytest.approx(found["losses"])
