"""RGB-D frames: registered color and depth images with their camera, over any leading axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data._utils import collate as torch_collate  # which has no public way to add a type

_HINTS = {
    "color": "; for depth alone give gray, torch.full((*depth.shape[:-1], 3), 0.5), and ICPSettings(photometric=False)"
}
_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PARAMETERS = "; of fx, fy, cx, cy make the matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"


@dataclass(frozen=True, eq=False)
class RGBDFrames:
    """Registered color and depth images with their camera, over any leading axes.

    A frame has none, a clip has (L,), a batch of clips (B, L). `K` and `T_wc` may come with fewer leading axes, or axes
    of size 1, and are expanded, and take on the precision of the images: the greater one of color and depth; but for
    `T_wc` and `T_prior` in float64, which stay so, since coordinates far from the world's origin need it. `K` may be
    4x4, as in gradSLAM; the upper left 3x3 is kept. Color in [0, 1], or uint8, which is divided by 255; depth in
    meters, 0 where none was measured; `T_wc` camera to world, meters, NaN for a frame whose pose is not known;
    timestamps in seconds. `T_prior` is what another source says of the camera's pose (wheels, an IMU, another tracker),
    in a world of its own, of which only the motion from frame to frame is used; NaN where it says nothing, and in the
    translation alone where it tells of rotation only. Values are checked where frames are used, see `System.step`.

    Raises:
        ValueError: shapes, types or devices that do not fit together; the message names the field, what it is, what was
            expected and, for what is often handed in instead, how to convert it.
    """

    color: Tensor  # (..., H, W, 3)
    depth: Tensor  # (..., H, W, 1)
    K: Tensor  # (..., 3, 3)
    T_wc: Tensor | None = None  # (..., 4, 4)
    timestamps: Tensor | None = None  # (...), float64
    T_prior: Tensor | None = None  # (..., 4, 4)

    def __repr__(self) -> str:
        """In one line; images print pages otherwise."""
        if not isinstance(self.depth, Tensor):
            return object.__repr__(self)
        lead = "x".join(map(str, self.depth.shape[:-3])) or "1"
        height, width = self.depth.shape[-3:-1]
        kind = f"{str(self.depth.dtype).removeprefix('torch.')} on {self.depth.device}"
        return f"RGBDFrames({lead} of {width}x{height}{', with poses' * (self.T_wc is not None)}, {kind})"

    def __post_init__(self) -> None:
        self._check_images()
        dtype = self.depth.dtype if self.color.dtype == torch.uint8 else None
        dtype = torch.promote_types(self.color.dtype, self.depth.dtype) if dtype is None else dtype
        color = self.color.to(dtype)
        object.__setattr__(self, "color", color / 255 if self.color.dtype == torch.uint8 else color)
        object.__setattr__(self, "depth", self.depth.to(dtype))
        K = self.K[..., :3, :3] if self.K.shape[-2:] == (4, 4) else self.K
        object.__setattr__(self, "K", self._expanded("K", K.to(dtype), (3, 3)))
        for name in ("T_wc", "T_prior"):
            T = getattr(self, name)
            if T is not None:
                T = T.to(torch.float64 if T.dtype == torch.float64 else dtype)
                object.__setattr__(self, name, self._expanded(name, T, (4, 4)))
        if self.timestamps is not None:
            times = self.timestamps.to(torch.float64)  # seconds since 1970 need it
            object.__setattr__(self, "timestamps", self._expanded("timestamps", times, ()))

    def _check_images(self) -> None:
        """Raise ValueError for fields that are no tensors, and for images of other shapes, types and devices."""
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value is None and f.default is None:
                continue
            if not isinstance(value, Tensor):
                raise ValueError(f"{f.name}: expected a tensor, got {type(value).__name__}{_HINTS.get(f.name, '')}")
            if value.layout != torch.strided:
                raise ValueError(f"{f.name}: expected a dense tensor, got one of layout {value.layout}")
            if value.device != self.color.device:
                raise ValueError(f"{f.name}: expected it on {self.color.device} like color, got {value.device}")
        color, depth = self.color, self.depth
        if color.ndim < 3 or color.shape[-1] != 3:
            raise ValueError(f"color: expected shape (..., H, W, 3), got {tuple(color.shape)}")
        if depth.shape != (*color.shape[:-1], 1):
            raise ValueError(f"depth: expected shape {(*color.shape[:-1], 1)} to match color, got {tuple(depth.shape)}")
        if color.dtype not in (*_PRECISIONS, torch.uint8):
            raise ValueError(f"color: expected a float type, in [0, 1], or torch.uint8, got {color.dtype}")
        if depth.dtype not in _PRECISIONS:
            how = "divide by the units in a meter: depth.float() / 1000 for millimeters, / 5000 for TUM's files"
            raise ValueError(f"depth: expected meters in a float type, got {depth.dtype}; {how}")

    def _expanded(self, name: str, value: Tensor, tail: tuple[int, ...]) -> Tensor:
        """`value` with one entry per frame; a (B, 3, 3) camera serves all L frames of its clip."""
        lead, own = self.shape, value.shape[: value.ndim - len(tail)]
        fits = len(own) <= len(lead) and all(n in (1, size) for n, size in zip(own, lead, strict=False))
        if value.shape[value.ndim - len(tail) :] == tail and fits:
            return value.reshape(own + (1,) * (len(lead) - len(own)) + tail).expand(lead + tail)
        how = _PARAMETERS if name == "K" and value.shape[-1:] == (4,) else ""
        raise ValueError(
            f"{name}: expected shape {(*lead, *tail)} or fewer leading axes, got {tuple(value.shape)}{how}"
        )

    @property
    def shape(self) -> torch.Size:
        """The leading axes."""
        return self.color.shape[:-3]

    @property
    def size(self) -> tuple[int, int]:
        """Image height and width."""
        return self.color.shape[-3], self.color.shape[-2]

    def map(self, function: Callable[[Tensor], Tensor]) -> RGBDFrames:
        """`function` applied to every field that is present."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values = {name: None if value is None else function(value) for name, value in values.items()}
        return RGBDFrames(**values)

    def __getitem__(self, index) -> RGBDFrames:
        """Index the leading axes: `clip[3]`, `batch[:, 0]`."""
        if not self.shape:
            raise IndexError("a single frame has no leading axis to index")
        return self.map(lambda value: value[index])

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a single frame has no length")
        return self.shape[0]

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None, non_blocking: bool = False
    ) -> RGBDFrames:
        """On another device or in another precision, poses too; time stamps stay float64. non_blocking: as of a tensor,
        what `pin_memory` is for."""
        moved = self.map(lambda value: value.to(device=device, dtype=dtype, non_blocking=non_blocking))
        if self.timestamps is None:
            return moved
        times = self.timestamps.to(device=device, non_blocking=non_blocking)
        return dataclasses.replace(moved, timestamps=times)

    def pin_memory(self) -> RGBDFrames:
        """In page-locked memory, from which copies to a GPU (`to`) run beside other work; a `DataLoader` with
        `pin_memory=True` calls it. Without a GPU nothing can be locked for one, and the frames come back as they are.
        """
        return self.map(Tensor.pin_memory) if torch.accelerator.is_available() else self

    @staticmethod
    def from_numpy(
        color: np.ndarray,  # (..., H, W, 3)
        depth: np.ndarray,  # (..., H, W) or (..., H, W, 1)
        K: np.ndarray | Sequence[float],  # (..., 3, 3), or fx, fy, cx, cy
        *,
        depth_scale: float = 1000.0,
        T_wc: np.ndarray | None = None,  # (..., 4, 4)
        timestamps: np.ndarray | None = None,  # (...)
        T_prior: np.ndarray | None = None,  # (..., 4, 4)
    ) -> RGBDFrames:
        """Frames of arrays as cameras and image files give them.

        Color of 8 bit, or floats in [0, 1], red first; depth in unsigned integers, `depth_scale` of them in a meter, of
        which 0 and the largest number are no measurement, or in floats, meters, where NaN and infinity are none.

        Raises:
            ValueError: depth in signed integers or of 8 bit, a scale that is not positive, or shapes that do not fit.
        """
        depth, K = np.asarray(depth), np.asarray(K, dtype=np.float64)
        if not (depth.dtype.kind == "f" or (depth.dtype.kind == "u" and depth.dtype.itemsize > 1)):
            raise ValueError(f"depth: expected uint16, or floats in meters, got {depth.dtype}")
        if not 0 < depth_scale < float("inf"):
            raise ValueError(f"depth_scale: expected a positive number of units in a meter, got {depth_scale}")
        if depth.dtype.kind == "u":
            depth = np.where(depth < np.iinfo(depth.dtype).max, depth, 0).astype(np.float32) / np.float32(depth_scale)
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32, copy=False)
        depth = depth if depth.ndim == np.ndim(color) else depth[..., None]
        if K.shape == (4,):
            fx, fy, cx, cy = K.tolist()
            K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        given = (T_wc, timestamps, T_prior)
        poses, times, prior = (None if x is None else torch.from_numpy(np.array(x)) for x in given)
        pixels = torch.from_numpy(np.array(color))
        return RGBDFrames(pixels, torch.from_numpy(depth), torch.from_numpy(K).float(), poses, times, prior)

    @staticmethod
    def stack(frames: Sequence[RGBDFrames], dim: int = 0) -> RGBDFrames:
        """Frames of one size joined along a new leading axis; a field that any frame lacks is left out."""
        fields = {f.name: [getattr(frame, f.name) for frame in frames] for f in dataclasses.fields(RGBDFrames)}
        stacked: dict[str, Any] = {
            name: None if any(value is None for value in values) else torch.stack(values, dim)
            for name, values in fields.items()
        }
        return RGBDFrames(**stacked)


def collate_frames(batch, *, collate_fn_map=None) -> RGBDFrames:
    """Collate field by field, so that torch's shared-memory path for workers is kept."""
    fields = {f.name: [getattr(frame, f.name) for frame in batch] for f in dataclasses.fields(RGBDFrames)}
    joined: dict[str, Any] = {
        name: None
        if any(value is None for value in values)
        else torch_collate.collate([value.contiguous() for value in values], collate_fn_map=collate_fn_map)
        for name, values in fields.items()
    }
    return RGBDFrames(**joined)


def register_collate() -> None:
    """From here on `torch.utils.data.default_collate`, and so every DataLoader, makes batches of `RGBDFrames`."""
    torch_collate.default_collate_fn_map[RGBDFrames] = collate_frames
