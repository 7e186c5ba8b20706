"""What every system shares: one step per frame, over clips and over streams."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gradslam_ng import optim
from gradslam_ng.datasets.prefetch import prefetch
from gradslam_ng.datasets.sequence import FrameError, Sequence
from gradslam_ng.hot import compiling
from gradslam_ng.odometry import Alignment, GroundTruthOdometer, ICPOdometer
from gradslam_ng.slam.state import Result, State
from gradslam_ng.structures import LiveFrame, RGBDFrames, Surface, SurfelMap, Trajectory
from gradslam_ng.structures.live import Noise, axial_noise

log = logging.getLogger("gradslam_ng")
FRAME_RATE = 30.0  # of streams that come without time stamps
WORTH_COMPILING = 300  # frames
WORKING_WIDTH = 320  # pixels: images are shrunk by the whole factor that brings them nearest


def odometer(name: str) -> nn.Module:
    """The odometer of that name: gradicp (soft-damped, differentiable), icp (Levenberg-Marquardt), ground-truth."""
    return GroundTruthOdometer() if name == "ground-truth" else ICPOdometer(rule(name))


def rule(name: str) -> optim.Rule:
    """How an ICP of that name judges its steps."""
    match name:
        case "gradicp":
            return optim.SoftLevenbergMarquardt(damping=1e-6)
        case "icp":
            return optim.LevenbergMarquardt(damping=1e-6)
    raise ValueError(f"odometry: expected gradicp, icp or ground-truth, or a module, got {name!r}")


class System(nn.Module):
    """A SLAM system. It says what a frame is tracked against (`model`) and how it joins the map (`fuse`).

    Args:
        odometry: a name (see `odometer`) or a module called like `ICPOdometer`.
        noise: depth noise (B, H, W), metres, of a surface and its colour: a function, or a network to be learnt.
        factor: images are shrunk by this before anything else; None chooses what comes nearest to 320 pixels across.
    """

    def __init__(
        self, odometry: str | nn.Module = "gradicp", factor: int | None = None, noise: Noise = axial_noise
    ) -> None:
        super().__init__()
        if factor is not None and factor < 1:
            raise ValueError(f"factor: expected at least 1, got {factor}")
        self.odometry = odometer(odometry) if isinstance(odometry, str) else odometry
        self.factor, self.noise = factor, noise
        self.register_buffer("_anchor", torch.zeros(()), persistent=False)  # follows .to(device)
        self.seconds: dict[str, float] = defaultdict(float)  # spent, by stage

    def model(self, state: State, T_wm: Tensor, live: LiveFrame) -> tuple[Surface, Tensor]:
        """What a frame is tracked against, and the pose (B, 4, 4) of the camera that sees it so."""
        raise NotImplementedError

    def fuse(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> SurfelMap:
        """The map with one frame more, where ok (B,)."""
        raise NotImplementedError

    def step(self, state: State | None, frame: RGBDFrames) -> State:
        """Localise one frame, then let it join the map. `state` is None for the first; frame () or (B,)."""
        with self.stage("prepare"):
            live = self.prepare(frame)
            state = self.start(live) if state is None else state
        T_init = state.predict()
        with self.stage("predict"):
            model, T_wm = self.model(state, T_init, live)
        with self.stage("localise"):
            tracking = self.begin(state, live, self.odometry(live, model, T_wm, T_init))
        with self.stage("map"):
            map_ = self.fuse(state.map, live, tracking.T_wc, tracking.ok, state.frames)
        return state.advance(map_, tracking, live.surface)

    def prepare(self, frame: RGBDFrames) -> LiveFrame:
        """The frame at working resolution, with its surface."""
        frame = frame if frame.shape else frame.map(lambda value: value[None])
        if len(frame.shape) != 1:
            raise ValueError(f"step: expected a frame () or one per sequence (B,), got leading axes {tuple(frame.shape)}")
        factor = self.factor or max(1, round(frame.size[1] / WORKING_WIDTH))
        return LiveFrame.of(frame, factor, self.noise)

    def start(self, live: LiveFrame) -> State:
        """Before the first frame: an empty map, and a camera at the pose that came with the frame or at the origin."""
        surface = live.surface
        batch, device, dtype = len(surface.K), surface.K.device, surface.vertices.dtype
        T_wc = torch.eye(4, device=device, dtype=dtype).expand(batch, 4, 4)
        if live.T_wc is not None:
            T_wc = torch.where(torch.isfinite(live.T_wc).flatten(1).all(-1)[:, None, None], live.T_wc, T_wc)
        still = torch.eye(4, device=device, dtype=dtype).expand(batch, 4, 4)
        none = torch.zeros(batch, device=device, dtype=dtype)
        zeros = (torch.zeros_like(x) for x in (surface.vertices, surface.normals, surface.weights))
        nothing = Surface(*zeros, surface.K)
        map_ = SurfelMap.empty(batch, device=device, dtype=dtype)
        return State(map_, T_wc, still, 0, Alignment(T_wc, none > 0, none, none), nothing, none > 0)

    @staticmethod
    def begin(state: State, live: LiveFrame, tracking: Alignment) -> Alignment:
        """The first frame with readings has nothing to be lost from: it is where it was expected."""
        readable = (live.surface.weights > 0).flatten(1).any(-1)
        ok = torch.where(state.started, tracking.ok, readable)
        T_wc = torch.where(state.started[:, None, None], tracking.T_wc, state.T_wc)
        return Alignment(T_wc, ok, tracking.overlap, tracking.error)

    def forward(self, frames: RGBDFrames) -> tuple[SurfelMap, Tensor]:
        """A batch of clips at once. frames (B, L) or (L,). Returns the maps and the poses T_wc (B, L, 4, 4)."""
        clips = frames if len(frames.shape) == 2 else frames.map(lambda value: value[None])
        if len(clips.shape) != 2:
            raise ValueError(f"frames: expected leading axes (B, L) or (L,), got {tuple(frames.shape)}")
        state, poses = None, []
        for i in range(clips.shape[1]):
            state = self.step(state, clips[:, i])
            poses.append(state.T_wc)
        return state.map, torch.stack(poses, dim=1)

    @torch.no_grad()
    def run(
        self, sequence: Sequence, on_frame: Callable[[int, State], None] | None = None, compile: bool | None = None
    ) -> Result:
        """A whole sequence, streamed. Frames that cannot be read are skipped; Ctrl-C ends the run, not its result.

        on_frame(index, state) is called after every frame. compile: use the compiled twins of hot functions (see
        `hot`); None: where the sequence is long enough to earn the half minute that compiling takes.

        Raises:
            ValueError: no frame of the sequence could be read.
        """
        state, poses, times, tracked, skipped, interrupted = None, [], [], [], [], False
        self.seconds.clear()
        compile = len(sequence) >= WORTH_COMPILING if compile is None else compile
        try:
            with compiling(compile):
                for index, frame in self.timed("read", prefetch(sequence)):
                    if isinstance(frame, FrameError):
                        log.warning("skipped: %s", frame)
                        skipped.append(str(frame))
                        continue
                    state = self.step(state, frame.to(self.device))
                    poses.append(state.T_wc[0].double().cpu())
                    tracked.append(state.tracking.ok[0])
                    times.append(index / FRAME_RATE if frame.timestamps is None else float(frame.timestamps))
                    if on_frame is not None:
                        on_frame(index, state)
        except KeyboardInterrupt:
            interrupted = True
            log.warning("interrupted after %d of %d frames", len(poses), len(sequence))
        if not poses:
            raise ValueError(f"{sequence.name}: none of its {len(sequence)} frames could be read: {skipped[:1]}")
        n = min(len(poses), len(tracked), len(times))
        trajectory = Trajectory(torch.tensor(times[:n], dtype=torch.float64), torch.stack(poses[:n]))
        stages = {name: 1e3 * seconds / n for name, seconds in self.seconds.items()}
        return Result(state.map, trajectory, torch.stack(tracked[:n]).cpu(), skipped, stages, interrupted)

    @property
    def device(self) -> torch.device:
        return self._anchor.device

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to `seconds`."""
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began

    def timed(self, name: str, iterator: Iterator) -> Iterator:
        """The same items, the time spent waiting for them added to `seconds`."""
        while True:
            with self.stage(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item
