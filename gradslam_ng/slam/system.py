"""Dense RGB-D SLAM, a frame at a time: localize it against the map, then fuse it."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as checkpointed

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.compiled import static_shapes_enabled
from gradslam_ng.compute.transforms import is_vmapped, transforms_active
from gradslam_ng.compute.tree import unshared
from gradslam_ng.mapping import Mapper
from gradslam_ng.odometry import Odometry, TrackingResult, TrackingStatus
from gradslam_ng.preprocessing import MAX_DEPTH, Noise, axial_noise, measure_surface
from gradslam_ng.rendering.index_map import MAX_PIXELS
from gradslam_ng.slam.settings import Settings, preset
from gradslam_ng.slam.state import Map, State
from gradslam_ng.slam.timing import StageTimer, stage
from gradslam_ng.structures import Camera, LiveFrame, RGBDFrames, SurfaceView, SurfelMap
from gradslam_ng.structures.frame_checks import check_color, check_frames
from gradslam_ng.structures.origin import nearest_origin, relative_to_origin

MIN_SIZE = 8  # pixels across an image at working size


class System(nn.Module):
    """A SLAM system. Systems differ in their mapper and in the view that a frame is aligned with (`predict_view`).

    Args:
        odometry: "gradicp", "icp" or "ground-truth", see `Settings.make_odometry`, or an `Odometry` of your own, which
            brings its own settings.
        mapper: how frames join the map; each system has its own.
        noise: depth noise (B, H, W), meters, of a surface and its color: a function, or a network to be learned.
        factor: images are shrunk by this before anything else; None chooses what comes nearest to the settings' width.
        settings: a preset's name, "default", "fast", "accurate" or "soft", or your own; see `Settings`.
        max_depth: depth beyond this, meters, is no measurement. Sequences leave out what is beyond their sensor
            themselves, see `RGBDSequence`.

    Raises:
        ValueError: a name that is none of these, a factor below 1, or a max_depth that is not positive.
        TypeError: an odometry, a mapper, a noise model or settings of another kind; a mapper of another kind of map.
    """

    _anchor: Tensor
    mapper_type: type[Mapper] = Mapper  # used unless another is given
    map_type: type = SurfelMap
    supports_relocalization = True  # `predict_view` can show the map from any pose, not the last frame alone

    def __init__(
        self,
        odometry: str | Odometry = "gradicp",
        *,
        mapper: Mapper | None = None,
        noise: Noise = axial_noise,
        factor: int | None = None,
        settings: str | Settings = "default",
        max_depth: float = MAX_DEPTH,
    ) -> None:
        super().__init__()
        if not max_depth > 0:
            raise ValueError(f"max_depth: expected a positive number of meters, got {max_depth}")
        if factor is not None and (not isinstance(factor, Integral) or factor < 1):
            raise ValueError(f"factor: expected a whole number, at least 1, got {factor}")
        if not callable(noise):
            raise TypeError(f"noise: expected a function of a surface and its color, got {type(noise).__name__}")
        self.settings = preset(settings) if isinstance(settings, str) else settings
        if not isinstance(self.settings, Settings):
            raise TypeError(f"settings: expected a name or Settings, got {type(settings).__name__}")
        self.odometry = self.settings.make_odometry(odometry) if isinstance(odometry, str) else odometry
        self.mapper = self.make_mapper() if mapper is None else mapper
        for name, part, kind in (("odometry", self.odometry, Odometry), ("mapper", self.mapper, Mapper)):
            if not isinstance(part, kind):
                raise TypeError(f"{name}: expected an instance of {kind.__name__}, got {type(part).__name__}")
        if not issubclass(self.map_type, self.mapper.map_type):
            needed, own = self.map_type.__name__, type(self.mapper).__name__
            raise TypeError(f"mapper: expected one for maps of type {needed}, got {own}")
        self.factor, self.noise, self.max_depth = factor, noise, max_depth
        self.timer = StageTimer()
        self.register_buffer("_anchor", torch.zeros(()), persistent=False)  # follows .to(device)

    def make_mapper(self) -> Mapper:
        """The mapper of a system that is given none."""
        return self.mapper_type()

    @property
    def device(self) -> torch.device:
        return self._anchor.device

    @mode_free
    def step(self, state: State | None, frame: RGBDFrames) -> State:
        """Localize one frame against the map, then fuse it (Keller et al. 2013, fig. 2; Newcombe et al. 2011, fig. 3).

        Under `torch.no_grad()` the map of `state` is updated in place: go on from the state that this returns; to go on
        from `state` once more is refused. A map that gradients go back through is copied before.

        Args:
            state: that of the frame before, None for the first.
            frame: one () or one for each of B sequences (B,).

        Raises:
            ValueError: more leading axes, another number of sequences, size, type or device of images than before; for
                the first frame also what `check_frames` refuses. In later ones, where asking would wait for a GPU, such
                pixels, frames and poses take no part, see `measure_surface`.
        """
        frame = self.check_first(state, frame)
        live = self.preprocess(frame)  # surface measurement: vertices, normals, sigma
        state = self.initialize(live) if state is None else state.check(live)
        T_init = state.predict(live)  # as another source says, else constant velocity
        model = self.predict_view(state, T_init, live.camera)  # what the map shows from there
        tracking = self.localize(state, live, model, T_init)  # align the two
        map_ = self.update_map(state, live, tracking)  # fuse the frame, and prune now and then
        return state.advance(map_, tracking, live)

    def check_first(self, state: State | None, frame: RGBDFrames) -> RGBDFrames:
        """The frame, its values checked if it is the first: later ones are not waited for."""
        if state is None:
            check_frames(frame)
        return frame

    @stage("preprocess")
    @mode_free
    def preprocess(self, frame: RGBDFrames) -> LiveFrame:
        """The frame at working resolution, with the surface that it shows and its noise; in float32 or float64.

        Raises:
            ValueError: not one frame a sequence, or images that are too small or too large.
            RuntimeError: within `torch.vmap` over frames.
        """
        if any(is_vmapped(x) for x in (frame.color, frame.depth, frame.K)):
            raise RuntimeError("vmap: a system takes a batch of sequences as it is; give frames with axes (B, L)")
        frame = frame if frame.shape else frame.map(lambda value: value[None])
        if len(frame.shape) != 1:
            raise ValueError(f"step: expected a frame () or one a sequence (B,), got leading axes {tuple(frame.shape)}")
        if frame.depth.dtype not in (torch.float32, torch.float64):
            frame = replace(frame.to(dtype=torch.float32), T_wc=frame.T_wc, T_prior=frame.T_prior)
        factor = self.factor or max(1, round(frame.size[1] / self.settings.width))
        if min(frame.size) < MIN_SIZE * factor:
            height, width = frame.size
            raise ValueError(f"images of {width}x{height} shrunk by {factor}: at least {MIN_SIZE} pixels must be left")
        if frame.size[0] * frame.size[1] > MAX_PIXELS * factor**2:
            height, width = frame.size
            raise ValueError(f"images of {width}x{height} shrunk by {factor}: expected at most {MAX_PIXELS} pixels")
        return measure_surface(frame, factor, self.noise, self.max_depth, self.settings.soft)

    @stage("preprocess")
    def initialize(self, live: LiveFrame) -> State:
        """Before the first frame: an empty map, and a camera at the pose that came with the frame or at the origin."""
        surface = live.surface
        batch, device, dtype = len(surface.K), surface.K.device, surface.vertices.dtype
        still = torch.eye(4, device=device, dtype=dtype).expand(batch, 4, 4)
        origin = torch.zeros(batch, 3, device=device, dtype=torch.float64)
        if live.T_wc is not None:
            origin = nearest_origin(live.T_wc)
        T_oc = provided_pose(live, origin, still)
        no = torch.zeros(batch, device=device, dtype=torch.bool)
        map_, index = self.empty_map(batch, device, dtype), torch.zeros((), dtype=torch.int64, device=device)
        anywhere = torch.full((2,), torch.inf, device=device, dtype=dtype)
        tracking = TrackingResult.from_pose(T_oc, no)
        unknown = torch.full((batch, 4, 4), torch.nan, device=device, dtype=torch.float64)
        nothing = surface.without_readings()
        return State(map_, T_oc, still, 0, index, tracking, live, nothing, no, origin, anywhere, unknown)

    def empty_map(self, batch: int, device: torch.device, dtype: torch.dtype) -> Map:
        """The maps before the first frame."""
        return SurfelMap.empty(batch, device=device, dtype=dtype)

    def predict_view(self, state: State, T_wm: Tensor, camera: Camera) -> SurfaceView:
        """What a frame is tracked against: what the map shows a camera at T_wm (B, 4, 4), relative to its origin."""
        raise NotImplementedError

    @stage("localize")
    def localize(self, state: State, live: LiveFrame, model: SurfaceView, T_init: Tensor) -> TrackingResult:
        """Where the frame was seen from; T_init (B, 4, 4) is where it is expected. Both relative to the state's origin.

        The first frame with depth has nothing to be lost from: it is where its own pose or the state says.
        """
        if live.T_wc is not None:
            live = replace(live, T_wc=relative_to_origin(live.T_wc, state.origin, state.T_oc.dtype))
        told = state.reckon(live)
        if told is not None:
            live = replace(live, T_wc_told=told)
        tracking = self.odometry(live, model, T_init, T_wc_last=state.T_oc)
        if not self.odometry.provides_pose:
            wide = tracking.ok & state.is_wide(tracking.T_wc, T_init, told)
            tracking = replace(tracking, status=torch.where(wide, int(TrackingStatus.WIDE_STEP), tracking.status))
            tracking = bootstrap(tracking, state, live)
        if live.has_camera is None:
            return tracking
        return replace(tracking, status=torch.where(live.has_camera, tracking.status, int(TrackingStatus.NO_CAMERA)))

    def update_map(self, state: State, live: LiveFrame, tracking: TrackingResult) -> Map:
        """The map with a frame fused where it was tracked, and pruned if the time has come.

        Without gradients that of `state` is updated in place, and the state superseded, but for a map that gradients go
        back through, of which a copy is.
        """
        before = unshared(state.map)
        map_ = self.fuse(before, live, tracking.T_wc, tracking.ok, state.index)
        map_ = self.maintain(map_, tracking.ok, state.frames)
        if not torch.is_grad_enabled() and before is state.map and map_ is not before:
            state.supersede()
        return map_

    @stage("map")
    def fuse(self, map_: Map, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: Tensor) -> Map:
        """The map with the frame of that number, seen from T_wc (B, 4, 4), where it was tracked, ok (B,)."""
        return self.mapper(map_, live, T_wc, ok, frame)

    @stage("map")
    def maintain(self, map_: Map, ok: Tensor, frame: int) -> Map:
        """The map after the frame of that number, pruned if the time has come.

        Not in `static_shapes`: what is recorded there is the same for every frame; see `GraphedStep`.
        """
        return map_ if static_shapes_enabled() else self.mapper.prune_if_due(map_, ok, frame)

    @mode_free
    def forward(self, frames: RGBDFrames, checkpoint: bool = False) -> tuple[Map, Tensor]:
        """A batch of clips at once. frames (B, L) or (L,). Returns the maps and the poses T_wc (B, L, 4, 4), which are
        in float64 if those of the frames are.

        checkpoint: keep only every sqrt(L)-th state for the backward pass, which then takes each step once more.

        Raises:
            ValueError: other leading axes, color far outside [0, 1] in any frame; see also `step`.
        """
        if len(frames.shape) not in (1, 2) or 0 in frames.shape:
            raise ValueError(f"frames: expected leading axes (B, L) or (L,), none of them 0, got {tuple(frames.shape)}")
        clips = frames if len(frames.shape) == 2 else frames.map(lambda value: value[None])
        check_color(clips.color)
        # without gradients maps are updated in place, never twice; torch.func has no hooks on what is saved
        keeping = checkpoint and torch.is_grad_enabled() and not transforms_active()
        length = math.isqrt(clips.shape[1]) if keeping else clips.shape[1]
        state: State | None = None
        poses: list[Tensor] = []
        for i in range(0, clips.shape[1], length):
            part = (state, clips[:, i : i + length])
            state, T_wc = checkpointed(self.unroll, *part, use_reentrant=False) if keeping else self.unroll(*part)
            poses += T_wc
        assert state is not None  # there is a frame
        return state.world_map, torch.stack(poses, dim=1)

    def unroll(self, state: State | None, clips: RGBDFrames) -> tuple[State, list[Tensor]]:
        """One step for each frame of clips (B, L). Returns the last state, and the pose (B, 4, 4) after each."""
        state = self.step(state, clips[:, 0])
        poses = [state.T_wc]
        for i in range(1, clips.shape[1]):
            state = self.step(state, clips[:, i])
            poses.append(state.T_wc)
        return state, poses


def provided_pose(live: LiveFrame, origin: Tensor | None, otherwise: Tensor) -> Tensor:
    """The pose that came with the frame, relative to an origin; where none did, `otherwise` (B, 4, 4)."""
    if live.T_wc is None:
        return otherwise
    T_oc = relative_to_origin(live.T_wc, origin, otherwise.dtype)
    return torch.where(torch.isfinite(T_oc).flatten(1).all(-1)[:, None, None], T_oc, otherwise)


def bootstrap(tracking: TrackingResult, state: State, live: LiveFrame) -> TrackingResult:
    """The first frame with depth where its own pose or the state says; those after it as tracked."""
    readable = (live.surface.weights > 0).flatten(1).any(-1)
    return tracking.where(state.initialized, TrackingResult.from_pose(provided_pose(live, None, state.T_oc), readable))
