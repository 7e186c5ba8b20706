"""PLY files: named columns per vertex and triangles, binary little endian out, binary or ASCII in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.io.atomic import whole_file

# Names of scalar types in the header, the old ones and the sized ones, to little-endian NumPy types.
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2", "ushort": "<u2",
    "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4", "float": "<f4", "float32": "<f4",
    "double": "<f8", "float64": "<f8",
}  # fmt: skip
COUNT_WIDTH = 40  # of the line with the count of vertices, where that is not known yet
NAMES = {np.dtype(kind): name for name, kind in TYPES.items() if not name[-1].isdigit()}


@dataclass(frozen=True)
class Property:
    """A column of an element; `count` is the type of a list's length, None for a scalar."""

    name: str
    dtype: np.dtype
    count: np.dtype | None = None


@dataclass(frozen=True)
class Element:
    """A table of the file, such as "vertex"."""

    name: str
    rows: int
    properties: tuple[Property, ...]


def write_ply(
    path: str | os.PathLike,
    vertices: Mapping[str, Tensor | np.ndarray],
    faces: Tensor | None = None,
    comments: Sequence[str] = (),
) -> None:
    """Write columns of vertices, and triangles if given, as binary little-endian PLY.

    Viewers know the columns x, y, z, nx, ny, nz (float) and red, green, blue (uchar); any other is kept by name.

    Args:
        vertices: named columns, all (V,). Their types are kept: float32 and float64, (u)int8 to (u)int32; int64 and
            bool become int and uchar.
        faces: (F, 3) indices of vertices.
        comments: lines of the header, see `read_comments`; ASCII.

    Raises:
        ValueError: no columns, columns that are not (V,) of a known type, faces that are not (F, 3) or point outside.
    """
    table = _table(vertices)
    count, header = len(table), _header(table, len(table), comments)
    triangles = None
    if faces is not None:
        if faces.ndim != 2 or faces.shape[-1] != 3:
            raise ValueError(f"faces: expected shape (F, 3), got {tuple(faces.shape)}")
        corners = faces.detach().cpu().numpy()
        if corners.size and not 0 <= corners.min() <= corners.max() < count:
            raise ValueError(f"faces: expected indices of {count} vertices, got {corners.min()} to {corners.max()}")
        triangles = np.empty(len(corners), dtype=[("count", "u1"), ("corners", "<i4", (3,))])
        triangles["count"], triangles["corners"] = 3, corners
        header += [f"element face {len(corners)}", "property list uchar int vertex_indices"]
    with whole_file(path) as part, part.open("wb") as file:
        file.write(("\n".join([*header, "end_header"]) + "\n").encode("ascii"))
        file.write(table.tobytes())
        if triangles is not None:
            file.write(triangles.tobytes())


def write_ply_parts(
    path: str | os.PathLike, parts: Iterable[Mapping[str, Tensor | np.ndarray]], comments: Sequence[str] = ()
) -> int:
    """Write vertices that come in parts, one after another, as `write_ply` would write all of them; only one part is in
    memory at a time. Returns how many there are.

    Raises:
        ValueError: no part, or parts of different columns; and as `write_ply`.
    """
    count, kind = 0, None
    with whole_file(path) as part, part.open("w+b") as file:
        for columns in parts:
            table = _table(columns)
            if kind is None:
                kind = table.dtype
                _write_header(file, _header(table, 0, comments))
            if table.dtype != kind:
                raise ValueError(f"vertices: expected parts of the same columns, {kind}, got {table.dtype}")
            file.write(table.tobytes())
            count += len(table)
        if kind is None:
            raise ValueError("vertices: expected a part at least")
        file.seek(0)
        _write_header(file, _header(np.empty(0, kind), count, comments))
    return count


