"""Surfel maps: oriented discs with color and confidence (Keller et al. 2013, section 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.compute.compiled import static_shapes_enabled
from gradslam_ng.compute.safe import expand_mask
from gradslam_ng.geometry import se3
from gradslam_ng.io.ply import read_ply, write_ply, write_ply_parts
from gradslam_ng.structures.origin import read_origin, world_columns


def _where(mask: Tensor, values: Tensor) -> Tensor:  # (B, N), (B, N, ...)
    """Values where the mask holds, zero elsewhere."""
    return torch.where(expand_mask(mask, values), values, 0)


_TAILS = {"points": (3,), "normals": (3,), "colors": (3,), "radii": (), "confidences": ()}


@dataclass(frozen=True, eq=False)
class SurfelMap:
    """B surfel maps, padded to one capacity N (Keller et al. 2013, section 3), in the axes of the world; points are
    relative to `origin`, see `world_points`.

    Only the first `count[b]` slots of map b hold surfels; `mask` says which. While torch records gradients every
    operation returns new tensors; under `torch.no_grad()` maps are updated in place.

    Raises:
        ValueError: attributes whose shapes, types or devices do not go together.
    """

    points: Tensor  # (B, N, 3), meters
    normals: Tensor  # (B, N, 3), unit
    colors: Tensor  # (B, N, 3), in [0, 1]
    radii: Tensor  # (B, N), meters
    confidences: Tensor  # (B, N), accumulated weight of the measurements
    created: Tensor  # (B, N) int64, frame number
    updated: Tensor  # (B, N) int64, frame number of the last measurement
    count: Tensor  # (B,) int64
    origin: Tensor | None = None  # (B, 3) float64, meters, where in the world coordinates begin; None: at its origin

    def __post_init__(self) -> None:
        if torch.compiler.is_compiling() or not isinstance(self.points, Tensor):  # or the structure of one, see `tree`
            return
        lead, like = self.points.shape[:2], self.points
        for name, tail in _TAILS.items():
            value = getattr(self, name)
            if value.shape != lead + tail or value.dtype != like.dtype or value.device != like.device:
                expected = f"shape {(*lead, *tail)} in {like.dtype} on {like.device}"
                got = f"{tuple(value.shape)} in {value.dtype} on {value.device}"
                raise ValueError(f"{name}: expected {expected}, to go with points, got {got}")

    def __repr__(self) -> str:
        """In one line; a map prints pages otherwise."""
        if not isinstance(self.points, Tensor):
            return object.__repr__(self)
        counts = ", ".join(map(str, self.count.tolist()))
        kind = f"{str(self.points.dtype).removeprefix('torch.')} on {self.points.device}"
        return f"SurfelMap({counts} surfels, room for {self.capacity}, {kind})"

    @staticmethod
    def empty(
        batch: int = 1,
        capacity: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> SurfelMap:
        """Maps without any surfel, with room for `capacity` each."""

        def zeros(*tail: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros(batch, capacity, *tail, device=device, dtype=dtype)

        numbers = {"created": zeros(dtype=torch.int64), "updated": zeros(dtype=torch.int64)}
        count = torch.zeros(batch, device=device, dtype=torch.int64)
        return SurfelMap(zeros(3), zeros(3), zeros(3), zeros(), zeros(), **numbers, count=count)

    @property
    def batch(self) -> int:
        return self.points.shape[0]

    @property
    def capacity(self) -> int:
        return self.points.shape[1]

    @property
    def num_slots(self) -> int:
        """Slots, from the first, beyond which every map is empty; at least 2. Synchronizes host and device, but within
        `static_shapes`, where it is the capacity."""
        if static_shapes_enabled():
            return self.capacity
        return max(2, int(self.count.max()))  # compiled functions take a single one for a case of its own

    @property
    def mask(self) -> Tensor:
        """(B, N) bool: the slots that hold a surfel."""
        return torch.arange(self.capacity, device=self.count.device) < self.count[:, None]

    def attributes(self) -> dict[str, Tensor]:
        """Everything that a surfel has, by name, each (B, N, ...)."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("count", "origin")}

    def map(self, function: Callable[[Tensor], Tensor]) -> SurfelMap:
        """`function` applied to every tensor."""
        values = {name: function(value) for name, value in self.attributes().items()}
        origin = None if self.origin is None else function(self.origin)
        return SurfelMap(**values, count=function(self.count), origin=origin)

    def detach(self) -> SurfelMap:
        """The same maps without their history of gradients."""
        return self.map(Tensor.detach)

    def to(self, device: torch.device | str) -> SurfelMap:
        return self.map(lambda value: value.to(device))

    def __getitem__(self, b: int) -> SurfelMap:
        """Map b alone, without padding: a batch of one."""
        b = range(self.batch)[b]
        n = int(self.count[b])
        attributes = {name: value[b : b + 1, :n] for name, value in self.attributes().items()}
        origin = None if self.origin is None else self.origin[b : b + 1]
        return SurfelMap(**attributes, count=self.count[b : b + 1], origin=origin)

    def prefix(self, n: int) -> SurfelMap:
        """The first n slots of every map, as views; their counts as they are."""
        values: dict[str, Any] = {name: value[:, :n] for name, value in self.attributes().items()}
        return dataclasses.replace(self, **values)

    def reserve(self, capacity: int) -> SurfelMap:
        """With room for at least `capacity` surfels each.

        Where maps are updated in place the room at least doubles when it grows at all; where every update makes new
        tensors anyway, spare room would only cost.
        """
        if capacity <= self.capacity:
            return self
        extra = (capacity if torch.is_grad_enabled() else max(capacity, 2 * self.capacity)) - self.capacity

        def grown(value: Tensor) -> Tensor:
            return torch.cat([value, value.new_zeros(self.batch, extra, *value.shape[2:])], dim=1)

        values: dict[str, Any] = {name: grown(value) for name, value in self.attributes().items()}
        return dataclasses.replace(self, **values)

    def gather(self, slots: Tensor) -> dict[str, Tensor]:  # slots (B, P) int64
        """The attributes (B, P, ...) of the surfels in `slots`."""
        rows = torch.arange(self.batch, device=slots.device)[:, None]
        return {name: value[rows, slots] for name, value in self.attributes().items()}

    def scatter(
        self,
        slots: Tensor,  # (B, P) int64
        keep: Tensor,  # (B, P) bool
        **values: Tensor,  # (B, P, ...)
    ) -> SurfelMap:
        """Attributes overwritten in `slots` where `keep` holds; kept slots must differ from each other.

        Values are named like the attributes. Static shapes: where nothing is kept, zeros are
        written to the last slot, which must hold no surfel; `allocate` leaves one free.
        """
        slots = torch.where(keep, slots, self.capacity - 1)
        rows = torch.arange(self.batch, device=slots.device)[:, None]

        def written(name: str, value: Tensor) -> Tensor:
            old = getattr(self, name)
            write = old.index_put if torch.is_grad_enabled() else old.index_put_
            return write((rows, slots), _where(keep, value).to(old.dtype))

        return dataclasses.replace(self, **{name: written(name, value) for name, value in values.items()})

    def allocate(self, new: Tensor) -> tuple[SurfelMap, Tensor]:  # new (B, P) bool
        """Room after the last surfels for those of `new`, all zeros yet; and its slots (B, P), where new."""
        count = self.count + new.sum(-1)
        slots = self.count[:, None] + new.cumsum(-1) - 1
        grown = self if static_shapes_enabled() else self.reserve(int(count.max()) + 1)
        return dataclasses.replace(grown, count=count), slots

    def append(self, new: Tensor, **values: Tensor) -> SurfelMap:  # (B, P) bool, (B, P, ...)
        """New surfels after the last ones: those of `values`, every attribute named, where `new` holds."""
        missing = self.attributes().keys() - values.keys()
        if missing:
            raise ValueError(f"append: a surfel needs every attribute; missing {sorted(missing)}")
        grown, slots = self.allocate(new)
        return grown.scatter(slots, new, **values)

    def compact(self, keep: Tensor) -> SurfelMap:  # keep (B, N) bool
        """Only the surfels for which `keep` holds, moved to the front in their order."""
        keep = keep & self.mask
        count = keep.sum(-1)
        slots = torch.where(keep, keep.cumsum(-1) - 1, self.capacity)  # one slot more, for all that goes
        sources = torch.arange(self.capacity, device=slots.device).expand_as(slots)
        order = slots.new_zeros(self.batch, self.capacity + 1).scatter(1, slots, sources)[:, :-1]
        kept = torch.arange(self.capacity, device=slots.device) < count[:, None]
        values: dict[str, Any] = {name: _where(kept, value) for name, value in self.gather(order).items()}
        return dataclasses.replace(self, **values, count=count)

    def world_points(self) -> Tensor:
        """The points (B, N, 3) in the world, float64, meters; those of slots that hold no surfel lie at the origin."""
        points = self.points.double()
        return points if self.origin is None else points + self.origin[:, None]

    def save(self, path: Path | str, b: int = 0) -> None:
        """Map b as a binary PLY: x y z, nx ny nz, red green blue (uchar), radius (meters), confidence, and the frame
        numbers created and updated.

        Coordinates are those of the world, as double where the map's origin is not the world's; a comment tells it.

        Raises:
            ValueError: a name that does not end in .ply.
        """
        _check_name(path)
        columns, comments = _columns(self[b])
        write_ply(path, columns, comments=comments)

    @staticmethod
    @mode_free
    def load(path: Path | str) -> SurfelMap:
        """A map written by `save`, as a batch of one, with the same origin. Frame numbers are 0 if the file has none.

        Raises:
            ValueError: the file lacks a column, which the message names; or has points that are not finite.
        """
        columns, _ = read_ply(path)

        def stacked(*names: str) -> Tensor:
            missing = [name for name in names if name not in columns]
            if missing:
                raise ValueError(f"{path}: expected the columns of a surfel map; missing {', '.join(missing)}")
            return torch.stack([columns[name].double() for name in names], -1)[None]

        origin = read_origin(path)
        points = stacked("x", "y", "z") if origin is None else stacked("x", "y", "z") - origin
        none = torch.zeros(points.shape[1], dtype=torch.int64)
        created, updated = (columns.get(name, none).long()[None].clone() for name in ("created", "updated"))
        if not bool(points.isfinite().all()):
            raise ValueError(f"{path}: expected finite points")
        return SurfelMap(
            points.float(), stacked("nx", "ny", "nz").float(), stacked("red", "green", "blue").float() / 255,
            stacked("radius")[..., 0].float(), stacked("confidence")[..., 0].float(), created, updated,
            torch.tensor([points.shape[1]]), None if origin is None else origin[None],
        )  # fmt: skip


