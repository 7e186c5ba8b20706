"""Fixtures for the whole suite."""

from __future__ import annotations

import math
import os
import socket
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gradslam_ng.compute import kernel_library
from gradslam_ng.compute.discrete import intercept_choices
from gradslam_ng.datasets import FrameError, RGBDSequence
from gradslam_ng.geometry import camera, se3
from gradslam_ng.slam import PointFusion
from gradslam_ng.structures import LiveFrame, RGBDFrames, SurfelMap, Trajectory

# what is compiled on this machine, or by the test before, makes no difference to a test
os.environ["GRADSLAM_NG_KERNELS"] = tempfile.mkdtemp(prefix="gradslam_ng_kernels_")
kernel_library.WORTH_COMPILING = math.inf  # nor is anything compiled beside those that are not about it


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real sequences beside the checkout, or named by GRADSLAM_NG_DATA; skips where there is none."""
    folder = Path(os.environ.get("GRADSLAM_NG_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no benchmark sequences at {folder}; set GRADSLAM_NG_DATA to their folder")
    return folder


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on, another one for each test: nothing of the test before looks for it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


ROOM = torch.tensor([[-2.0, -1.4, -1.5], [1.8, 1.2, 2.6]], dtype=torch.float64)  # corners, meters
CRATE = torch.tensor([[0.1, 0.4, 1.2], [0.9, 1.2, 1.9]], dtype=torch.float64)  # stands on the floor (y down)


def room_view(T_wc: Tensor, size: tuple[int, int] = (60, 80), dtype: torch.dtype = torch.float32) -> RGBDFrames:
    """What cameras at T_wc (..., 4, 4) inside a box-shaped room with a crate see, exactly: depth has a closed form."""
    T_wc = T_wc.double()
    height, width = size
    f = 0.8 * width
    K = torch.tensor([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]], dtype=torch.float64)
    rays = camera.unproject(torch.ones(height, width, 1, dtype=torch.float64), K).reshape(-1, 3)
    d = se3.rotate(T_wc, rays)  # z = 1 in the camera, so the ray parameter is the depth
    o = T_wc[..., None, :3, 3]
    walls = ((ROOM[:, None, None] - o) / d).amax(0).amin(-1)
    faces = (CRATE[:, None, None] - o) / d if T_wc.ndim == 3 else (CRATE[:, None] - o) / d
    enter, leave = faces.amin(0).amax(-1), faces.amax(0).amin(-1)
    depth = torch.where((enter > 0) & (enter < leave), torch.minimum(enter, walls), walls)
    p_w = o + depth[..., None] * d
    color = 0.5 + 0.4 * torch.sin(p_w * torch.tensor([3.0, 5.0, 4.0], dtype=torch.float64))
    lead = T_wc.shape[:-2]
    color, depth = color.reshape(*lead, *size, 3), depth.reshape(*lead, *size, 1)
    return RGBDFrames(color.to(dtype), depth.to(dtype), K.to(dtype), T_wc.to(dtype))


def room_walk(count: int, seed: int = 0) -> Tensor:
    """(L, 4, 4) float64: a smooth path that looks into a corner of the room, below 1 cm and 1 degree a frame."""
    generator = torch.Generator().manual_seed(seed)
    s = torch.arange(count, dtype=torch.float64)[:, None] / 15
    phase, size = torch.rand(2, 6, generator=generator, dtype=torch.float64)
    wave = (0.5 + 0.5 * size) * torch.tensor([0.10, 0.08, 0.10, 0.08, 0.10, 0.06], dtype=torch.float64)
    twist = wave * (torch.sin(s + 6 * phase) - torch.sin(6 * phase))
    yaw, pitch = se3.exp(twist.new_tensor([[0, 0, 0, 0, 0.6, 0], [0, 0, 0, -0.4, 0, 0]]))
    return yaw @ pitch @ se3.exp(twist)


class InMemory(RGBDSequence):
    """A clip (L,) as a Sequence at 30 Hz; reading a frame in `broken` raises FrameError, or what it maps to."""

    def __init__(self, clip: RGBDFrames, broken: dict[int, BaseException | None] | None = None, name: str = "clip"):
        times = torch.arange(len(clip), dtype=torch.float64) / 30 if clip.timestamps is None else clip.timestamps
        poses = None if clip.T_wc is None else clip.T_wc.double()
        truth = None if poses is None else Trajectory(times, poses)
        super().__init__(
            name=name, layout="memory", K=clip.K[0], size=clip.size, timestamps=times, ground_truth=truth, T_wc=poses
        )
        self.clip, self.broken = clip, broken or {}

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        if index in self.broken:
            raise self.broken[index] or FrameError(index, path=f"{index}.png", reason="cannot be read")
        return self.clip.color[index], self.clip.depth[index]


@pytest.fixture(scope="session")
def room() -> SimpleNamespace:
    """A closed-form scene: view(T_wc, size, dtype) gives RGBDFrames, walk(count, seed) poses; InMemory sequences."""
    return SimpleNamespace(view=room_view, walk=room_walk, InMemory=InMemory, corners=ROOM, crate=CRATE)


@pytest.fixture(scope="session")
def seen(room):
    """Function (T_wc) -> the live frame and a map of what it shows."""

    def see(T_wc: Tensor) -> tuple[LiveFrame, SurfelMap]:
        frame = room.view(T_wc[None])
        system = PointFusion()
        with torch.no_grad():
            state = system.step(None, frame[0])
            return system.preprocess(frame[0]), state.map

    return see


class DifferenceCheck:
    """Gradients against central differences, with every discrete choice as it was where the gradient was taken."""

    def __init__(self) -> None:
        self.choices, self.replay, self.choosing = [], None, False

    def choose(self, function: Callable, *args, **kwargs) -> Any:
        """What a discrete function decides where the gradient is taken; the same anew wherever a difference is."""
        if self.choosing:  # one choice within another
            return function(*args, **kwargs)
        if self.replay is not None:
            return next(self.replay)
        self.choosing = True
        self.choices.append(function(*args, **kwargs))
        self.choosing = False
        return self.choices[-1]

    def __call__(
        self,
        function: Callable[..., dict[str, Tensor]],
        inputs: dict[str, Tensor],
        steps: dict[str, float] | None = None,
        directions: int = 1,
    ) -> dict[tuple[str, str], float]:
        """Relative error by (output, input), the worst over random directions, for pairs that depend on each other.

        Inputs are moved along themselves times random numbers, entry by entry, so that zeros (holes) stay zeros; steps
        are relative, 1e-6 unless told. Errors are relative to the derivative or, where its terms cancel, to the root of
        the sum of their squares.
        """
        steps = steps or {}
        generator = torch.Generator().manual_seed(0)

        def random(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, dtype=like.dtype)

        self.choices.clear()
        self.replay = None
        leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
        outputs = function(**leaves)
        count = len(self.choices)
        weights = {name: random(value) for name, value in outputs.items()}
        gradients = {}
        for output, value in outputs.items():
            scalar = (weights[output] * value).sum()
            found = torch.autograd.grad(scalar, list(leaves.values()), retain_graph=True, allow_unused=True)
            gradients |= {(output, name): g for name, g in zip(leaves, found, strict=True) if g is not None}

        errors = defaultdict(float)
        for name, value in inputs.items():
            for _ in range(directions):
                direction, h = value * random(value), steps.get(name, 1e-6)
                ends = []
                for sign in (1, -1):
                    self.replay = iter(self.choices[:count])
                    ends.append(function(**(inputs | {name: value + sign * h * direction})))
                for output in outputs:
                    if (output, name) not in gradients:
                        continue
                    terms = gradients[output, name] * direction
                    numeric = ((ends[0][output] - ends[1][output]) * weights[output]).sum() / (2 * h)
                    scale = torch.maximum(numeric.abs(), terms.norm())
                    error = (terms.sum() - numeric).abs() / scale
                    errors[output, name] = max(errors[output, name], error.item())
        return dict(errors)


@pytest.fixture
def differences() -> Iterator[DifferenceCheck]:
    """Compares gradients with central differences; see `DifferenceCheck.__call__`."""
    check = DifferenceCheck()
    with intercept_choices(check.choose):
        yield check


SOFTWARE_SIZE, SOFTWARE_RATE = (60, 80), 30


class SoftwareCamera:
    """A RealSense without a camera: a software device of librealsense, with frames of a scene, 30 a second."""

    def __init__(self, view: Callable[[int], tuple[np.ndarray, np.ndarray]], count: int = 10**9) -> None:
        import pyrealsense2 as rs

        self.rs, self.view, self.count = rs, view, count
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.name, "Software D400")
        streams = (("depth", rs.format.z16, 2), ("color", rs.format.rgb8, 3))
        self.sensors = [self.device.add_sensor(name) for name, _, _ in streams]
        self.profiles = [
            sensor.add_video_stream(self._stream(number, *stream)).as_video_stream_profile()
            for number, (sensor, stream) in enumerate(zip(self.sensors, streams, strict=True))
        ]
        self.sensors[0].add_read_only_option(rs.option.depth_units, 0.001)
        same = rs.extrinsics()
        same.rotation, same.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
        self.profiles[0].register_extrinsics_to(self.profiles[1], same)
        self.profiles[1].register_extrinsics_to(self.profiles[0], same)
        self.device.create_matcher(rs.matchers.default)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._push_all, daemon=True)
        self.thread.start()

    def _stream(self, number: int, kind: str, form, depth: int):
        camera = self.rs.intrinsics()
        camera.height, camera.width = SOFTWARE_SIZE
        camera.fx = camera.fy = 64.0
        camera.ppx, camera.ppy, camera.coeffs = (SOFTWARE_SIZE[1] - 1) / 2, (SOFTWARE_SIZE[0] - 1) / 2, [0.0] * 5
        camera.model = self.rs.distortion.none
        stream = self.rs.video_stream()
        stream.type, stream.uid, stream.index = getattr(self.rs.stream, kind), number, 0
        stream.width, stream.height, stream.fps = SOFTWARE_SIZE[1], SOFTWARE_SIZE[0], SOFTWARE_RATE
        stream.fmt, stream.bpp, stream.intrinsics = form, depth, camera
        return stream

    def _push_all(self) -> None:
        for number in range(self.count):
            depth, color = self.view(number)
            for sensor, profile, pixels in zip(self.sensors, self.profiles, (depth, color), strict=True):
                frame = self.rs.software_video_frame()
                frame.pixels, frame.bpp = pixels, pixels.nbytes // (SOFTWARE_SIZE[0] * SOFTWARE_SIZE[1])
                frame.stride, frame.frame_number, frame.profile = frame.bpp * SOFTWARE_SIZE[1], number, profile
                frame.timestamp, frame.domain = (
                    1e3 * (1000 + number / SOFTWARE_RATE),
                    self.rs.timestamp_domain.system_time,
                )
                if pixels.dtype == np.uint16:
                    frame.depth_units = 0.001
                sensor.on_video_frame(frame)
            if self.stopped.wait(1 / SOFTWARE_RATE):
                return

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()


def moving_wall(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth, millimeters, and color of the frame of that number, both of which tell it."""
    depth = np.full(SOFTWARE_SIZE, 1000 + number, np.uint16)
    depth[:5] = 0
    color = np.zeros((*SOFTWARE_SIZE, 3), np.uint8)
    color[..., 0], color[..., 2] = number % 256, 200
    return depth, color


@pytest.fixture
def software(monkeypatch) -> Iterator[SimpleNamespace]:
    """`software.open(view, count)` gives a RealSense of a software device; `plug_in` makes it what `realsense:` is."""
    pytest.importorskip("pyrealsense2")
    from gradslam_ng.cameras import opening
    from gradslam_ng.cameras.realsense import RealSense

    pushed: list[SoftwareCamera] = []

    def open_device(view=moving_wall, count: int = 10**9) -> RealSense:
        pushed.append(SoftwareCamera(view, count))
        return RealSense(device=pushed[-1].device)

    def plug_in(*args) -> None:
        monkeypatch.setitem(opening.CAMERAS, "realsense", lambda serial: open_device(*args))

    yield SimpleNamespace(open=open_device, plug_in=plug_in, pushed=pushed, size=SOFTWARE_SIZE)
    for each in pushed:
        each.stop()
