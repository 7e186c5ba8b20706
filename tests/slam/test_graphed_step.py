"""Frames that are recorded and replayed find what frames worked on one by one do, and nothing in them waits.

Without a GPU a traced graph stands for the captured one: what Python decides is decided once, shapes are fixed, and
buffers are written in place. What only CUDA forbids is looked for operation by operation.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.loops import LoopCloser
from gradslam_ng.mapping import PointFuser
from gradslam_ng.odometry import Odometry, ProjectiveICP
from gradslam_ng.slam.graphed_step import GraphedStep, cuda_graph
from gradslam_ng.structures import RGBDFrames

SIZE = (45, 60)


def traced(function, buffers):
    """Records as CUDA does, and like its warm-up leaves other values in the buffers."""
    graph = make_fx(function, tracing_mode="real")(*buffers)
    return lambda: graph(*buffers)


class NothingWaits(TorchDispatchMode):
    """Refuses what would make the host wait for a GPU, and tensors that come from the host's memory."""

    WAITING = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2", "bincount",
               "lift_fresh", "repeat_interleave.Tensor")  # fmt: skip
    INDEXED = ("index.Tensor", "index_put.default", "index_put_.default", "_index_put_impl_.default")

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.known, self.operations = list(known), 0
        self.storages = {x.untyped_storage()._cdata for x in known}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function).removeprefix("aten.")
        assert name not in self.WAITING and name.split(".")[0] not in self.WAITING, name
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        for x in inputs:
            assert x.untyped_storage()._cdata in self.storages, f"{name} reads a tensor that comes from the host"
        if name in self.INDEXED:
            assert all(i is None or i.dtype not in (torch.bool, torch.uint8) for i in args[1]), f"{name} with a mask"
        outputs = function(*args, **(kwargs or {}))
        for x in tree_leaves(outputs):
            if isinstance(x, Tensor):
                assert x.device.type == "cpu", f"{name} on the default device"
                self.known.append(x)  # kept, so that no other storage takes its place
                self.storages.add(x.untyped_storage()._cdata)
        self.operations += 1
        return outputs


def watched(function, buffers):
    """Records nothing: what is replayed is the function, in which nothing may wait."""

    def replay():
        with torch.device("meta"), NothingWaits(buffers):
            return function(*buffers)

    return replay


class Counted:
    """A recorder that counts its recordings, and the capacities that the maps had."""

    def __init__(self, record) -> None:
        self.record, self.capacities = record, []

    def __call__(self, function, buffers):
        self.capacities.append(buffers[0].shape[1])  # points, the first of a state
        return self.record(function, buffers)


def compare_views(system, other, frames, same_maps, record):
    """Both over the frames, one recorded. Returns the states, T_wc of each as it was."""
    captured = GraphedStep(system, record=record)
    plain, state, before = None, None, []
    with torch.no_grad():
        for i in range(len(frames)):
            state = captured(state, frames[i])
            plain = other.step(plain, frames[i])
            assert captured.works and state.frames == plain.frames == i + 1 == int(state.index)
            assert torch.allclose(state.T_wc, plain.T_wc, atol=1e-6)
            assert torch.equal(state.live.depth, plain.live.depth)
            assert state.tracking.status.tolist() == plain.tracking.status.tolist()
            same_maps(state.map, plain.map, 1e-5)
            before.append((state, state.T_wc.clone(), state.live.depth.clone()))
    for state, T_wc, depth in before:  # later frames have not overwritten what came out
        assert torch.equal(state.T_wc, T_wc) and torch.equal(state.live.depth, depth)
    return state


def system(odometry="gradicp", max_unseen_frames=3):
    odometry = ProjectiveICP(iterations=(1, 2)) if odometry == "gradicp" else odometry
    return gs.PointFusion(odometry, factor=1, mapper=PointFuser(prune_every=4, max_unseen_frames=max_unseen_frames))


@pytest.fixture(scope="module")
def frames(room) -> RGBDFrames:
    """12 frames, one of them without readings."""
    frames = room.view(room.walk(12), SIZE)
    depth = frames.depth.clone()
    depth[6] = 0.0
    return replace(frames, depth=depth, timestamps=torch.arange(12, dtype=torch.float64))


@pytest.mark.parametrize("odometry", ["gradicp", "icp", "ground-truth"])
def test_nothing_in_a_frame_waits_for_the_host(frames, odometry, same_maps):
    compare_views(system(odometry), system(odometry), frames[:6], same_maps, watched)


def test_what_waits_is_seen(frames):
    """The watch itself: what the frame of a growing map asks, numbers from Python, and masks as indices."""
    image = frames.depth[0]
    for wait in (lambda: int(image.sum()), lambda: image + torch.as_tensor(1.0, device="cpu"),
                 lambda: image[image > 1], lambda: image[[0, 1]], lambda: image.nonzero()):  # fmt: skip
        with pytest.raises(AssertionError), NothingWaits([image]):
            wait()


def test_replayed_frames_are_as_plain_ones(frames, same_maps):
    """Past three prunings, and past a frame without readings."""
    record = Counted(traced)
    state = compare_views(system(), system(), frames, same_maps, record)
    assert len(record.capacities) == 1 and state.tracking.ok.all()
    assert 0 < int(state.map.count) < state.map.capacity


