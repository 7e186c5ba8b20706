"""Pose graphs in g2o files: VERTEX_SE3:QUAT, EDGE_SE3:QUAT, VERTEX_SE2, EDGE_SE2, FIX, and edges with offsets of zero.

An edge's information matrix weighs the error log(T_ij^-1 T_i^-1 T_j), ordered [translation, rotation], as GTSAM reads
these files. (g2o itself takes the vector part of the quaternion, half the rotation, for the latter.)
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se2, se3
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.graph.information import square_root
from gradslam_ng.io.atomic import write_whole
from gradslam_ng.io.text import Line, parse_numbers, read_lines
from gradslam_ng.optim.costs import FullWeight
from gradslam_ng.optim.kernels import Kernel


class Kind(NamedTuple):
    """What a line holds behind its first word."""

    names: int  # of poses and offsets
    numbers: int
    dimension: int  # of the space


KINDS = {
    "VERTEX_SE3:QUAT": Kind(1, 7, 3),
    "EDGE_SE3:QUAT": Kind(2, 28, 3),
    "EDGE_SE3_OFFSET": Kind(4, 28, 3),
    "PARAMS_SE3OFFSET": Kind(1, 7, 3),
    "VERTEX_SE2": Kind(1, 3, 2),
    "EDGE_SE2": Kind(2, 9, 2),
    "EDGE_SE2_OFFSET": Kind(4, 9, 2),
    "PARAMS_SE2OFFSET": Kind(1, 3, 2),
}
SCANS = {"ROBOTLASER1", "RAWLASER1", "FLASER", "RLASER"}  # measurements that g2o keeps beside a graph
NOT_UNIT = 0.01  # a quaternion whose length is off by more was not just rounded


@dataclass(frozen=True, eq=False)
class G2OGraph:
    """N poses in space or in the plane, and E measured motions between them."""

    names: Tensor  # (N,) int64, as numbered in the file
    T: Tensor  # (N, 4, 4) or (N, 3, 3), float64
    i: Tensor  # (E,) int64, of the N
    j: Tensor  # (E,)
    T_ij: Tensor  # (E, 4, 4) or (E, 3, 3)
    information: Tensor  # (E, 6, 6) or (E, 3, 3)
    fixed: Tensor  # (F,) int64, of the N

    @property
    def planar(self) -> bool:
        return self.T.shape[-1] == 3

    def factor_graph(self, kernel: Kernel | None = None) -> FactorGraph:
        """The graph with the variables "pose".

        Raises:
            ValueError: an information matrix that is not positive semi-definite.
        """
        graph = FactorGraph()
        graph.add_variables("pose", optim.SE2() if self.planar else optim.SE3(), self.T)
        W = square_root(self.information, lambda e: f"edge {int(self.names[self.i[e]])} {int(self.names[self.j[e]])}")
        graph.add_between("pose", self.i, self.j, self.T_ij, weight=FullWeight(W), kernel=kernel)
        graph.fix("pose", self.fixed)
        return graph

    def with_poses(
        self,
        T: Tensor,  # (N, 4, 4) or (N, 3, 3)
    ) -> G2OGraph:
        """The same with other poses."""
        return replace(self, T=T)

    def save(self, path: Path | str) -> None:
        """Write a g2o file."""
        vertex, edge = ("VERTEX_SE2", "EDGE_SE2") if self.planar else ("VERTEX_SE3:QUAT", "EDGE_SE3:QUAT")
        rows, cols = np.triu_indices(self.information.shape[-1])
        upper = self.information.detach()[:, rows, cols]
        lines = [f"{vertex} {n} {_text(p)}" for n, p in zip(self.names.tolist(), _numbers(self.T), strict=True)]
        lines += [f"FIX {n}" for n in self.names[self.fixed].tolist()]
        ends = zip(self.names[self.i].tolist(), self.names[self.j].tolist(), strict=True)
        rest = torch.cat([_numbers(self.T_ij), upper], -1)
        lines += [f"{edge} {a} {b} {_text(numbers)}" for (a, b), numbers in zip(ends, rest, strict=True)]
        write_whole(path, "\n".join(lines) + "\n")


def _text(numbers: Tensor) -> str:
    return " ".join(f"{x:.17g}" for x in numbers.tolist())


def _numbers(T: Tensor) -> Tensor:
    T = T.detach()
    return se2.components(T) if T.shape[-1] == 3 else torch.cat(se3.to_quaternion(T), -1)


def _poses(numbers: Tensor) -> Tensor:
    if numbers.shape[-1] == 3:
        return se2.matrix(*numbers.unbind(-1))
    return se3.from_quaternion(numbers[:, :3], numbers[:, 3:])


def load(path: Path | str) -> G2OGraph:
    """Read a g2o file.

    Quaternions that are not of unit length are normalized. Laser scans are left out, with a warning; so are poses that
    are given again with the same numbers. Vertices and edges of other kinds, landmarks and their sightings, are
    refused, and edges between sensors that are mounted off the pose (PARAMS_SE3OFFSET and the like).

    Raises:
        FileNotFoundError, ValueError: no such file; a line that cannot be read, a pose missing or given twice, an edge
            from a pose to itself, numbers that are not finite, a quaternion of zeros, poses of the plane and of space
            in one file, or none at all. The message has the line.
    """
    file = read_lines(path, "a pose graph in the g2o format", column_names=False)
    records = _Records()
    for line in file.lines:
        records.add(line)
    if not records.vertices:
        raise ValueError(f"{path}: expected poses, lines VERTEX_SE3:QUAT or VERTEX_SE2, got none")
    records.check()
    if odd := ", ".join(f"{count} {what}" for what, count in records.odd.items() if count):
        warnings.warn(f"{path}: {odd}", stacklevel=2)
    return records.assemble()


@dataclass
class _Records:
    """The lines of a file, by kind."""

    vertices: dict[int, list[float]] = field(default_factory=dict)
    ends: list[tuple[int, int]] = field(default_factory=list)  # of each edge
    edges: list[list[float]] = field(default_factory=list)
    fixed: list[int] = field(default_factory=list)
    named: dict[int, Line] = field(default_factory=dict)  # poses that edges and FIX name, and where first
    params: list[Line] = field(default_factory=list)
    offsets: list[tuple[int, Line]] = field(default_factory=list)  # offsets that edges use, and where
    odd: Counter[str] = field(default_factory=Counter)  # what is worth a warning
    dimension: int = 0  # of the space, 0 before the first line says it

    def add(self, line: Line) -> None:
        """One line."""
        kind = next(iter(line.words()), line.text)
        if kind == "FIX":
            self.add_fixed(line)
        elif kind.startswith("PARAMS_"):
            self.params.append(line)  # read if an edge uses it
        elif kind in SCANS:
            self.odd[f"lines {kind}, left out"] += 1
        elif kind in KINDS:
            self.add_pose_or_edge(line, kind)
        else:
            known = ", ".join(known for known in KINDS if not known.startswith("PARAMS_"))
            raise ValueError(f"{line.where}: expected one of {known} or FIX, got {kind[:100]!r}")

    def add_fixed(self, line: Line) -> None:
        """The poses that a line FIX names."""
        names = [_parse_name(word, line) for word in line.words()[1:]]
        if not names:
            raise ValueError(f"{line.where}: expected FIX and the numbers of poses, got none")
        for name in names:
            self.named.setdefault(name, line)
        self.fixed += [name for name in dict.fromkeys(names) if name not in self.fixed]

    def add_pose_or_edge(self, line: Line, kind: str) -> None:
        """A vertex, or an edge."""
        names, numbers = _parse_line(line, kind)
        dimension = KINDS[kind].dimension
        self.dimension = self.dimension or dimension
        if dimension != self.dimension:
            raise ValueError(f"{line.where}: {kind} among poses of {'space' if self.dimension == 3 else 'the plane'}")
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{line.where}: expected finite numbers, got {line.text[:100]!r}")
        length = math.hypot(*numbers[3:7]) if dimension == 3 else 1.0
        if length < 1e-6:
            raise ValueError(f"{line.where}: expected a quaternion of length 1, got {numbers[3:7]}")
        if abs(length - 1) > NOT_UNIT:
            self.odd["quaternions that are not of unit length, normalized"] += 1
        if kind.startswith("EDGE"):
            self.add_edge(line, names, numbers)
        elif self.vertices.get(names[0], numbers) != numbers:
            raise ValueError(f"{line.where}: pose {names[0]} is given twice, by other numbers")
        else:
            self.odd["poses given twice"] += names[0] in self.vertices
            self.vertices[names[0]] = numbers

    def add_edge(self, line: Line, names: list[int], numbers: list[float]) -> None:
        """An edge between two poses, and perhaps the offsets of sensors on them."""
        i, j, *offsets = names
        if i == j:
            raise ValueError(f"{line.where}: expected an edge between two poses, got {i} twice")
        self.named.setdefault(i, line)
        self.named.setdefault(j, line)
        self.offsets += [(offset, line) for offset in offsets]
        self.ends.append((i, j))
        self.edges.append(numbers)

    def check(self) -> None:
        """Raise ValueError where what a line names is not given, or is an offset that is not zero."""
        for name, line in self.named.items():
            if name not in self.vertices:
                raise ValueError(f"{line.where}: names pose {name}, which is not given")
        given = dict(_parse_offset(line) for line in self.params) if self.offsets else {}
        for name, line in self.offsets:
            if name not in given:
                raise ValueError(f"{line.where}: names offset {name}, which is not given")
            if any(given[name]):
                raise ValueError(f"{line.where}: expected an edge without offsets, got one that uses offset {name}")

    def assemble(self) -> G2OGraph:
        """The graph."""
        place = {name: k for k, name in enumerate(self.vertices)}
        size, count = (7, 6) if self.dimension == 3 else (3, 3)
        numbers = torch.tensor(self.edges, dtype=torch.float64).reshape(-1, size + count * (count + 1) // 2)
        information = numbers.new_zeros(len(numbers), count, count)
        rows, cols = np.triu_indices(count)
        information[:, rows, cols] = numbers[:, size:]
        information[:, cols, rows] = numbers[:, size:]
        ends = torch.tensor([[place[a], place[b]] for a, b in self.ends], dtype=torch.int64).reshape(-1, 2)
        return G2OGraph(
            names=torch.tensor(list(self.vertices)),
            T=_poses(torch.tensor(list(self.vertices.values()), dtype=torch.float64)),
            i=ends[:, 0],
            j=ends[:, 1],
            T_ij=_poses(numbers[:, :size]),
            information=information,
            fixed=torch.tensor([place[name] for name in self.fixed], dtype=torch.int64),
        )


def _parse_line(line: Line, kind: str) -> tuple[list[int], list[float]]:
    """The numbers of poses and offsets on a line, and those behind them."""
    names, count, _ = KINDS[kind]
    expected = f"{kind} and {names} + {count} numbers"
    numbers = parse_numbers(line.text.partition(kind)[2], line.where, expected, (names + count,))
    return [_parse_name(word, line) for word in line.words()[1 : 1 + names]], numbers[names:]


def _parse_offset(line: Line) -> tuple[int, list[float]]:
    """The name of the offset of a sensor, and how far it is off: all zero where it is none."""
    kind = line.words()[0]
    if kind not in KINDS:
        return -1, []
    (name,), numbers = _parse_line(line, kind)
    return name, numbers[:6]  # w follows from x, y, z


def _parse_name(word: str, line: Line) -> int:
    """A whole number of 64 bits."""
    try:
        name = int(re.sub(r"\.0*$", "", word))  # as some write whole numbers
    except ValueError:
        name = None
    if name is None or not -(2**63) <= name < 2**63:
        raise ValueError(f"{line.where}: expected the number of a pose, got {word[:100]!r}")
    return name
