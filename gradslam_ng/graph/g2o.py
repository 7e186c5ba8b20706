"""Pose graphs in g2o files: VERTEX_SE3:QUAT, EDGE_SE3:QUAT, VERTEX_SE2, EDGE_SE2 and FIX.

An edge's information matrix weighs the error log(T_ij^-1 T_i^-1 T_j), ordered [translation, rotation], as GTSAM reads
these files. (g2o itself takes the vector part of the quaternion, half the rotation, for the latter.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
class PoseGraph:
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
        """The graph with the unknowns "pose".

        Raises:
            ValueError: an information matrix that is not positive definite.
        """
        graph = FactorGraph()
        graph.add_variables("pose", optim.SE2() if self.planar else optim.SE3(), self.T)
        W = square_root(self.information, lambda e: f"edge {int(self.names[self.i[e]])} {int(self.names[self.j[e]])}")
        graph.add_between("pose", self.i, self.j, self.T_ij, weight=FullWeight(W), kernel=kernel)
        graph.hold("pose", self.fixed)
        return graph

    def moved(self, T: Tensor) -> PoseGraph:
        """The same with poses T (N, ...)."""
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


def load(path: Path | str) -> PoseGraph:
    """Read a g2o file. Lines of other kinds, landmarks and their sightings, are refused.

    Raises:
        FileNotFoundError, ValueError: no such file; a line that cannot be read, a pose given twice or missing, numbers
            that are not finite, poses of the plane and of space in one file, or none at all. The message has the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    vertices: dict[int, list[float]] = {}
    ends, edges, fixed, dimension = [], [], [], None
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        kind, words = words[0], words[1:]
        where = f"{path}, line {number}"
        if kind == "FIX":
            fixed += [_read(where, words, int)[0]]
            continue
        if kind not in KINDS:
            raise ValueError(f"{where}: expected one of {', '.join(KINDS)} or FIX, got {kind!r}")
        expected, dim = KINDS[kind]
        dimension = dimension or dim
        names, values = (1, vertices) if kind.startswith("VERTEX") else (2, edges)
        ids, numbers = _read(where, words[:names], int), _read(where, words[names:], float)
        if len(ids) != names or len(numbers) != expected:
            raise ValueError(f"{where}: {kind} takes {names} + {expected} numbers, got {len(ids)} + {len(numbers)}")
        if dim != dimension:
            raise ValueError(f"{where}: {kind} among poses of {'space' if dimension == 3 else 'the plane'}")
        if not np.isfinite(numbers).all():
            raise ValueError(f"{where}: expected finite numbers")
        if names == 2:
            ends.append(ids)
            values.append(numbers)
        elif ids[0] in values:
            raise ValueError(f"{where}: pose {ids[0]} is given twice")
        else:
            values[ids[0]] = numbers
    if not vertices:
        raise ValueError(f"{path}: no poses")
    place = {name: k for k, name in enumerate(vertices)}
    missing = {name for pair in ends for name in pair} | set(fixed)
    if missing := sorted(missing - place.keys()):
        raise ValueError(f"{path}: edges or FIX name pose {missing[0]}, which is not given")
    size, count = (7, 6) if dimension == 3 else (3, 3)
    numbers = torch.tensor(edges, dtype=torch.float64).reshape(-1, size + count * (count + 1) // 2)
    information = numbers.new_zeros(len(numbers), count, count)
    rows, cols = np.triu_indices(count)
    information[:, rows, cols] = numbers[:, size:]
    information[:, cols, rows] = numbers[:, size:]
    i, j = torch.tensor([[place[a], place[b]] for a, b in ends], dtype=torch.int64).reshape(-1, 2).unbind(-1)
    return PoseGraph(
        torch.tensor(list(vertices)), _poses(torch.tensor(list(vertices.values()), dtype=torch.float64)), i, j,
        _poses(numbers[:, :size]), information, torch.tensor([place[name] for name in fixed], dtype=torch.int64),
    )  # fmt: skip


def _read(where: str, words: list[str], kind: type) -> list:
    try:
        return [kind(word) for word in words]
    except ValueError:
        raise ValueError(f"{where}: expected numbers, got {' '.join(words)!r}") from None