def test_a_map_outgrows_its_graph(room, same_maps):
    """A camera that turns around sees new surfaces in each frame."""
    turns = torch.zeros(14, 6, dtype=torch.float64)
    turns[:, 4] = torch.arange(14) * 0.45
    frames = room.view(se3.exp(turns), SIZE)
    record = Counted(traced)
    state = compare_views(*(system("ground-truth", max_unseen_frames=100) for _ in range(2)), frames, same_maps, record)
    assert len(record.capacities) == 2 and state.map.capacity == record.capacities[1] >= 2 * record.capacities[0]
    assert int(state.map.count) > record.capacities[0]


def test_a_state_from_elsewhere_goes_into_the_buffers(frames, same_maps):
    """As after a loop was closed: another map, shorter than the buffers or longer, and another pose."""
    ours, theirs = system(), system()
    record = Counted(traced)
    captured, state, plain = GraphedStep(ours, record=record), None, None
    step = se3.exp(torch.tensor([0.01, 0, 0, 0, 0, 0]))
    with torch.no_grad():
        for i in range(6):
            if i == 3:
                state = replace(state, map=state.map[0].map(torch.clone), T_oc=step @ state.T_oc)
                plain = replace(plain, T_oc=step @ plain.T_oc)
            if i == 4:
                state = replace(state, map=state.map.reserve(10 * state.map.capacity))
            state = captured(state, frames[i])
            plain = theirs.step(plain, frames[i])
            assert torch.allclose(state.T_wc, plain.T_wc, atol=1e-6)
            same_maps(state.map, plain.map, 1e-5)
    assert len(record.capacities) == 1


def test_frames_of_another_kind_are_recorded_anew(frames):
    """A size that does not go with the frames before is refused as it is without recording."""
    record = Counted(lambda function, buffers: lambda: function(*buffers))
    captured, state = GraphedStep(system(), record=record), None
    for frame in (frames[0], frames[1], replace(frames[2], T_wc=None), frames[3]):
        state = captured(state, frame)
    assert len(record.capacities) == 3 and state.tracking.ok.all()
    smaller = RGBDFrames(frames.color[4, :40], frames.depth[4, :40], frames.K[4])
    with pytest.raises(ValueError, match="expected images as before"):
        captured(state, smaller)


def test_what_cannot_be_recorded_runs_as_it_is(frames, same_maps, caplog):
    def refuse(function, buffers):
        function(*buffers)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    ours, theirs, plain, state = system(), system(), None, None
    captured = GraphedStep(ours, record=refuse)
    with torch.no_grad(), caplog.at_level(logging.WARNING, "gradslam_ng"):
        for i in range(4):
            state = captured(state, frames[i])
            plain = theirs.step(plain, frames[i])
    assert torch.equal(state.T_wc, plain.T_wc)
    same_maps(state.map, plain.map)
    said = [record.message for record in caplog.records]
    assert len(said) == 1 and said[0].endswith("operation not permitted when stream is capturing")


def test_a_run_records_its_frames(room, monkeypatch, same_maps):
    """A camera that was covered, put elsewhere and found again, and a loop: poses and maps are those of a plain run."""
    walk = room.walk(10)
    aside = walk[-1:] @ se3.exp(torch.tensor([0.12, -0.1, 0.12, 0.1, 0.12, 0.05], dtype=torch.float64))
    frames = room.view(torch.cat([walk, walk[-1:].expand(2, 4, 4), aside.expand(3, 4, 4)]), (120, 160))
    depth = frames.depth.clone()
    depth[10:12] = 0.15
    sequence = room.InMemory(RGBDFrames(frames.color, depth, frames.K, frames.T_wc))

    def run():
        slam = gs.PointFusion(mapper=PointFuser(prune_every=4))
        return slam.run(sequence, loops=LoopCloser(window=2, spacing=(0.005, 0.5), asynchronous=False))

    plain, record = run(), Counted(traced)
    monkeypatch.setattr(gs.PointFusion, "graph_recorder", lambda self: record)
    result = run()
    assert len(record.capacities) == 1 and "replay" in result.milliseconds
    assert result.statuses.tolist() == plain.statuses.tolist()
    assert result.relocalized == plain.relocalized and plain.relocalized[0] == 12
    assert torch.allclose(result.trajectory.T_wc, plain.trajectory.T_wc, atol=1e-6)
    assert result.loops == plain.loops == 1
    same_maps(result.map, plain.map, 1e-5)


def test_only_frames_on_a_gpu_are_captured():
    class OnGPU(gs.PointFusion):
        device = torch.device("cuda")

    assert gs.PointFusion().graph_recorder() is None and gs.ICPSLAM().graph_recorder() is None
    assert OnGPU().graph_recorder() is OnGPU("ground-truth").graph_recorder() is cuda_graph
    assert OnGPU(Odometry()).graph_recorder() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_run_on_a_gpu(room, monkeypatch, caplog):
    sequence = room.InMemory(room.view(room.walk(30), (120, 160)))
    results = []
    with caplog.at_level(logging.WARNING, "gradslam_ng"):
        for captured in (True, False):
            if not captured:
                monkeypatch.setattr(gs.PointFusion, "graph_recorder", lambda self: None)
            results.append(gs.PointFusion().to("cuda").run(sequence))
    ours, plain = results
    assert not caplog.records and "replay" in ours.milliseconds
    assert ours.tracked.all() and torch.allclose(ours.trajectory.T_wc, plain.trajectory.T_wc, atol=1e-4)
    counts = int(ours.map.count), int(plain.map.count)
    assert abs(counts[0] - counts[1]) <= 0.01 * counts[1]
