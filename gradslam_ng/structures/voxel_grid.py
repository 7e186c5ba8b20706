"""Voxel grids: truncated signed distances in blocks of 8^3 voxels, kept only near surfaces."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SIDE = 8  # voxels along a block's edge
VOXELS = SIDE**3  # of a block, in the order of their x, y, z
_REACH = 1 << 15  # blocks on either side of the origin that an address has room for
_VALUES = ("sdf", "weight", "color", "color_weight")  # of every voxel
_ARRAYS = ("keys", "rows", *_VALUES)


def pack(batch: Tensor, block: Tensor) -> Tensor:
    """One sortable number (...) for block coordinates (..., 3) of batch element (...), int64."""
    x, y, z = (block + _REACH).unbind(-1)
    return ((batch * 2 * _REACH + x) * 2 * _REACH + y) * 2 * _REACH + z


def unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Batch element (...) and block coordinates (..., 3) of `pack`ed keys."""
    parts = [(keys >> shift) & (2 * _REACH - 1) for shift in (32, 16, 0)]
    return keys >> 48, torch.stack(parts, -1) - _REACH


def offsets(device: torch.device) -> Tensor:
    """Coordinates (VOXELS, 3) of the voxels of a block relative to its first, int64."""
    number = torch.arange(VOXELS, device=device)
    return torch.stack([number // SIDE**2, number // SIDE % SIDE, number % SIDE], -1)


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """B sparse volumes in world coordinates (Curless and Levoy 1996; blocks as by Niessner et al. 2013).

    Voxel (i, j, k) has its centre at (i, j, k) * voxel_size; block (x, y, z) holds the 8^3 voxels from (8x, 8y, 8z).
    Signed distances are metres, positive where the camera was, at most `truncation`; where weight is 0 nothing is
    known. Blocks are found by their sorted keys, see `pack`; those of all batch elements share the arrays. While torch
    records gradients every operation returns new tensors; under `torch.no_grad()` volumes are updated in place.
    """

    keys: Tensor  # (N,) int64, sorted: the blocks that exist
    rows: Tensor  # (N,) int64: where in the arrays each lies
    sdf: Tensor  # (C, 512), metres
    weight: Tensor  # (C, 512), accumulated
    color: Tensor  # (C, 3, 512), in [0, 1]
    color_weight: Tensor  # (C, 512), accumulated near the surface only
    batch: int
    voxel_size: float  # metres
    truncation: float  # metres

    def __post_init__(self) -> None:
        if not 0 < self.voxel_size < self.truncation:
            raise ValueError(
                f"voxel_size, truncation: expected 0 < voxel_size < truncation, metres, got {self.voxel_size} and "
                f"{self.truncation}"
            )

    @staticmethod
    def empty(
        batch: int = 1,
        voxel_size: float = 0.01,
        truncation: float = 0.04,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> VoxelGrid:
        """Volumes without any block.

        Raises:
            ValueError: sizes that are not positive, or a truncation within one voxel.
        """
        keys = torch.zeros(0, dtype=torch.int64, device=device)
        values = torch.zeros(0, VOXELS, dtype=dtype, device=device)
        color = torch.zeros(0, 3, VOXELS, dtype=dtype, device=device)
        return VoxelGrid(keys, keys, values, values, color, values, batch, voxel_size, truncation)

    @property
    def block_size(self) -> float:
        """Edge of a block, metres."""
        return SIDE * self.voxel_size

    @property
    def nbytes(self) -> int:
        """Memory of all arrays, spare room included."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    def map(self, function: Callable[[Tensor], Tensor]) -> VoxelGrid:
        """`function` applied to every tensor."""
        return dataclasses.replace(self, **{name: function(getattr(self, name)) for name in _ARRAYS})

    def detach(self) -> VoxelGrid:
        """The same volumes without their history of gradients."""
        return self.map(Tensor.detach)

    def to(self, device: torch.device | str) -> VoxelGrid:
        return self.map(lambda value: value.to(device))

    def __getitem__(self, b: int) -> VoxelGrid:
        """Volume b alone, without spare room: a batch of one."""
        b = range(self.batch)[b]
        owner, block = unpack(self.keys)
        mine = owner == b
        rows = self.rows[mine]
        values = {name: getattr(self, name)[rows] for name in _VALUES}
        keys = pack(torch.zeros_like(rows), block[mine])
        return dataclasses.replace(self, keys=keys, rows=torch.arange(len(rows), device=rows.device), batch=1, **values)

    def lookup(self, keys: Tensor) -> Tensor:
        """The rows (...) of blocks by their keys (...), -1 for a block that does not exist."""
        if not len(self.keys):
            return torch.full_like(keys, -1)
        position = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[position] == keys, self.rows[position], -1)

    def allocate(self, keys: Tensor) -> VoxelGrid:
        """With the blocks of `keys` (n,), each named once: those that are new hold zeros."""
        new = keys[self.lookup(keys) < 0]
        if not len(new):
            return self
        count, total = len(self.keys), len(self.keys) + len(new)
        merged, order = torch.cat([self.keys, new]).sort()
        rows = torch.cat([self.rows, torch.arange(count, total, device=keys.device)])[order]
        grown = dataclasses.replace(self, keys=merged, rows=rows)
        capacity = len(self.sdf)
        if total <= capacity:
            return grown
        extra = (total if torch.is_grad_enabled() else max(total, capacity * 3 // 2)) - capacity

        def extended(value: Tensor) -> Tensor:
            return torch.cat([value, value.new_zeros(extra, *value.shape[1:])])

        values = {name: extended(getattr(self, name)) for name in _VALUES}
        return dataclasses.replace(grown, **values)

    def scatter(self, rows: Tensor, **values: Tensor) -> VoxelGrid:
        """Arrays overwritten in `rows` (n,), which differ from each other, by values (n, ...), named like them."""

        def written(name: str, value: Tensor) -> Tensor:
            old = getattr(self, name)
            return old.index_copy(0, rows, value) if torch.is_grad_enabled() else old.index_copy_(0, rows, value)

        return dataclasses.replace(self, **{name: written(name, value) for name, value in values.items()})

    def query(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Signed distance at points (B, P, 3), metres, interpolated trilinearly.

        Returns sdf (B, P), metres, its gradient (B, P, 3), and the weight (B, P): the least of the eight voxels around
        a point. Where that is 0 nothing is known, and all are 0.

        Raises:
            ValueError: points of another shape.
        """
        if points.ndim != 3 or len(points) != self.batch or points.shape[-1] != 3:
            raise ValueError(f"points: expected shape ({self.batch}, P, 3), got {tuple(points.shape)}")
        owner = torch.arange(self.batch, device=points.device)[:, None].expand(points.shape[:2])
        limit = _REACH * SIDE - 2.0  # voxels
        p = (points / self.voxel_size).nan_to_num(limit, limit, -limit).clamp(-limit, limit)
        found = interpolate(self, lambda *block: self.lookup(pack(owner, torch.stack(block, -1))), *p.unbind(-1))
        return found.sdf, found.gradient / self.voxel_size, found.weight

    def save(self, path: Path | str) -> None:
        """All volumes as a compressed NumPy archive."""
        one = self.detach().to("cpu")
        arrays = {name: getattr(one, name)[one.rows].numpy() for name in _VALUES}
        numbers = {"batch": self.batch, "voxel_size": self.voxel_size, "truncation": self.truncation}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, keys=one.keys.numpy(), **arrays, **numbers)

    @staticmethod
    def load(path: Path | str) -> VoxelGrid:
        """Volumes written by `save`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not such an archive, or its arrays do not fit together; names the file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no such file: {path}")
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = {name: torch.from_numpy(np.asarray(archive[name])) for name in archive.files}
            keys, batch = found.pop("keys"), int(found.pop("batch"))
            sizes = float(found.pop("voxel_size")), float(found.pop("truncation"))
            ordered = keys.dtype == torch.int64 and bool((keys.diff() > 0).all())
            values = {name: found.pop(name) for name in _VALUES}
        except Exception as error:  # of many kinds: a zip file, its members, their headers
            raise ValueError(f"{path}: not a saved voxel grid: {error!r}"[:300]) from None
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        expected = {name: (len(keys), *(3,) * (name == "color"), VOXELS) for name in values}
        if not ordered or shapes != expected or len({value.dtype for value in values.values()}) != 1:
            raise ValueError(f"{path}: not a saved voxel grid: expected arrays {expected}, got {shapes}")
        return VoxelGrid(keys, torch.arange(len(keys)), **values, batch=batch, voxel_size=sizes[0], truncation=sizes[1])


@dataclass(frozen=True, eq=False)
class Sample:
    """What a volume holds at points (...); zero where not all eight voxels around are known."""

    sdf: Tensor  # (...), metres
    gradient: Tensor  # (..., 3), metres a voxel
    weight: Tensor  # (...), the least of the eight
    color: Tensor  # (..., 3)


def interpolate(grid, row_of: Callable[..., Tensor], x: Tensor, y: Tensor, z: Tensor) -> Sample:
    """Trilinear interpolation at x, y, z (...), voxels.

    grid: anything with the arrays of a VoxelGrid. row_of(x, y, z) gives the row of a block, -1 where there is none.
    """
    sdf, weight, color, color_weight = (x.flatten() for x in (grid.sdf, grid.weight, grid.color, grid.color_weight))
    if not len(sdf):
        none = torch.zeros_like(x)
        return Sample(none, torch.stack([none] * 3, -1), none, torch.stack([none] * 3, -1))
    near = [c.detach().floor() for c in (x, y, z)]
    after = [c - c0 for c, c0 in zip((x, y, z), near, strict=True)]
    near = [c.int() for c in near]
    value, gradient, least, red, green, blue, total = 0.0, [0.0, 0.0, 0.0], torch.inf, 0.0, 0.0, 0.0, 0.0
    for corner in itertools.product((0, 1), repeat=3):
        i, j, k = (c + step for c, step in zip(near, corner, strict=True))
        row = row_of(i >> 3, j >> 3, k >> 3)
        start, cell = row.clamp(min=0) * VOXELS, ((i & 7) * SIDE + (j & 7)) * SIDE + (k & 7)
        hue, cell = 3 * start + cell, start + cell
        d = sdf[cell]
        least = torch.where(row >= 0, weight[cell], 0.0).clamp(max=least)
        fx, fy, fz = (f if step else 1 - f for f, step in zip(after, corner, strict=True))
        sx, sy, sz = (1.0 if step else -1.0 for step in corner)
        share = fx * fy * fz
        value = value + share * d
        gradient = [gradient[0] + sx * fy * fz * d, gradient[1] + sy * fx * fz * d, gradient[2] + sz * fx * fy * d]
        share = torch.where((row >= 0) & (color_weight[cell] > 0), share, 0.0)
        total = total + share
        red, green, blue = (c + share * color[hue + i * VOXELS] for i, c in enumerate((red, green, blue)))
    known = least > 0
    coloured = known & (total > 1e-6)
    total = torch.where(coloured, total, 1.0)
    return Sample(
        torch.where(known, value, 0.0),
        torch.stack([torch.where(known, g, 0.0) for g in gradient], -1),
        torch.where(known, least, 0.0),
        torch.stack([torch.where(coloured, c / total, 0.0) for c in (red, green, blue)], -1),
    )