def _table(vertices: Mapping[str, Tensor | np.ndarray]) -> np.ndarray:
    """Columns as one array of records."""
    columns = {name: _column(name, values) for name, values in vertices.items()}
    rows = {name: len(values) for name, values in columns.items()}
    if len(set(rows.values())) != 1:
        raise ValueError(f"vertices: expected named columns of one length, got {rows}")
    table = np.empty(next(iter(rows.values())), dtype=[(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    return table


def _header(table: np.ndarray, count: int, comments: Sequence[str]) -> list[str]:
    """Lines of the header, up to the vertices' columns."""
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {text}" for text in comments)]
    header += [f"element vertex {count}"]
    return header + [f"property {NAMES[table.dtype[name]]} {name}" for name in table.dtype.names or ()]


def _write_header(file: BinaryIO, header: list[str]) -> None:
    """Write a header whose length does not depend on how many vertices there are."""
    text = "\n".join([*header, "end_header"])
    line = next(line for line in header if line.startswith("element vertex"))
    padding = COUNT_WIDTH - len(line)
    file.write((text.replace(line, f"comment {'-' * max(padding, 0)}\n{line}", 1) + "\n").encode("ascii"))


def read_ply(path: str | os.PathLike) -> tuple[dict[str, Tensor], Tensor | None]:
    """Columns of the vertices by name, and triangles (F, 3) int64, or None where the file has no faces.

    Reads ASCII and binary little-endian files; elements other than "vertex" and "face" are skipped. Unsigned columns
    wider than a byte come as the next wider signed type.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a PLY file, a header that is not understood, faces other than triangles, indices outside the
            vertices, or a file that ends too early; names the file.
    """
    with Path(path).open("rb") as file:
        binary, elements = _read_header(file, path)
        words = None if binary else iter(file.read().split())
        tables = {}
        for element in elements:
            try:
                tables[element.name] = _read_element(file, words, element)
            except (ValueError, StopIteration, OverflowError) as error:
                raise ValueError(f"{path}: element {element.name}: {str(error) or 'the file ends too early'}") from None
    if "vertex" not in tables:
        raise ValueError(f"{path}: expected an element 'vertex', found {', '.join(tables) or 'none'}")
    vertices = {name: _tensor(values) for name, values in tables["vertex"].items()}
    faces = tables.get("face")
    if faces is None:
        return vertices, None
    corners = next((faces[name] for name in ("vertex_indices", "vertex_index") if name in faces), None)
    if corners is not None and not len(corners):
        return vertices, torch.empty(0, 3, dtype=torch.long)
    if corners is None or corners.ndim != 2 or corners.shape[-1] != 3:
        raise ValueError(f"{path}: expected triangles in a list 'vertex_indices', three corners each")
    count = len(next(iter(vertices.values()), ()))
    if corners.size and not 0 <= corners.min() <= corners.max() < count:
        raise ValueError(f"{path}: a face points outside the {count} vertices")
    return vertices, _tensor(corners).long()


def read_comments(path: str | os.PathLike) -> list[str]:
    """The comments in the header of a PLY file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a PLY file.
    """
    with Path(path).open("rb") as file:
        if file.readline(16).strip() != b"ply":
            raise ValueError(f"{path}: not a PLY file")
        comments = []
        for _ in range(1000):
            line = file.readline(1000).decode("ascii", errors="replace").strip()
            if line == "end_header":
                break
            if line.startswith("comment "):
                comments.append(line.removeprefix("comment "))
    return comments


def _column(name: str, values: Tensor | np.ndarray) -> np.ndarray:
    """A column as a NumPy array of a type that PLY knows."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or not name.isidentifier():
        raise ValueError(f"vertices: expected named columns of shape (V,), got {name!r} of shape {array.shape}")
    array = array.astype({"bool": "u1", "int64": "<i4"}.get(array.dtype.name, array.dtype.newbyteorder("<")))
    if array.dtype not in NAMES:
        known = ", ".join(NAMES.values())
        raise ValueError(f"vertices: column {name!r} has type {array.dtype}; expected one of {known}")
    return array


def _tensor(values: np.ndarray) -> Tensor:
    wider = {"uint16": np.int32, "uint32": np.int64}.get(values.dtype.name)
    return torch.from_numpy(np.array(values, dtype=wider or values.dtype))


def _read_header(file: BinaryIO, path: str | os.PathLike) -> tuple[bool, list[Element]]:
    """Whether the body is binary, and what it holds."""
    if file.readline(16).strip() != b"ply":
        raise ValueError(f"{path}: not a PLY file")
    binary, elements = None, []
    for number in range(2, 1000):
        words = file.readline(1000).decode("ascii", errors="replace").split()
        match words:
            case ["end_header"]:
                if binary is None:
                    break
                return binary, elements
            case ["format", "binary_little_endian" | "ascii" as kind, _]:
                binary = kind != "ascii"
            case ["comment" | "obj_info", *_]:
                pass
            case ["element", name, rows] if rows.isdigit():
                elements.append(Element(name, int(rows), ()))
            case ["property", kind, name] if kind in TYPES and elements:
                elements[-1] = _extended(elements[-1], Property(name, np.dtype(TYPES[kind])))
            case ["property", "list", count, kind, name] if count in TYPES and kind in TYPES and elements:
                added = Property(name, np.dtype(TYPES[kind]), np.dtype(TYPES[count]))
                elements[-1] = _extended(elements[-1], added)
            case _:
                raise ValueError(f"{path}, line {number}: PLY header not understood: {' '.join(words)[:100]!r}")
    raise ValueError(f"{path}: the PLY header has no end, or no format")


def _extended(element: Element, added: Property) -> Element:
    return Element(element.name, element.rows, (*element.properties, added))


def _read_element(file: BinaryIO, words, element: Element) -> dict[str, np.ndarray]:
    """The columns of one element; a list gives (rows, length), for lists of one length alone."""
    if not element.properties:
        raise ValueError("it has no properties")
    if words is not None:
        rows = [[_read_words(words, column) for column in element.properties] for _ in range(element.rows)]
        return {column.name: _stack([row[i] for row in rows], column) for i, column in enumerate(element.properties)}
    # The first row tells how long each list is; the rows that follow are read at once and must agree.
    start = file.tell()
    fields: list[tuple] = []
    for column in element.properties:
        if column.count is None:
            fields.append((column.name, column.dtype))
            file.seek(column.dtype.itemsize, os.SEEK_CUR)
        else:
            length = int(_read_exactly(file, column.count, 1)[0]) if element.rows else 0
            fields += [(column.name + " count", column.count), (column.name, column.dtype, (length,))]
            file.seek(length * column.dtype.itemsize, os.SEEK_CUR)
    file.seek(start)
    table = _read_exactly(file, np.dtype(fields), element.rows)
    for column in element.properties:
        if column.count is not None and (table[column.name + " count"] != table[column.name].shape[-1]).any():
            raise ValueError(f"lists {column.name!r} of different length are not supported")
    return {column.name: table[column.name] for column in element.properties}


def _read_exactly(file: BinaryIO, dtype: np.dtype, rows: int) -> np.ndarray:
    here = file.tell()
    left = file.seek(0, os.SEEK_END) - here
    file.seek(here)
    if left < rows * dtype.itemsize:
        raise ValueError(f"expected {rows * dtype.itemsize} bytes, but {left} are left; the file ends too early")
    return np.frombuffer(file.read(rows * dtype.itemsize), dtype=dtype)


def _read_words(words, column: Property):
    if column.count is None:
        return next(words)
    return [next(words) for _ in range(int(next(words)))]


def _stack(rows: list, column: Property) -> np.ndarray:
    if not rows:
        return np.empty((0,) if column.count is None else (0, 0), column.dtype)
    if column.count is not None and len({len(row) for row in rows}) > 1:
        raise ValueError(f"lists {column.name!r} of different length are not supported")
    return np.array(rows, dtype="S").astype(np.float64).astype(column.dtype)
