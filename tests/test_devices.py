"""Nothing made on the CPU meets tensors of another device: the package's functions on a device that is pretended.

Its tensors say that they are elsewhere and hold their values on the CPU. As on a GPU, an operation on tensors of two
devices is refused, but for numbers without axes, copies, and indices; so is `.numpy()`. What is lazy of torch's devices
is one that no kernel here is registered for, so that what the pretence does not see fails too.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import gradslam_ng as gs
from gradslam_ng import evaluation, graph, meshing, odometry, places, planning, refinement
from gradslam_ng.compute import tree
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory

DEVICE = torch.device("lazy:0")
COPIES = ("aten.copy_.default", "aten._to_copy.default")
INDEXED = ("aten.index.Tensor", "aten.index_put_.default", "aten._index_put_impl_.default", "aten.index_put.default")
MAKERS = (torch.tensor, torch.as_tensor)


class Elsewhere(Tensor):
    """A tensor that says to be on `DEVICE`."""

    @staticmethod
    def __new__(cls, held: Tensor):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = Tensor._make_wrapper_subclass(cls, held.size(), **layout, device=DEVICE)
        made.held = held
        return made

    def tolist(self):
        return self.held.tolist()

    def new_tensor(self, data, dtype=None, device=None):
        made = torch.tensor(data, dtype=self.dtype if dtype is None else dtype, device="cpu")
        return Elsewhere(made) if device is None or torch.device(device) == DEVICE else made

    def __format__(self, form):
        return format(self.item(), form)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


def compute(function, args, kwargs):
    """The operation on what the tensors hold."""
    name, onto = str(function), kwargs.get("device")
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, Elsewhere)]
    here = [x for x in tensors if not isinstance(x, Elsewhere) and x.ndim]
    allowed = name in COPIES or (name in INDEXED and isinstance(args[0], Elsewhere))
    assert allowed or not (there and here), f"{name} on tensors of two devices"
    outputs = function(*tree_map(held, args), **tree_map(held, kwargs))
    if name == COPIES[0]:
        return args[0]
    is_there = bool(there) if onto is None else torch.device(onto) == DEVICE
    known = {id(x.held): x for x in there}  # what is written in place stays the tensor that it was

    def wrap(x):
        return known.get(id(x)) if id(x) in known else Elsewhere(x)

    return tree_map(lambda x: wrap(x) if isinstance(x, Tensor) and is_there else x, outputs)


def held(value):
    if isinstance(value, Elsewhere):
        return value.held
    return torch.device("cpu") if isinstance(value, torch.device) else value


class Pretence(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


class FromNumbers(TorchFunctionMode):
    """Tensors of Python's numbers, which torch makes on a device itself, out of a mode's sight."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function not in MAKERS:
            return function(*args, **kwargs)
        where = kwargs.pop("device", None)
        made = function(*args, **kwargs)
        return made if where is None else made.to(where)


@pytest.fixture
def device():
    with Pretence(), FromNumbers():
        yield DEVICE


@pytest.fixture(scope="module")
def frames(room) -> gs.RGBDFrames:
    return room.view(room.walk(4), (30, 40))


@pytest.fixture
def moved(frames, device) -> gs.RGBDFrames:
    return frames[None].to(device)


@pytest.fixture
def built(moved):
    """A map of surfels and a volume."""
    with torch.no_grad():
        surfels, _ = gs.PointFusion("ground-truth", factor=1)(moved)
        volume, _ = gs.KinectFusion("ground-truth", factor=1, voxel_size=0.1, truncation=0.3)(moved)
    return surfels, volume


def on_device(*values) -> bool:
    found = [x for value in values for x in (value if isinstance(value, list | tuple) else tree.tree_leaves(value))]
    return bool(found) and all(x.device == DEVICE for x in found)


def test_the_pretence_refuses_what_a_gpu_refuses(device):
    there, here = torch.ones(3).to(device), torch.ones(3)
    assert torch.equal((there * 2.0 + torch.tensor(1.0)).cpu(), 3 * here) and float(there.sum()) == 3
    for mistake in (
        lambda: there + here,
        lambda: torch.cat([there, here]),
        lambda: torch.where(there > 0, here, there),
    ):
        with pytest.raises(AssertionError, match="two devices"):
            mistake()
    with pytest.raises(RuntimeError, match="not supported"):
        there.numpy()
    assert on_device(torch.zeros(2, device=device), there.new_tensor([1]), torch.arange(2, device=device))


