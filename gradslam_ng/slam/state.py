"""State of a SLAM system between frames, and the result of a run over a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.odometry import TrackingResult, TrackingStatus
from gradslam_ng.structures import LiveFrame, SurfaceView, SurfelMap, Trajectory, VoxelGrid
from gradslam_ng.structures.motion_prior import motion_told
from gradslam_ng.structures.origin import nearest_origin, relative_to_origin, to_world

Map = SurfelMap | VoxelGrid


@dataclass(frozen=True, eq=False)
class State:
    """What a system carries from frame to frame, after `frames` frames of B sequences."""

    map: Map  # in coordinates that begin at `origin`, though it does not tell: see `world_map`
    T_oc: Tensor  # (B, 4, 4), of the last frame, relative to `origin`: see `T_wc`
    motion: Tensor  # (B, 4, 4), velocity per frame, from the last frame but one to the last: T_oc_before @ motion
    frames: int
    index: Tensor  # () int64, number of the next frame: the same as `frames`, where a CUDA graph can read it
    tracking: TrackingResult  # poses relative to `origin`
    live: LiveFrame  # the last frame, preprocessed
    last: SurfaceView  # of the last frame that was tracked, which may be older: the model of frame-to-frame odometry
    initialized: Tensor  # (B,) bool: some frame had depth
    origin: Tensor  # (B, 3) float64, where in the world coordinates begin, meters; see `structures.origin`
    trusted_step: Tensor  # (2,), meters and radians that alignment by itself is trusted over; see `is_wide`
    T_prior: Tensor  # (B, 4, 4) float64, where another source saw the last frame that was tracked, NaN where unknown
    stands_for: State | None = field(default=None, init=False)  # the same one with another origin
    superseded: bool = field(default=False, init=False)  # its map is no longer what it was, see `supersede`

    def check(self, live: LiveFrame) -> State:
        """The same state, if a frame goes with those before.

        Raises:
            ValueError: another number of sequences, or images of another size, type or device; a state whose map a
                step has updated in place since.
        """
        self.check_current()
        if live.color.shape != self.last.vertices.shape:
            now, before = (f"{b} of {w}x{h}" for b, h, w, _ in (live.color.shape, self.last.vertices.shape))
            raise ValueError(f"step: expected images as before, {before}, got {now} (at working size)")
        now, before = (f"{x.dtype} on {x.device}" for x in (live.color, self.last.vertices))
        if now != before:
            raise ValueError(f"step: expected images as before, {before}, got {now}; bring them there by frame.to(...)")
        return self if live.T_wc is None else self.with_origin_near(live.T_wc)

    def with_origin_near(self, T_wc: Tensor) -> State:  # T_wc (B, 4, 4), in the world, NaN where unknown
        """The same state, its origin near these poses where nothing was fused yet and they are known."""
        free = T_wc.isfinite().flatten(1).all(-1) & ~self.initialized
        origin = torch.where(free[:, None], nearest_origin(T_wc), self.origin)
        T_oc = relative_to_origin(self.T_oc, origin - self.origin, self.T_oc.dtype)
        moved = replace(self, origin=origin, T_oc=T_oc)
        object.__setattr__(moved, "stands_for", self)
        return moved

    @property
    def T_wc(self) -> Tensor:
        """The pose (B, 4, 4) of the last frame in the world, in the precision of the poses that come with frames."""
        return to_world(self.T_oc, self.origin, self.T_oc.dtype if self.live.T_wc is None else self.live.T_wc.dtype)

    @property
    def world_map(self) -> Map:
        """The map with its origin, for those who know poses in the world."""
        return replace(self.map, origin=self.origin)

    def check_current(self) -> None:
        """Raise ValueError if a step has updated the map in place since."""
        if self.superseded:
            raise ValueError(
                "state: a step without gradients has updated its map in place since; go on from the state which that "
                "step returned, or, to go on from one state twice, take copy.deepcopy(state) before"
            )

    def supersede(self) -> None:
        """Note that the map has been updated in place: what comes after is in another state."""
        object.__setattr__(self, "superseded", True)
        if self.stands_for is not None:
            self.stands_for.supersede()

    @property
    def surfels(self) -> SurfelMap:
        """The map of a system that keeps surfels.

        Raises:
            TypeError: it keeps none.
        """
        if not isinstance(self.map, SurfelMap):
            raise TypeError(f"map: expected surfels, got {type(self.map).__name__}")
        return self.map

    @property
    def volume(self) -> VoxelGrid:
        """The map of a system that keeps a volume.

        Raises:
            TypeError: it keeps none.
        """
        if not isinstance(self.map, VoxelGrid):
            raise TypeError(f"map: expected a volume, got {type(self.map).__name__}")
        return self.map

    def predict(self, live: LiveFrame) -> Tensor:
        """Where a frame is expected, relative to the origin (B, 4, 4): where another source says, else at constant
        velocity."""
        T_oc, told = self.T_oc @ self.motion, self.reckon(live)
        return T_oc if told is None else torch.where(told.isfinite(), told, T_oc)

    def reckon(self, live: LiveFrame) -> Tensor | None:
        """Where another source says that a frame was seen from, relative to the origin (B, 4, 4): as far from the last
        frame that was tracked as it says. NaN where it says nothing, in the translation alone too; None without one."""
        if live.T_prior is None:
            return None
        motion = motion_told(self.T_prior, live.T_prior.double()).to(self.T_oc.dtype)
        known = motion.isfinite()
        return torch.where(known, self.T_oc @ torch.where(known, motion, self.motion), torch.nan)

    def advance(self, map_: Map, tracking: TrackingResult, live: LiveFrame) -> State:
        """After one frame more. A lost frame does not move the camera, and the model to track from stays."""
        ok = tracking.ok[:, None, None]
        T_oc = torch.where(ok, tracking.T_wc, self.T_oc)
        still = torch.eye(4, dtype=T_oc.dtype, device=T_oc.device)
        initialized = self.initialized | tracking.ok
        moved = (self.initialized & tracking.ok)[:, None, None]
        motion = torch.where(moved, se3.inverse(self.T_oc) @ T_oc, still)
        last = live.surface.where(tracking.ok, self.last)
        frames, index = self.frames + 1, self.index + 1
        T_prior = torch.full_like(self.T_prior, torch.nan) if live.T_prior is None else live.T_prior.double()
        T_prior = torch.where(ok, T_prior, self.T_prior)
        return State(
            map_,
            T_oc,
            motion,
            frames,
            index,
            tracking,
            live,
            last,
            initialized,
            self.origin,
            self.trusted_step,
            T_prior,
        )

    def is_wide(
        self,
        T_oc: Tensor,  # (B, 4, 4)
        T_init: Tensor,  # (B, 4, 4)
        told: Tensor | None = None,  # (B, 4, 4), of `reckon`
    ) -> Tensor:
        """(B,) bool: a pose found is farther from where it was expected than `trusted_step`, or, but where another
        source has told of that motion, farther from the last frame than three times that."""
        T_oc, (meters, radians) = T_oc.detach(), self.trusted_step.detach()
        corrected, turned = se3.distance(T_init.detach(), T_oc)
        moved, rotated = se3.distance(self.T_oc.detach(), T_oc)
        if told is not None:
            moved, rotated = (torch.where(told[:, 0, k].isfinite(), 0.0, x) for k, x in ((3, moved), (0, rotated)))
        return (torch.maximum(corrected, moved / 3) > meters) | (torch.maximum(turned, rotated / 3) > radians)

    def before_last(self) -> State:
        """The state before the last frame was counted, which was lost and left all else as it was."""
        return replace(self, frames=self.frames - 1, index=self.index - 1)

    def advance_without_fusion(self, tracking: TrackingResult, live: LiveFrame) -> State:
        """After one frame more of a camera that was lost, relocalized or not: the map stays as it is, and the velocity
        is zero, since what was known of it is out of date. The frame may be of another camera than those before."""
        same = self.last.size == live.surface.size
        before = self if same else replace(self, last=live.surface.without_readings())
        state = before.advance(self.map, tracking, live)
        still = torch.eye(4, dtype=self.T_oc.dtype, device=self.T_oc.device).expand_as(self.T_oc)
        return replace(state, motion=still)


@dataclass
class Result:
    """What a run leaves."""

    map: Map
    trajectory: Trajectory  # of all frames; where one was lost, where the camera was left
    statuses: Tensor  # (L,) int64, a `TrackingStatus` per pose of the trajectory
    covariances: Tensor  # (L, 6, 6) float64, of each pose, see `TrackingResult`; NaN where there is none
    skipped: list[str] = field(default_factory=list)  # frames that could not be read, and why
    milliseconds: dict[str, float] = field(default_factory=dict)  # mean per frame, by stage
    interrupted: bool = False
    loops: int = 0  # closed
    relocalized: list[int] = field(default_factory=list)  # poses of the trajectory at which a lost camera was found
    seconds_compiling: float = 0.0  # beside the above
    submaps: list[int] = field(default_factory=list)  # frames with a pose: of the map, then of each submap not joined
    others: list[tuple[Map, Trajectory]] = field(default_factory=list)  # submaps not joined, each in its own world;
    # one of a single frame, which tells of no motion, is left out
    loop_frames: list[tuple[int, int]] = field(
        default_factory=list
    )  # poses of the trajectory that each loop is between
    stored: Callable[[], Iterator[SurfelMap]] | None = None  # makes the parts of the map that are on disk, not in `map`

    @property
    def tracked(self) -> Tensor:
        """(L,) bool: poses that can be trusted."""
        return TrackingStatus.is_tracked(self.statuses)

    @property
    def localized(self) -> Trajectory:
        """The poses of the frames tracked; none where no frame was."""
        return self.trajectory[self.tracked]
