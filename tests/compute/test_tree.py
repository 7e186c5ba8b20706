from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gradslam_ng.compute.tree import tree_leaves, tree_map, tree_structure, tree_unflatten, tree_where


class Named(NamedTuple):
    a: Tensor
    name: str


@dataclass(frozen=True)
class Record:
    x: Tensor
    parts: tuple[Tensor, Named]
    table: dict[str, Tensor | None]
    number: int = 3


def record(*values: float) -> Record:
    a, b, c, d = (torch.tensor([value, -value]) for value in values)
    return Record(a, (b, Named(c, "c")), {"d": d, "none": None})


def test_leaves_and_structure_make_the_value_again():
    value = record(1, 2, 3, 4)
    leaves = list(tree_leaves(value))
    assert [leaf[0].item() for leaf in leaves] == [1, 2, 3, 4]
    structure = tree_structure(value)
    assert not list(tree_leaves(structure))
    again = tree_unflatten(structure, iter(leaves))
    assert all(x is y for x, y in zip(tree_leaves(again), leaves, strict=True))
    assert isinstance(again.parts[1], Named) and again.parts[1].name == "c"
    assert again.number == 3 and again.table["none"] is None


def test_map_over_several_values():
    total = tree_map(torch.add, record(1, 2, 3, 4), record(10, 20, 30, 40))
    assert [leaf[0].item() for leaf in tree_leaves(total)] == [11, 22, 33, 44]
    assert isinstance(total, Record) and isinstance(total.parts[1], Named) and list(total.table) == ["d", "none"]


def test_where_selects_entry_by_entry():
    chosen = tree_where(torch.tensor([True, False]), record(1, 2, 3, 4), record(5, 6, 7, 8))
    assert [leaf.tolist() for leaf in tree_leaves(chosen)] == [[1, -5], [2, -6], [3, -7], [4, -8]]
