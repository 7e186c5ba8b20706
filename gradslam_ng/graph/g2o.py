"""Pose graphs in g2o files: VERTEX_SE3:QUAT, EDGE_SE3:QUAT, VERTEX_SE2, EDGE_SE2 and FIX.

An edge's information matrix weighs the error log(T_ij^-1 T_i^-1 T_j), ordered [translation, rotation], as GTSAM reads
these files. (g2o itself takes the vector part of the quaternion, half the rotation, for the latter.)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import se2, se3
from gradslam_ng.graph.factor_graph import FactorGraph
from gradslam_ng.graph.information import square_root
from gradslam_ng.optim.costs import FullWeight
from gradslam_ng.optim.kernels import Kernel

KINDS = {"VERTEX_SE3:QUAT": (7, 3), "EDGE_SE3:QUAT": (28, 3), "VERTEX_SE2": (3, 2), "EDGE_SE2": (9, 2)}


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
            ValueError: an information matrix that is not positive definite.
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
        Path(path).write_text("\n".join(lines) + "\n")


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
    """Read a g2o file. Lines of other kinds, landmarks and their sightings, are refused.

    Raises:
        FileNotFoundError, ValueError: no such file; a line that cannot be read, a pose given twice or missing, numbers
            that are not finite, poses of the plane and of space in one file, or none at all. The message has the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    records = _Records()
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        words = line.split("#")[0].split()
        if words:
            records.add(f"{path}, line {number}", words[0], words[1:])
    if not records.vertices:
        raise ValueError(f"{path}: no poses")
    missing = {name for pair in records.ends for name in pair} | set(records.fixed)
    if absent := sorted(missing - records.vertices.keys()):
        raise ValueError(f"{path}: edges or FIX name pose {absent[0]}, which is not given")
    return records.assemble()


@dataclass
class _Records:
    """The lines of a file, by kind."""

    vertices: dict[int, list[float]] = field(default_factory=dict)
    ends: list[list[int]] = field(default_factory=list)  # of each edge
    edges: list[list[float]] = field(default_factory=list)
    fixed: list[int] = field(default_factory=list)
    dimension: int = 0  # of the space, 0 before the first line says it

    def add(self, where: str, kind: str, words: list[str]) -> None:
        """One line. where: what a message calls it."""
        if kind == "FIX":
            self.fixed.append(_read(where, words, int)[0])
            return
        if kind not in KINDS:
            raise ValueError(f"{where}: expected one of {', '.join(KINDS)} or FIX, got {kind!r}")
        expected, dimension = KINDS[kind]
        self.dimension = self.dimension or dimension
        names = 1 if kind.startswith("VERTEX") else 2
        ids, numbers = _read(where, words[:names], int), _read(where, words[names:], float)
        if len(ids) != names or len(numbers) != expected:
            raise ValueError(f"{where}: {kind} takes {names} + {expected} numbers, got {len(ids)} + {len(numbers)}")
        if dimension != self.dimension:
            raise ValueError(f"{where}: {kind} among poses of {'space' if self.dimension == 3 else 'the plane'}")
        if not np.isfinite(numbers).all():
            raise ValueError(f"{where}: expected finite numbers")
        if names == 2:
            self.ends.append(ids)
            self.edges.append(numbers)
        elif ids[0] in self.vertices:
            raise ValueError(f"{where}: pose {ids[0]} is given twice")
        else:
            self.vertices[ids[0]] = numbers

    def assemble(self) -> G2OGraph:
        """The graph, all poses that are named given."""
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


def _read(where: str, words: list[str], kind: type) -> list:
    try:
        return [kind(word) for word in words]
    except ValueError:
        raise ValueError(f"{where}: expected numbers, got {' '.join(words)!r}") from None
