"""Voxel grids: truncated signed distances in blocks of 8^3 voxels, kept only near surfaces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.io.atomic import whole_file
from gradslam_ng.io.numpy_files import read_npz
from gradslam_ng.io.similar_names import meant_path
from gradslam_ng.structures.voxel_blocks import (
    BLOCK_RESOLUTION,
    MAX_BATCH,
    MAX_BLOCK,
    VOXELS_PER_BLOCK,
    pack,
    unpack,
)
from gradslam_ng.structures.voxel_interpolation import (
    are_known,
    find_corners,
    gather_distances,
    gather_weight,
    trilinear,
)

MIN_REACH = 10.0  # meters from its origin that a volume must have keys for: what a camera sees
MAX_TRUNCATION = 1000  # voxels: a band that wide has no room in memory
_VALUES = ("sdf", "weight", "color", "color_weight")  # of every voxel
_ARRAYS = ("keys", "slots", *_VALUES)


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """B sparse volumes (Curless and Levoy 1996; blocks as by Niessner et al. 2013), in the axes of the world.

    Voxel (i, j, k) has its center at (i, j, k) * voxel_size from `origin`; block (x, y, z) holds the 8^3 voxels from
    (8x, 8y, 8z). Signed distances are meters, positive where the camera was, at most `truncation`; where weight is 0
    nothing is known. Blocks are found by their sorted keys, see `pack`; those of all batch elements share the arrays.
    While torch records gradients every operation returns new tensors; under `torch.no_grad()` volumes are updated in
    place.
    """

    keys: Tensor  # (N,) int64, sorted: the blocks that exist
    slots: Tensor  # (N,) int64: where in the arrays each lies
    sdf: Tensor  # (C, 512), meters
    weight: Tensor  # (C, 512), accumulated
    color: Tensor  # (C, 3, 512), in [0, 1]
    color_weight: Tensor  # (C, 512), accumulated near the surface only
    batch: int
    voxel_size: float  # meters
    truncation: float | Tensor  # meters, a tensor () where it is learned
    origin: Tensor | None = None  # (B, 3) float64, meters, where in the world coordinates begin; None: at its origin

    def __post_init__(self) -> None:
        if not isinstance(self.sdf, Tensor):  # the structure of one, see `tree`
            return
        if isinstance(self.voxel_size, Tensor):
            raise TypeError("voxel_size: expected a number, got a tensor: where voxels lie has no gradient")
        for name, size in (("voxel_size", self.voxel_size), ("truncation", self.truncation)):
            if not isinstance(size, (Real, Tensor)):
                raise TypeError(f"{name}: expected a number of meters, got {type(size).__name__}")
        if isinstance(self.truncation, Real) and not 0 < self.voxel_size < self.truncation:
            raise ValueError(
                f"voxel_size, truncation: expected 0 < voxel_size < truncation, meters, got {self.voxel_size} and "
                f"{self.truncation}"
            )
        if isinstance(self.truncation, Real) and self.truncation > MAX_TRUNCATION * self.voxel_size:
            limit = f"{MAX_TRUNCATION} voxels of {self.voxel_size:g} m"
            raise ValueError(f"truncation: expected at most {limit}, got {self.truncation} m")
        if self.voxel_size < MIN_REACH / (MAX_BLOCK * BLOCK_RESOLUTION):
            reach = self.voxel_size * MAX_BLOCK * BLOCK_RESOLUTION
            text = f"those of {self.voxel_size:g} m reach {reach:.3g} m from the origin of a volume"
            raise ValueError(f"voxel_size: expected voxels that reach {MIN_REACH:g} m at least; {text}")
        if torch.compiler.is_compiling():
            return
        blocks, like = self.sdf.shape[0], self.sdf  # len() would fix it where this is compiled
        for name in _VALUES:
            value, shape = getattr(self, name), (blocks, *(3,) * (name == "color"), VOXELS_PER_BLOCK)
            if value.shape != shape or value.dtype != like.dtype or value.device != like.device:
                got = f"{tuple(value.shape)} in {value.dtype} on {value.device}"
                raise ValueError(f"{name}: expected shape {shape} in {like.dtype} on {like.device}, got {got}")
        if self.keys.ndim != 1 or self.keys.shape != self.slots.shape or self.keys.dtype != torch.int64:
            raise ValueError(f"keys, slots: expected (N,) int64, got {self.keys.shape} and {self.slots.shape}")
        if not isinstance(self.batch, Integral) or not 0 < self.batch <= MAX_BATCH:
            raise ValueError(f"batch: expected 1 to {MAX_BATCH} volumes, got {self.batch}")

    def __repr__(self) -> str:
        """In one line; a volume prints pages otherwise."""
        if not isinstance(self.sdf, Tensor):
            return object.__repr__(self)
        kind = f"{str(self.sdf.dtype).removeprefix('torch.')} on {self.sdf.device}"
        volumes = f"{self.batch} volumes, " if self.batch > 1 else ""
        return f"VoxelGrid({volumes}{len(self.keys)} blocks of {self.voxel_size:g} m voxels, {kind})"

    @staticmethod
    def empty(
        batch: int = 1,
        voxel_size: float = 0.01,
        truncation: float | Tensor = 0.04,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> VoxelGrid:
        """Volumes without any block.

        truncation: a tensor () gets a gradient from what is fused.

        Raises:
            ValueError: sizes that are not positive, or a truncation within one voxel.
            TypeError: a voxel size that is a tensor, or sizes that are no numbers.
        """
        if isinstance(truncation, Tensor) and not bool(0 < voxel_size < truncation):
            raise ValueError(f"truncation: expected more than a voxel, {voxel_size} m, got {float(truncation)}")
        keys = torch.zeros(0, dtype=torch.int64, device=device)
        values = torch.zeros(0, VOXELS_PER_BLOCK, dtype=dtype, device=device)
        color = torch.zeros(0, 3, VOXELS_PER_BLOCK, dtype=dtype, device=device)
        return VoxelGrid(keys, keys, values, values, color, values, batch, voxel_size, truncation)

    @property
    def block_size(self) -> float:
        """Edge of a block, meters."""
        return BLOCK_RESOLUTION * self.voxel_size

    @property
    def nbytes(self) -> int:
        """Memory of all arrays, spare room included."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    def map(self, function: Callable[[Tensor], Tensor]) -> VoxelGrid:
        """`function` applied to every tensor."""
        arrays: dict[str, Any] = {name: function(getattr(self, name)) for name in _ARRAYS}
        arrays["origin"] = None if self.origin is None else function(self.origin)
        return dataclasses.replace(self, **arrays)

    def detach(self) -> VoxelGrid:
        """The same volumes without their history of gradients."""
        limit = self.truncation.detach() if isinstance(self.truncation, Tensor) else self.truncation
        return dataclasses.replace(self.map(Tensor.detach), truncation=limit)

    def to(self, device: torch.device | str) -> VoxelGrid:
        return self.map(lambda value: value.to(device))

    def __getitem__(self, b: int) -> VoxelGrid:
        """Volume b alone, without spare room: a batch of one."""
        b = range(self.batch)[b]
        batch_index, block = unpack(self.keys)
        mine = batch_index == b
        slots = self.slots[mine]
        values = {name: getattr(self, name)[slots] for name in _VALUES}
        keys = pack(torch.zeros_like(slots), block[mine])
        slots = torch.arange(len(slots), device=slots.device)
        origin = None if self.origin is None else self.origin[b : b + 1]
        return dataclasses.replace(self, keys=keys, slots=slots, batch=1, origin=origin, **values)

    def lookup(self, keys: Tensor) -> Tensor:  # keys (...) int64
        """The slots (...) of blocks by their keys, -1 for a block that does not exist."""
        if not len(self.keys):
            return torch.full_like(keys, -1)
        position = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[position] == keys, self.slots[position], -1)

    def allocate(self, keys: Tensor) -> VoxelGrid:  # keys (n,) int64
        """With the blocks of `keys`, each named once: those that are new hold zeros. Keys of no block are left out.

        Raises:
            MemoryError: there is no room for them.
        """
        new = keys[(self.lookup(keys) < 0) & (keys >= 0)]
        if not len(new):
            return self
        count, total = len(self.keys), len(self.keys) + len(new)
        merged, order = torch.cat([self.keys, new]).sort()
        slots = torch.cat([self.slots, torch.arange(count, total, device=keys.device)])[order]
        grown = dataclasses.replace(self, keys=merged, slots=slots)
        capacity = len(self.sdf)
        if total <= capacity:
            return grown
        extra = (total if torch.is_grad_enabled() else max(total, capacity * 3 // 2)) - capacity

        def extended(value: Tensor) -> Tensor:
            return torch.cat([value, value.new_zeros(extra, *value.shape[1:])])

        try:
            values: dict[str, Any] = {name: extended(getattr(self, name)) for name in _VALUES}
        except RuntimeError as error:  # torch.OutOfMemoryError is one, and on the CPU there is no class of its own
            size = f"{total} blocks of {self.voxel_size:g} m voxels"
            raise MemoryError(f"volume: no memory for {size}; larger voxels or a lesser max_depth need less") from error
        return dataclasses.replace(grown, **values)

    def scatter(self, slots: Tensor, **values: Tensor) -> VoxelGrid:
        """Arrays overwritten in `slots` (n,), which differ from each other, by values (n, ...), named like them."""

        def written(name: str, value: Tensor) -> Tensor:
            old = getattr(self, name)
            return old.index_copy(0, slots, value) if torch.is_grad_enabled() else old.index_copy_(0, slots, value)

        after: dict[str, Any] = {name: written(name, value) for name, value in values.items()}
        return dataclasses.replace(self, **after)

    @mode_free
    def query(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # points (B, P, 3), world, meters
        """Signed distance at points, interpolated trilinearly.

        Returns sdf (B, P), meters, its gradient (B, P, 3), and the weight (B, P), interpolated alike. Where not all
        eight voxels around a point are known, all are 0.

        Raises:
            ValueError: points of another shape, precision or device.
        """
        if points.ndim != 3 or len(points) != self.batch or points.shape[-1] != 3:
            raise ValueError(f"points: expected shape ({self.batch}, P, 3), got {tuple(points.shape)}")
        fine = self.origin is not None and points.dtype == torch.float64  # far from the world's origin
        if points.device != self.sdf.device or not (fine or points.dtype == self.sdf.dtype):
            now, own = (f"{x.dtype} on {x.device}" for x in (points, self.sdf))
            raise ValueError(f"points: expected {own} like the volume, got {now}")
        batch_index = torch.arange(self.batch, device=points.device)[:, None].expand(points.shape[:2])
        if self.origin is not None:
            points = (points.double() - self.origin[:, None]).to(self.sdf.dtype)
        limit = MAX_BLOCK * BLOCK_RESOLUTION - 2.0  # voxels
        p = (points / self.voxel_size).nan_to_num(limit, limit, -limit).clamp(-limit, limit)
        if not len(self.keys):
            nothing = torch.zeros_like(p[..., 0])
            return nothing, torch.zeros_like(p), nothing
        corners = find_corners(lambda *block: self.lookup(pack(batch_index, torch.stack(block, -1))), *p.unbind(-1))
        known = are_known(self, corners)
        sdf, *slopes = trilinear(gather_distances(self, corners), corners.place)
        gradient = torch.where(known[..., None], torch.stack(slopes, -1) / self.voxel_size, 0.0)
        weight = torch.where(known, gather_weight(self, corners, corners.place), 0.0)
        return torch.where(known, sdf, 0.0), gradient, weight

    def save(self, path: Path | str) -> None:
        """All volumes as a compressed NumPy archive."""
        one = self.detach().to("cpu")
        arrays: dict[str, Any] = {name: getattr(one, name)[one.slots].numpy() for name in _VALUES}
        arrays |= {"batch": self.batch, "voxel_size": self.voxel_size, "truncation": float(self.truncation)}
        arrays |= {} if one.origin is None else {"origin": one.origin.numpy()}
        with whole_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, keys=one.keys.numpy(), **arrays)

    @staticmethod
    @mode_free
    def load(path: Path | str) -> VoxelGrid:
        """Volumes written by `save`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not such an archive, or its arrays do not fit together; names the file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no such file: {path}{meant_path(Path(path))}")
        try:
            found = {name: torch.from_numpy(array) for name, array in read_npz(Path(path)).items()}
            keys, batch = found.pop("keys"), int(found.pop("batch"))
            sizes = float(found.pop("voxel_size")), float(found.pop("truncation"))
            ordered = keys.dtype == torch.int64 and bool((keys.diff() > 0).all())
            values = {name: found.pop(name) for name in _VALUES}
            origin = found.pop("origin").double() if "origin" in found else None
        except KeyError as error:
            raise ValueError(f"{path}: not a saved voxel grid: it has no {error}") from None
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path}: not a saved voxel grid: {error}"[:300]) from None
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        expected = {name: (len(keys), *(3,) * (name == "color"), VOXELS_PER_BLOCK) for name in values}
        if not ordered or shapes != expected or len({value.dtype for value in values.values()}) != 1:
            raise ValueError(f"{path}: not a saved voxel grid: expected arrays {expected}, got {shapes}")
        if not all(bool(value.isfinite().all()) for value in values.values()):
            raise ValueError(f"{path}: not a saved voxel grid: expected finite numbers")
        if len(keys) and not 0 <= int(unpack(keys)[0].min()) <= int(unpack(keys)[0].max()) < batch:
            raise ValueError(f"{path}: not a saved voxel grid: blocks of other volumes than the {batch} in it")
        voxel_size, truncation = sizes
        return VoxelGrid(keys, torch.arange(len(keys)), **values, batch=batch, voxel_size=voxel_size,
                         truncation=truncation, origin=origin)  # fmt: skip
