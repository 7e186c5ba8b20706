"""The gradient contract, for whole systems: every float output to every float input on which it depends."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gradslam_ng as gs
from benchmarks.gradient_errors import SCENES, views
from benchmarks.gradient_errors import K as SCENE_K
from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.mapping import PointFuser
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.slam.system import System
from gradslam_ng.structures import RGBDFrames, SurfelMap

MAP = ("points", "normals", "colors", "radii", "confidences")
ODOMETRY = {"kernel_width": 4.685, "damping": 1e-2, "temperature": 0.5, "max_distance": 0.1, "association_sigma": 0.5}
FUSION = {"sigma": 0.6, "stable": 1.0}
# relative; a depth image has thousands of places where one of two values is the larger, and must not cross them
STEPS = dict.fromkeys((*ODOMETRY, *FUSION), 1e-3) | dict.fromkeys(("kernel_width", "max_distance"), 1e-4)
STEPS |= {"depth": 5e-9, "K": 3e-7, "temperature": 3e-5}
RULES = {  # and the settings that each has
    "gauss-newton": (lambda damping, temperature: optim.GaussNewton(), set()),
    "classical": (lambda damping, temperature: optim.LevenbergMarquardt(damping), {"damping"}),
    "soft": (
        lambda damping, temperature: optim.SoftLevenbergMarquardt(damping, temperature=temperature),
        {"damping", "temperature"},
    ),
    "relinearize": (
        lambda damping, temperature: optim.SoftLevenbergMarquardt(damping, temperature=temperature, relinearize=True),
        {"damping", "temperature"},
    ),
}


def build(
    system: type[System], settings: dict[str, Tensor], window: int = 1, factor: int = 1, strategy: str = "soft"
) -> System:
    damping, temperature, sigma, stable = (settings.get(k) for k in ("damping", "temperature", "sigma", "stable"))
    reach = {name: settings[name] for name in ("max_distance", "association_sigma")}
    odometer = ProjectiveICP(
        RULES[strategy][0](damping, temperature), iterations=(2, 2, 2), kernel_width=settings["kernel_width"],
        association_window=window, **(reach if window > 1 else {}),
    )  # fmt: skip
    more = {"mapper": PointFuser(sigma=sigma, stable_confidence=stable)} if system is gs.PointFusion else {}
    return system(odometer, factor=factor, **more)


def check(
    differences,
    system: type[System],
    frames: RGBDFrames,
    window: int = 1,
    factor: int = 1,
    strategy: str = "soft",
    steps: dict[str, float] = STEPS,
) -> dict[tuple[str, str], float]:
    """Errors by pair. K is one per clip and T_wc the pose of its first frame; frames (B, L), float64."""
    names = ODOMETRY | (FUSION if system is gs.PointFusion else {})

    def run(depth: Tensor, color: Tensor, K: Tensor, T_wc: Tensor, **settings: Tensor) -> dict[str, Tensor]:
        map_, poses = build(system, settings, window, factor, strategy)(RGBDFrames(color, depth, K, T_wc))
        return {"poses": poses} | ({} if system is gs.ICPOdometry else {name: getattr(map_, name) for name in MAP})

    inputs = {"depth": frames.depth, "color": frames.color, "K": frames.K[:, 0], "T_wc": frames.T_wc[:, 0]}
    inputs |= {name: torch.tensor(value, dtype=torch.float64) for name, value in names.items()}
    return differences(run, inputs, steps)


def expected(system: type[System], window: int = 1, strategy: str = "soft") -> set[tuple[str, str]]:
    """Which output depends on which input."""
    settings = {"kernel_width"} | RULES[strategy][1] | ({"max_distance", "association_sigma"} if window > 1 else set())
    tracked = {"depth", "K", "T_wc"} | settings
    if system is gs.PointFusion:
        tracked |= {"sigma", "stable"}  # they weigh the surfels that a frame is tracked against
    pairs = {("poses", name) for name in tracked}
    if system is gs.ICPOdometry:
        return pairs
    pairs |= {(name, i) for name in ("points", "normals") for i in tracked}
    pairs |= {("colors", "color")} | {(name, i) for name in ("radii", "confidences") for i in ("depth", "K")}
    if system is gs.PointFusion:
        pairs |= {("colors", i) for i in ("depth", "K", "sigma")} | {("confidences", "sigma")}
    return pairs


def assert_right(
    errors: dict[tuple[str, str], float], pairs: set[tuple[str, str]], median: float = 1e-6, most: float = 1e-4
) -> None:
    assert pairs <= errors.keys()
    errors = {pair: errors[pair] for pair in pairs}
    assert statistics.median(errors.values()) <= median, errors
    assert max(errors.values()) <= most, errors


@pytest.fixture(scope="module")
def clips(room) -> RGBDFrames:
    """Two clips of three frames with 2 mm of noise, and a hole in one; float64."""
    clips = RGBDFrames.stack([room.view(room.walk(13, seed)[::6], (36, 48), torch.float64) for seed in (0, 1)])
    noise = torch.randn(clips.depth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    depth = clips.depth + 0.002 * noise
    depth[0, :, :16, :16] = 0
    return RGBDFrames(clips.color, depth, clips.K, clips.T_wc)


@pytest.mark.parametrize("system", [gs.PointFusion, gs.ICPSLAM, gs.ICPOdometry], ids=lambda s: s.__name__)
def test_every_output_to_every_input(differences, clips, system):
    assert_right(check(differences, system, clips), expected(system))


@pytest.mark.parametrize("strategy", ["gauss-newton", "classical", "relinearize"])
def test_every_output_to_every_input_by_every_step_rule(differences, clips, strategy):
    assert_right(
        check(differences, gs.PointFusion, clips, strategy=strategy), expected(gs.PointFusion, strategy=strategy)
    )


def test_which_point_meets_which(differences, clips):
    """With several candidates the gradient sees the association, and its settings."""
    assert_right(check(differences, gs.ICPOdometry, clips, 3), expected(gs.ICPOdometry, 3))


@pytest.fixture(scope="module")
def crop(shared_data) -> Callable[[str], RGBDFrames]:
    """Function (folder) -> the middle 320x240 pixels of three real frames (1, 3), float64."""

    def cropped(folder: str) -> RGBDFrames:
        frames = gs.datasets.load(shared_data / folder)
        clip = RGBDFrames.stack([frames[i] for i in (1, 7, 13)]).to(dtype=torch.float64)
        color, depth = (image[None, :, 120:360, 160:480] for image in (clip.color, clip.depth))
        K = clip.K[None] - torch.tensor([[0, 0, 160.0], [0, 0, 120.0], [0, 0, 0]])
        T_wc = se3.exp(torch.tensor([0.3, -0.2, 0.5, 0.3, 0.5, -0.2], dtype=torch.float64)).expand(1, 3, 4, 4)
        return RGBDFrames(color, depth, K, T_wc)

    return cropped


ICL, TUM = "icl/office_room_traj3_frei_png", "tum/rgbd_dataset_freiburg3_structure_notexture_far"
# Whether a direction is believed changes steeply with sigma: wider differences see its third derivative (1.5e-4, at a
# fifth of the step 1e-5). Planes without texture leave one nearly open, and rounding moves the camera along it:
# narrower differences see that (by temperature 1e-2 at a step of 3e-4, 8e-4 at 3e-3).
REAL_STEPS = {ICL: STEPS | {"sigma": 2e-4}, TUM: STEPS | {"sigma": 2e-4, "temperature": 1e-2, "depth": 2e-8}}


@pytest.mark.parametrize(("folder", "strategy"), [(ICL, strategy) for strategy in RULES] + [(TUM, "soft")])
def test_real_frames(differences, crop, folder, strategy):
    """Tracked at a quarter of their size."""
    errors = check(differences, gs.PointFusion, crop(folder), factor=4, strategy=strategy, steps=REAL_STEPS[folder])
    median, most = (1e-6, 1e-4) if folder == ICL else (1e-5, 5e-4)
    assert_right(errors, expected(gs.PointFusion, strategy=strategy), median=median, most=most)


@pytest.mark.slow
def test_real_frames_at_full_size(differences, crop):
    """Readings come in steps of 0.2 mm, and where neighbors are alike the smoothing has a kink and no derivative: each
    is moved by half a step at random, much farther than the differences are wide. These tell poses by depth to 3e-4:
    narrower ones see rounding along the open direction, wider ones cross borders."""
    frames = crop(TUM)
    dither = torch.rand(frames.depth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    depth = frames.depth + 2e-4 * dither * (frames.depth > 0)
    frames = RGBDFrames(frames.color, depth, frames.K, frames.T_wc)
    errors = check(differences, gs.PointFusion, frames, steps=REAL_STEPS[TUM] | {"depth": 4e-9})
    assert_right(errors, expected(gs.PointFusion), most=3e-4)


def test_given_poses(differences, clips):
    """Without odometry the map is a function of every frame's pose."""

    def run(depth: Tensor, color: Tensor, K: Tensor, T_wc: Tensor, sigma: Tensor) -> dict[str, Tensor]:
        slam = gs.PointFusion("ground-truth", factor=1, mapper=PointFuser(sigma=sigma))
        map_, _ = slam(RGBDFrames(color, depth, K, T_wc))
        return {name: getattr(map_, name) for name in MAP}

    inputs = {"depth": clips.depth, "color": clips.color, "K": clips.K, "T_wc": clips.T_wc}
    inputs |= {"sigma": torch.tensor(0.6, dtype=torch.float64)}
    errors = differences(run, inputs, STEPS)
    pairs = {(name, "depth") for name in MAP} | {(name, "T_wc") for name in ("points", "normals")}
    assert_right(errors, pairs | {("colors", "color"), ("points", "K"), ("confidences", "sigma")})