@pytest.mark.parametrize(
    ("system", "backward"),
    [
        (gs.PointFusion, "implicit-gn"),
        (gs.PointFusion, "unroll"),
        (gs.KinectFusion, "implicit"),
        (gs.ICPSLAM, "detach"),
    ],
)
def test_clips(moved, system, backward):
    """Forward and backward."""
    slam = system(gs.ProjectiveICP(iterations=(1, 1), rotation_iterations=1, backward=backward), factor=1)
    depth = moved.depth[:, :2].clone().requires_grad_()
    map_, T_wc = slam(replace(moved[:, :2], depth=depth))
    loss = T_wc.square().sum() + next(x for x in tree.tree_leaves(map_) if x.requires_grad).square().sum()
    (gradient,) = torch.autograd.grad(loss, depth)
    assert on_device(map_, T_wc, gradient) and float(gradient.abs().sum()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("system", [gs.PointFusion, gs.KinectFusion])
def test_runs(frames, room, device, system):
    """Images come from the CPU; keyframes, places and what is written on the way with them."""
    slam = system(gs.ProjectiveICP(iterations=(1, 1)), factor=1).to(device)
    loops = gs.LoopCloser(window=2, spacing=(0.005, 0.5), asynchronous=False)
    loops = gs.VolumeLoopCloser(loops) if system is gs.KinectFusion else loops
    result = slam.run(room.InMemory(frames), loops=loops, compile=False)
    assert result.tracked.all()


def test_maps_are_rendered(moved, built):
    surfels, volume = built
    T_wc, K = moved.T_wc[:, 0], moved.K[:, 0]
    for visibility in ("hard", "soft"):
        assert on_device(gs.render(surfels, T_wc, K, (30, 40), visibility=visibility))
    assert on_device(gs.raycast(volume, T_wc, K, (30, 40)), gs.integrate(volume, moved[:, 1]))


def test_maps_become_meshes(moved, built, tmp_path):
    surfels, volume = built
    mesh = gs.marching_cubes(volume)
    changed = meshing.remove_small_components(meshing.decimate(mesh, 200), 3)
    assert on_device(mesh, changed, meshing.surfels_to_tsdf(surfels, 0.2), meshing.tsdf_to_surfels(volume))
    for form in ("obj", "glb"):
        meshing.bake_texture(mesh, mesh.vertices, mesh.colors, 0.1).save(tmp_path / f"mesh.{form}")
    surfels.save(tmp_path / "map.ply")
    volume.save(tmp_path / "volume.npz")
    faces = mesh.vertices, mesh.faces
    samples = evaluation.sample_mesh(faces, 0.1)
    for points in (samples, samples.to(DEVICE)):
        seen = evaluation.seen_samples(points, [moved[0, i] for i in range(4)])
        assert seen.any() and seen.device == points.device
        assert evaluation.surface(mesh.vertices, faces, seen, spacing=0.1).accuracy.mean < 1e-6


@pytest.mark.parametrize("align", ["none", "se3", "sim3"])
def test_trajectories_are_compared(moved, align, tmp_path):
    path = Trajectory(torch.arange(4, dtype=torch.float64).to(DEVICE), moved.T_wc[0].double())
    assert evaluation.ate(path, path, align).rmse < 1e-9
    for delta, unit in ((1, "frames"), (1.0, "seconds"), (0.01, "meters")):
        for all_pairs in (True, False):
            options = {"all_pairs": all_pairs, "align": align, "tolerance": 1.0}
            assert evaluation.rpe(path, path, delta, unit, **options).translation.rmse < 1e-9
    path.save(tmp_path / "path.txt")


def test_points_and_places(moved):
    generator = torch.Generator().manual_seed(0)
    p, q, n = (x.to(DEVICE) for x in torch.rand(3, 2, 50, 3, generator=generator))
    assert on_device(odometry.align_points(p, q, n, max_distance=1.0, iterations=2), odometry.nearest_neighbors(p, q))
    live = gs.PointFusion(factor=1).preprocess(moved[:, 0])
    assert on_device([places.tiny_image_descriptor(live)])
    images = [places.FeatureFrame(moved[0, i], max_depth=5.0) for i in (0, 3)]
    places.locate(images[0], moved.T_wc[0, 0], images[1])


def test_graphs(moved):
    T = moved.T_wc[0].double()
    between = se3.inverse(T[:-1]) @ T[1:]
    i = torch.arange(3).to(DEVICE)
    assert on_device([graph.chordal_initialization(T, i, i + 1, between)])


def test_planners(device):
    cost = (0.1 + torch.rand(1, 8, 8, dtype=torch.float64)).to(device).requires_grad_()
    goal = torch.tensor([[7, 7]]).to(device)
    for plan in (planning.ValueIteration(), planning.ValueIteration(temperature=0.01)):
        values = plan(cost, goal)
        assert on_device([values.cost_to_go, values.converged, values.iterations])
    given = [[1, 0.1], [0, 1]], [[0.0], [0.1]], [[1.0, 0], [0, 1]], [[1.0]]
    assert on_device([planning.dare(*(torch.tensor(x, device=device) for x in given))])


def test_refinement(frames, room, device):
    slam = gs.PointFusion("ground-truth", factor=1).to(device)
    sequence = room.InMemory(frames)
    refinement.refine(slam, sequence, slam.run(sequence, compile=False))
