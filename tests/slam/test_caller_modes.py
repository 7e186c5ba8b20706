"""Results do not depend on how torch is set up around them: default dtype and device, autocast, deterministic mode,
number of threads, and the caller's grad mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import gradslam_ng as gs
from gradslam_ng import datasets, planning
from gradslam_ng.compute.tree import tree_leaves
from gradslam_ng.datasets.synthetic import Corrupted, Dropout, LensCover, Synthetic
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ProjectiveICP, align_points
from gradslam_ng.structures import RGBDFrames, SurfelMap

SIZE = (36, 48)
SYSTEMS = pytest.mark.parametrize("name", ["ICPOdometry", "ICPSLAM", "PointFusion", "KinectFusion"])


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES = {
    "float64 by default": lambda: default_dtype(torch.float64),
    "half by default": lambda: default_dtype(torch.float16),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": deterministic,
    "another device by default": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
}


def make(name: str, **options):
    options |= {"voxel_size": 0.06, "truncation": 0.18} if name == "KinectFusion" else {}
    return getattr(gs, name)(ProjectiveICP(iterations=(2, 1), max_distance=0.3), factor=1, **options)


@pytest.fixture(scope="module")
def clip(room) -> RGBDFrames:
    return room.view(room.walk(3), SIZE)


def outputs(slam, clip: RGBDFrames) -> list[torch.Tensor]:
    """Map, poses and an image of the map."""
    map_, T_wc = slam(clip)
    see = gs.render if isinstance(map_, SurfelMap) else gs.raycast
    return [*tree_leaves((map_, T_wc)), *tree_leaves(see(map_, T_wc[:, -1], clip.K[-1:], SIZE))]


def same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype and x.device == y.device and torch.equal(x, y) and not x.is_inference()


@SYSTEMS
@pytest.mark.parametrize("mode", MODES)
def test_systems_and_images_of_maps_do_not_depend_on_modes(clip, name, mode):
    with torch.no_grad():
        expected = outputs(make(name), clip)
    with torch.no_grad(), MODES[mode]():
        same(outputs(make(name), clip), expected)


def read_frames() -> list[torch.Tensor]:
    """Of a rendered and of a recorded sequence, with what comes with them."""
    scene = Synthetic("corner", frames=2, size=(24, 32), noise="kinect")
    corrupted = Corrupted(scene, Dropout(0.1), LensCover(1, 1))
    recorded = datasets.load(Path(__file__).resolve().parents[2] / "datasets" / "living_room")
    frames = [scene[1], corrupted[0], corrupted[1], recorded[1]]
    return [scene.K, scene.mesh[0], *(x for f in frames for x in (f.color, f.depth, f.K, f.T_wc))]


@pytest.mark.parametrize("mode", MODES)
def test_sequences_do_not_depend_on_modes(mode):
    """Neither by the noise that is drawn for them, nor by their type: what is read can be learned from later."""
    expected = read_frames()
    with MODES[mode]():
        same(read_frames(), expected)


@SYSTEMS
@pytest.mark.parametrize("mode", ["float64 by default", "autocast", "deterministic", "another device by default"])
def test_gradients_do_not_depend_on_modes(clip, name, mode):
    found = []
    for context in (contextlib.nullcontext, MODES[mode]):
        inputs = [x.clone().requires_grad_() for x in (clip.depth, clip.color, clip.K)]
        with context():
            _, T_wc = make(name)(RGBDFrames(inputs[1], inputs[0], inputs[2]))
            loss = T_wc.square().sum()
        loss.backward()
        found.append([x.grad for x in inputs])
    same(found[1], found[0])


@SYSTEMS
def test_a_state_made_in_inference_mode_is_gone_on_from_with_gradients(clip, name):
    slam, depth = make(name), clip.depth[1].clone().requires_grad_()
    with torch.inference_mode():
        state = slam.step(None, clip[0])
    state = slam.step(state, RGBDFrames(clip.color[1], depth, clip.K[1]))
    state.T_wc.sum().backward()
    assert depth.grad.isfinite().all() and depth.grad.any()


@SYSTEMS
def test_images_decoded_in_inference_mode_are_learned_from(clip, name):
    """What is learned is the camera; torch keeps no tensor of inference mode for a gradient."""
    K, found = clip.K.clone().requires_grad_(), []
    with torch.inference_mode():
        decoded = clip.map(torch.clone)
    for frames in (clip, decoded):
        _, T_wc = make(name)(RGBDFrames(frames.color, frames.depth, K))
        found.append(torch.autograd.grad(T_wc.square().sum(), K)[0])
    same(found[1:], found[:1])


@SYSTEMS
def test_streams_do_not_depend_on_modes(room, clip, name):
    expected = make(name).run(room.InMemory(clip))
    for mode in ("autocast", "inference", "another device by default", "float64 by default"):
        sequence, slam = room.InMemory(clip), make(name)
        with MODES[mode]():
            found = slam.run(sequence)
        same([found.trajectory.T_wc, *tree_leaves(found.map)], [expected.trajectory.T_wc, *tree_leaves(expected.map)])


@SYSTEMS
def test_the_number_of_threads_changes_rounding_only(clip, name):
    """Sums are split among threads: poses agree to 1e-6 m here."""
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with torch.no_grad():
                found.append(make(name)(clip)[1])
    finally:
        torch.set_num_threads(threads)
    assert max((x - found[0]).abs().max() for x in found) < 1e-6


def test_a_noise_network_runs_in_the_autocast_of_its_caller(clip):
    seen = []

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, surface, color):
            raw = self.layer(color)[..., 0]
            seen.append(raw.dtype)
            return 0.002 + 0.0005 * raw.sigmoid()

    network = Network()
    slam = make("PointFusion", noise=network)
    with torch.autocast("cpu", torch.bfloat16):
        _, T_wc = slam(clip)
    T_wc.sum().backward()
    assert set(seen) == {torch.bfloat16} and T_wc.dtype == torch.float32 and network.layer.weight.grad.any()


def test_geometry_and_solvers_stay_in_single_precision(clip):
    xi = torch.tensor([[0.3, -0.2, 0.5, 0.1, 0.2, -0.3]])
    points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0))
    normals = torch.nn.functional.normalize(points - 0.5, dim=-1)

    def compute() -> list[torch.Tensor]:
        T = se3.exp(xi)
        moved = se3.transform(T, points)
        found, share = align_points(se3.transform(se3.exp(0.01 * xi), points), points, normals)
        graph = gs.FactorGraph()
        graph.add_variables("pose", gs.optim.SE3(), torch.cat([T, se3.inverse(T), T]))
        graph.add_between("pose", [0, 1], [1, 2], torch.cat([T, T]))
        return [T, moved, se3.inverse(T), se3.adjoint(T), found, share, graph.optimize()["pose"]]

    expected = compute()
    with torch.autocast("cpu", torch.bfloat16):
        same(compute(), expected)
    with torch.inference_mode():
        values = compute()
    assert all(torch.equal(x, y) for x, y in zip(values, expected, strict=True))


PLANNED = {
    "travel_time": lambda cost: planning.travel_time(cost, (3, 3)).time,
    "shortest_path": lambda cost: planning.shortest_path(cost, [5, 5]).cost_to_go,
    "value iteration": lambda cost: planning.ValueIteration(8, temperature=0.1)(cost, (3, 3)).cost_to_go,
    "dare": lambda cost: planning.dare(cost.new_ones(1, 1), cost.new_ones(1, 1), cost[:1, :1], cost[1:2, :1]),
    "smooth": lambda cost: (
        planning.smooth(cost[:, :2].cumsum(0), lambda p: p.norm(dim=-1) - 0.3, radius=0.2, iterations=20).position
    ),
}


@pytest.mark.parametrize("plan", PLANNED.values(), ids=PLANNED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plans_do_not_depend_on_modes(plan, dtype):
    """Nor does it matter where torch would put the numbers that a goal is given by."""
    cost = 0.1 + torch.rand(6, 6, generator=torch.Generator().manual_seed(0), dtype=dtype)
    expected = plan(cost)
    for mode in MODES.values():
        with mode():
            found = plan(cost)
        assert found.dtype == expected.dtype and torch.equal(found, expected)


@pytest.mark.parametrize("mode", MODES)
def test_graphs_with_indices_in_lists_do_not_depend_on_modes(mode):
    T = se3.exp(0.2 * torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))

    def solve() -> torch.Tensor:
        graph = gs.FactorGraph()
        graph.add_variables("pose", gs.optim.SE3(), T)
        graph.add_between("pose", [0, 1, 2], [1, 2, 3], T[1:])
        graph.add_between("pose", [0], [3], T[:1])
        return graph.optimize()["pose"]

    expected = solve()
    with MODES[mode]():
        assert torch.equal(solve(), expected)