def loss(map_: SurfelMap, poses: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    outputs = [poses] + [getattr(map_, name) for name in MAP]
    return sum((torch.rand(x.shape, generator=generator).to(x) * x).sum() for x in outputs)


@pytest.mark.parametrize("system", [gs.PointFusion, gs.ICPSLAM, gs.ICPOdometry], ids=lambda s: s.__name__)
def test_in_place_functional_and_checkpointed_are_the_same(clips, system):
    """Under no_grad maps are updated in place, otherwise not. Six frames, so that fusion tidies up as well."""
    clips = RGBDFrames(*(torch.cat([x] * 2, 1) for x in (clips.color, clips.depth, clips.K, clips.T_wc)))
    slam, found = system(ProjectiveICP(iterations=(1, 1, 1)), factor=1), []
    with torch.no_grad():
        in_place, poses = slam(clips)
    for checkpoint in (False, True):
        inputs = [x.clone().requires_grad_() for x in (clips.color, clips.depth, clips.K, clips.T_wc)]
        map_, T_wc = slam(RGBDFrames(*inputs), checkpoint=checkpoint)
        assert torch.equal(T_wc, poses) and torch.equal(map_.count, in_place.count)
        for name, value in map_.attributes().items():
            there = getattr(in_place, name)
            assert torch.equal(value, there[:, : map_.capacity]) and not there[:, map_.capacity :].any(), name
        gradients = torch.autograd.grad(loss(map_, T_wc), inputs, allow_unused=True)
        found.append([g for g in gradients if g is not None])
    assert len(found[0]) >= 3
    for plain, checkpointed in zip(*found, strict=True):
        assert torch.allclose(plain, checkpointed, rtol=1e-9, atol=1e-12)


def test_settings_given_as_parameters_can_be_trained(clips):
    settings = {k: nn.Parameter(torch.tensor(v, dtype=torch.float64)) for k, v in (ODOMETRY | FUSION).items()}
    slam = build(gs.PointFusion, settings, window=3)
    assert {id(p) for p in slam.parameters()} == {id(p) for p in settings.values()}
    optimizer = torch.optim.SGD(slam.parameters(), lr=1e-4)
    before = {name: p.item() for name, p in slam.named_parameters()}
    loss(*slam(clips)).backward()
    optimizer.step()
    for name, p in slam.named_parameters():
        assert p.item() != before[name] and p.isfinite(), name
    assert not list(gs.PointFusion().parameters())


@pytest.fixture(scope="module")
def hostile(room) -> RGBDFrames:
    """A batch of clips (B, 3), each of them a trap but the last."""
    turn = se3.exp(torch.tensor([0.0, 0, 0, 0, math.pi, 0], dtype=torch.float64))
    walk = room.walk(3)
    usual = room.view(walk, (24, 32), torch.float64)
    one = torch.zeros_like(usual.depth)
    one[:, 12, 16] = 1.5
    plane = torch.full_like(usual.depth, 2.0)
    turned = room.view(torch.stack([walk[0], walk[0] @ turn, walk[0]]), (24, 32), torch.float64)

    def scale(*factors: float) -> Tensor:
        return torch.tensor(factors, dtype=torch.float64)[:, None, None, None]

    depths = {
        "nothing": torch.zeros_like(plane),
        "one pixel": one,
        "plane": plane,
        "identical": usual.depth[:1].expand_as(plane),
        "no overlap": usual.depth * scale(1.0, 3.0, 9.0),
        "half turn": turned.depth,
        "empty map": usual.depth * scale(0.0, 1.0, 1.0),
        "nothing more": usual.depth * scale(1.0, 0.0, 0.0),
        "not numbers": torch.where(torch.rand_like(plane) < 0.3, scale(math.nan, math.inf, -1.0), usual.depth),
        "near": torch.full_like(plane, 1e-6),
        "far": torch.full_like(plane, 1e4),
        "far room": usual.depth * 1e4,
        "usual": usual.depth,
    }
    depth = torch.stack(list(depths.values()))
    color = torch.full((*depth.shape[:-1], 3), 0.5, dtype=torch.float64)
    return RGBDFrames(color, depth, usual.K.expand(len(depth), 3, 3, 3), usual.T_wc.expand(len(depth), 3, 4, 4))


ODOMETERS = {
    "soft": {},
    "mean": {"association_window": 3},
    "classical": {"strategy": optim.LevenbergMarquardt()},
    "gauss-newton": {"strategy": optim.GaussNewton()},
    "relinearize": {"strategy": optim.SoftLevenbergMarquardt(relinearize=True)},
} | {mode: {"backward": mode} for mode in optim.BACKWARD[1:]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("system", "odometer"),
    [(gs.ICPSLAM, "soft"), *((gs.PointFusion, name) for name in ODOMETERS)],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_no_gradient_is_ever_not_a_number(hostile, system, odometer, dtype):
    frames = hostile.to(dtype=dtype)
    inputs = [x.clone().requires_grad_() for x in (frames.color, frames.depth, frames.K, frames.T_wc)]
    map_, poses = system(ProjectiveICP(iterations=(3, 2, 2), **ODOMETERS[odometer]), factor=1)(RGBDFrames(*inputs))
    for value in (poses, *(getattr(map_, name) for name in MAP)):
        assert value.isfinite().all()
    loss(map_, poses).backward()
    for x in inputs:
        assert x.grad.isfinite().all(), x.grad.isfinite().flatten(1).all(1)
    assert inputs[1].grad[-1].any() and not inputs[1].grad[0].any()


@pytest.mark.slow
def test_training_does_not_grow_in_memory(room):
    """20 frames of 160x120, again and again. A graph that stays alive would show as some 70 MB a step."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc to ask how much memory is in use")
    frames = room.view(room.walk(20), (120, 160))
    sigma = nn.Parameter(torch.tensor(0.6))
    slam = gs.PointFusion(ProjectiveICP(iterations=(1, 1, 1)), factor=1, mapper=PointFuser(sigma=sigma))
    optimizer, used = torch.optim.Adam(slam.parameters(), lr=1e-3), []
    for _ in range(6):
        optimizer.zero_grad()
        loss(*slam(frames)).backward()
        optimizer.step()
        used.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    assert max(used[3:]) < used[2] + 50, used


@pytest.mark.parametrize("system", [gs.ICPOdometry, gs.PointFusion, gs.KinectFusion], ids=lambda s: s.__name__)
@pytest.mark.parametrize("scene", ["wavy wall", "sphere on a plane"])
def test_scenes_that_leave_directions_open(differences, system, scene):
    """Pose and covariance know how well each direction is observed."""
    images, poses = views(SCENES[scene])
    sizes = {"voxel_size": 0.04, "truncation": 0.16} if system is gs.KinectFusion else {}

    def run(depth: Tensor, color: Tensor, K: Tensor) -> dict[str, Tensor]:
        slam = system(ProjectiveICP(iterations=(2, 2, 3)), factor=1, **sizes)
        frames = RGBDFrames(color, depth, K[None], poses[None])
        state = slam.step(slam.step(None, frames[:, 0]), frames[:, 1])
        assert state.tracking.ok.all()
        return {"pose": state.T_wc, "covariance": state.tracking.covariance}

    steps = {"depth": 5e-9, "color": 1e-7, "K": 1e-7}
    errors = differences(run, images | {"K": SCENE_K}, steps)
    assert len(errors) == 6
    assert statistics.median(errors.values()) <= 1e-5 and max(errors.values()) <= 1e-3, errors
