"""The camera in tables of names and values, by the names that programs of the field give to its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.intrinsics import CameraFile, parse_intrinsics
from gradslam_ng.datasets.lens import COEFFICIENTS, parse_lens
from gradslam_ng.io.similar_names import meant

# What a value may be called, by what it is called here.
NAMES = {
    "fx": ("fx", "fl_x"),
    "fy": ("fy", "fl_y"),
    "cx": ("cx", "ppx"),
    "cy": ("cy", "ppy"),
    "K": ("K", "k", "camera_matrix", "cameraMatrix", "intrinsics", "intrinsic"),
    "intrinsic_matrix": ("intrinsic_matrix",),  # Open3D's, column by column
    "width": ("width", "w", "image_width"),
    "height": ("height", "h", "image_height"),
    "resolution": ("resolution",),  # width and height
    "depth_scale": (
        "depth_scale", "scale", "png_depth_scale", "depth_factor", "depth_map_factor", "DepthMapFactor",
    ),
    "skew": ("skew",),
    "distortion": (
        "distortion", "distortion_coefficients", "distortion_coeffs", "distortion_parameters",
        "distortionCoefficients", "distCoeffs", "dist_coeffs", "dist_coeff", "coeffs", "coefficients", "D", "d",
    ),
    "distortion_model": ("model", "distortion_model"),
    "camera_model": ("camera_model", "model_type"),
    "type": ("type",),
    "fisheye": ("fisheye_model",),
    "region": ("roi",),
    **{name: (name,) for name in COEFFICIENTS},
}  # fmt: skip
ELEMENTS = ("fx", "skew", "cx", "fy", "cy")  # of K
# Too common as names to be those of a camera in a table around its own.
OWN = ("type", "model", "scale", "w", "h", "k", "d", "K", "D")
# Of the messages of ROS and files of nerfstudio and Open3D, and without a meaning for a recording of one camera.
IGNORED: tuple[str, ...] = (
    "header",
    "camera_name",
    "camera_id",
    "binning_x",
    "binning_y",
    "camera_angle_x",
    "camera_angle_y",
)
IGNORED += ("class_name", "version_major", "version_minor")
IGNORED += ("color_mode", "depth_mode", "serial_number_", "stream_length_usec")  # of Open3D's recorder
ROTATIONS = ("R", "r", "rectification_matrix")  # of rectified images
PROJECTIONS = ("P", "p", "projection_matrix")
MAX_DEPTH = 20  # of tables within each other
NEAR, NEARER = 0.7, 0.85  # how alike an unknown name and a known one are, for one to be a slip of the other


@dataclass(frozen=True)
class Table:
    """A mapping in a file."""

    around: dict[str, Any]  # values of those around it that hold for it too, by our names
    values: dict[str, Any]  # its own, by our names
    others: dict[str, Any]  # by names that mean nothing here, and those of the tables around it

    @property
    def tells_camera(self) -> bool:
        return bool(self.values.keys() & {"K", "intrinsic_matrix"}) or self.values.keys() >= {"fx", "fy", "cx", "cy"}


class CameraReader:
    """Reads the cameras in nested tables; a table takes from those around it what it does not have itself.

    Args:
        path: of the file, for messages.
        form: what the file should hold, for messages.
        is_settings: it may hold other things too: names are in any capitals, and those that mean nothing are common.
        y_up: fy may be negative.
    """

    def __init__(self, path: Path, *, form: str, is_settings: bool = False, y_up: bool = False) -> None:
        self.path, self.form, self.is_settings, self.y_up = path, form, is_settings, y_up
        names = {name: ours for ours, names in NAMES.items() for name in names}
        self.names = {name.lower(): ours for name, ours in names.items() if name != "scale"} if is_settings else names

    def read(self, data: Any) -> list[CameraFile]:
        """The cameras that differ from each other.

        Raises:
            ValueError: a value that is none, a lens that cannot be undone, or a name that is nearly a known one.
        """
        tables = list(self._tables(data, Table({}, {}, {}), MAX_DEPTH, set()))
        scales = {str(t.values["depth_scale"]): t.values["depth_scale"] for t in tables if "depth_scale" in t.values}
        shared = {"depth_scale": next(iter(scales.values()))} if len(scales) == 1 else {}  # in whichever table
        found: list[CameraFile] = []
        for table in [table for table in tables if table.tells_camera] or tables:
            if table.tells_camera or not self.is_settings:
                self._refuse_slips(table.others)
            if table.tells_camera:
                camera = self._camera(shared | table.around | table.values, table.others)
                found += [] if any(camera.is_same(other) for other in found) else [camera]
        return found

    def _tables(self, data: Any, outer: Table, depth: int, seen: set[int]) -> Iterator[Table]:
        """A mapping and those within it, each once however often it is referred to."""
        if not isinstance(data, (Mapping, list)) or id(data) in seen:
            return
        seen.add(id(data))
        if depth == 0:
            raise ValueError(f"{self.path}: expected at most {MAX_DEPTH} tables within each other")
        if isinstance(data, list):
            for item in data:
                yield from self._tables(item, outer, depth - 1, seen)
            return
        table = Table(outer.around, {}, dict(outer.others))
        below, inner = [], Table(dict(outer.around), {}, dict(outer.others))
        for name, value in _without_dots(data).items():
            if value is None or (self.is_settings and value in ("", "null", "~")):
                continue
            ours = self._our_name(name, value)
            if ours is None:
                table.others[name] = value
                if isinstance(value, (Mapping, list)):
                    below.append(value)
                else:
                    inner.others[name] = value
                continue
            if ours in table.values and table.values[ours] != value:
                raise ValueError(f"{self.path}: {ours} is given twice, the second time as {name!r}")
            table.values[ours] = value
            if name not in OWN:
                inner.around[ours] = value
        yield table
        for value in below:
            yield from self._tables(value, inner, depth - 1, seen)

    def _our_name(self, name: str, value: Any) -> str | None:
        """What is meant by a name with such a value; None if it is nothing, or a table of its own."""
        ours = self.names.get(name.lower() if self.is_settings else name)
        if isinstance(value, Mapping):
            return ours if ours in ("distortion", "region") or (ours == "K" and "data" in value) else None
        if self.is_settings and not isinstance(value, list) and (ours == "K" or (name in OWN and ours == "distortion")):
            return None
        return ours

    def _refuse_slips(self, others: Mapping[str, Any]) -> None:
        """Raise ValueError for a name that is nearly a known one."""
        for name in others:
            if name in (*IGNORED, *ROTATIONS, *PROJECTIONS):
                continue
            if near := meant(name.lower(), self.names, 1, NEARER if self.is_settings else NEAR):
                raise ValueError(f"{self.path}: {name!r} is not known{near}")

    def _camera(self, values: Mapping[str, Any], others: Mapping[str, Any]) -> CameraFile:
        """The camera of values by our names."""
        try:
            matrices = _matrices(values)
            size = _size(values)
            scale = values.get("depth_scale")
            scale = None if scale is None else float(str(scale))  # which takes no truth value for a number
            offsets = [float(values.get("region", {}).get(name, 0)) for name in ("x_offset", "y_offset")]
        except (ValueError, KeyError, TypeError, OverflowError, AttributeError):
            raise ValueError(f"{self.path}: expected {self.form}; got {str(dict(values))[:200]}") from None
        if size is not None and min(size) < 1:
            sizes = f"{size[1]} and {size[0]}"
            raise ValueError(f"{self.path}: expected a width and a height of the images, pixels, got {sizes}")
        if any(offsets):
            raise ValueError(f"{self.path}: expected whole images, got a region (roi) that begins at {offsets}")
        lens = parse_lens(values, str(self.path))
        K, *more = (parse_intrinsics(matrix, str(self.path), self.y_up) for matrix in matrices)
        if not all(torch.allclose(K, other, atol=1e-3) for other in more):
            raise ValueError(f"{self.path}: expected one camera, got {K.tolist()} and {more[0].tolist()}")
        unused = () if self.is_settings else (name for name, value in others.items() if not _is_implied(name, value, K))
        return CameraFile(K, size, lens.coefficients, scale, (*unused, *lens.unused), lens.model)


def _without_dots(data: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with names like `Camera.fx` as `fx` in a table `Camera`, whose entries a `Camera1` shares."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        prefix, _, rest = str(name).rpartition(".")
        if not prefix:
            found[str(name)] = value
        elif isinstance(table := found.setdefault(prefix, {}), dict):
            table[rest] = value
    for name, table in found.items():
        shared = found.get(name.rstrip("0123456789"))
        if isinstance(table, dict) and isinstance(shared, dict) and shared is not table:
            found[name] = shared | table
    return found


def _matrices(values: Mapping[str, Any]) -> Sequence[Any]:
    """K, the intrinsic matrix, and that of fx, fy, cx and cy, of those that are there."""
    found = []
    if "K" in values:
        K = values["K"]
        found.append(K["data"] if isinstance(K, Mapping) else K)
    if "intrinsic_matrix" in values:
        matrix = np.asarray(values["intrinsic_matrix"], dtype=np.float64)
        found.append(matrix if matrix.ndim == 2 else matrix.reshape(3, 3).T)
    if not found or values.keys() >= {"fx", "fy", "cx", "cy"}:
        fx, skew, cx, fy, cy = (float(str(values.get("skew", 0) if n == "skew" else values[n])) for n in ELEMENTS)
        found.append([[fx, skew, cx], [0, fy, cy], [0, 0, 1]])
    return found


def _size(values: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width; KeyError where one of them is missing, ValueError where they are given twice."""
    sizes = []
    if "resolution" in values:
        width, height = values["resolution"]
        sizes.append((int(height), int(width)))
    if values.keys() & {"width", "height"}:
        sizes.append((int(values["height"]), int(values["width"])))
    if len(set(sizes)) > 1:
        raise ValueError("two sizes")
    return sizes[0] if sizes else None


def _is_implied(name: str, value: Any, K: Tensor) -> bool:
    """Whether a value means nothing for one camera: see IGNORED; no rotation; a projection by K alone."""
    if name in IGNORED:
        return True
    if name not in (*ROTATIONS, *PROJECTIONS):
        return False
    try:
        matrix = np.asarray(value["data"] if isinstance(value, Mapping) else value, dtype=np.float64)
    except (TypeError, ValueError, KeyError):
        return False
    expected = np.eye(3) if name in ROTATIONS else np.column_stack([K.numpy(), np.zeros(3)])
    return matrix.size == expected.size and bool(np.allclose(matrix.reshape(expected.shape), expected, atol=1e-3))