def save_surfels(path: Path | str, parts: Iterable[SurfelMap]) -> int:
    """Write parts of one map, batches of one, with the same origin, as `SurfelMap.save` writes a map; only one of them
    need be in memory at a time. Returns how many surfels there are.

    Raises:
        ValueError: a name that does not end in .ply.
    """
    _check_name(path)
    parts = iter(parts)
    first, second = next(parts, SurfelMap.empty()), next(parts, None)
    if second is None:
        first.save(path)
        return int(first.count[0])
    _, comments = _columns(first)
    return write_ply_parts(path, (_columns(part)[0] for part in chain([first, second], parts)), comments)


def _check_name(path: Path | str) -> None:
    if Path(path).suffix.lower() != ".ply":
        raise ValueError(f"{path}: expected a name that ends in .ply")


def _columns(map_: SurfelMap) -> tuple[dict[str, Any], list[str]]:
    """Columns of a PLY file, and its comments."""
    one = map_[0].detach().to("cpu")
    normals = one.normals[0].numpy()
    colors = (one.colors[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    found, comments = world_columns(one.points[0], None if one.origin is None else one.origin[0])
    columns: dict[str, Any] = dict(found)
    columns |= {f"n{name}": np.ascontiguousarray(normals[:, i], np.float32) for i, name in enumerate("xyz")}
    columns |= {name: np.ascontiguousarray(colors[:, i]) for i, name in enumerate(("red", "green", "blue"))}
    columns |= {"radius": one.radii[0].float(), "confidence": one.confidences[0].float()}
    return columns | {"created": one.created[0], "updated": one.updated[0]}, comments


def transform_surfels(map_: SurfelMap, T: Tensor) -> SurfelMap:  # T (4, 4)
    """All surfels moved by T."""
    motion = T.to(map_.points)
    return dataclasses.replace(
        map_, points=se3.transform(motion, map_.points), normals=se3.rotate(motion, map_.normals)
    )


def concatenate(first: SurfelMap, second: SurfelMap) -> SurfelMap:
    """All surfels of two maps (batches of one)."""
    a, b = first[0], second[0]
    together = {k: torch.cat([v, b.attributes()[k]], 1) for k, v in a.attributes().items()}
    return dataclasses.replace(a, **together, count=a.count + b.count)
