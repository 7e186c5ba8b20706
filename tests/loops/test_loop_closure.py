"""Loop closure of a run: large corrections wait, detection in a thread changes nothing, Ctrl-C cuts nothing in two."""

from __future__ import annotations

import math
import os
import signal

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser, VolumeLoopCloser


def turned(yaw: float, x: float = 0.0) -> torch.Tensor:
    return se3.exp(torch.tensor([x, 0, 0, 0, yaw, 0], dtype=torch.float64))


@pytest.fixture(scope="module")
def there_and_back(room):
    """Looking from one corner of the closed-form room to the next and back, noise in the depth."""
    count = 48
    yaw = 0.1 + 0.65 * (1 - torch.cos(torch.arange(count, dtype=torch.float64) / count * 2 * math.pi))
    tilt = se3.exp(torch.tensor([0, 0, 0, -0.4, 0, 0], dtype=torch.float64))
    clip = room.view(torch.stack([turned(float(a), 0.1 * float(a)) @ tilt for a in yaw]))
    clip.depth.mul_(1 + 0.004 * torch.randn(clip.depth.shape, generator=torch.Generator().manual_seed(0)))
    return room.InMemory(clip)


def test_a_map_of_the_other_kind_is_refused(there_and_back):
    volumes = gs.KinectFusion(voxel_size=0.04, truncation=0.16)
    with pytest.raises(TypeError, match="expected a map of surfels, got VoxelGrid; see VolumeLoopCloser"):
        volumes.run(there_and_back[:2], loops=LoopCloser())
    with pytest.raises(TypeError, match="expected a volume, got SurfelMap; see LoopCloser"):
        VolumeLoopCloser().finalize(gs.SurfelMap.empty())


@pytest.mark.slow
def test_a_system_that_is_followed(there_and_back):
    """Looking beside tracking comes to the same as tracking that waits; loops are true, and do no harm."""
    sequence, errors, ways = there_and_back, {}, {}
    for name, loops in (("without", None), ("beside", LoopCloser(20)), ("waiting", LoopCloser(20, asynchronous=False))):
        result = gs.PointFusion().run(sequence, loops=loops)
        assert len(result.trajectory) == len(sequence) and bool(result.tracked.all())
        errors[name] = gs.evaluation.ate(sequence.ground_truth, result.trajectory).rmse
        ways[name] = result.trajectory.T_wc
    torch.testing.assert_close(ways["beside"], ways["waiting"])
    for loop in loops.loops:
        frames = [loops.keyframes.frames[k] for k in (loop.i, loop.j)]
        truth = se3.inverse(sequence.T_wc[frames[0]]) @ sequence.T_wc[frames[1]]
        assert (se3.inverse(truth) @ loop.T_ij)[:3, 3].norm() < 0.03
    assert errors["beside"] < 1.1 * errors["without"] + 0.002


def test_ctrl_c_while_a_loop_is_put_into_effect_waits_for_its_end(there_and_back):
    """Keyframes and map move together, and the frame is done."""
    done = []

    class Closer(LoopCloser):
        def process(self, system, state, live, in_map):
            if state.frames == 12:
                os.kill(os.getpid(), signal.SIGINT)
            state = super().process(system, state, live, in_map)
            done.append(state.frames)
            return state

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
    try:
        result = gs.PointFusion().run(there_and_back, loops=Closer(4))
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.interrupted and done == list(range(1, 13))
    assert len(result.trajectory) == 12 and int(result.map.count[0]) > 0
