"""Trees of tensors as safetensors files: data structures and numbers, never code, and never half a file.

A file has the tensors, and in its metadata, as JSON, how they are put together. Reading makes instances of the types
that the reader names, and of no others.
"""

from __future__ import annotations

import dataclasses
import json
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from gradslam_ng.io.atomic import whole_file

SMALL = 64  # numbers of a tensor that is stored together with others of its kind: poses of frames are many
STRUCTURE, ABOUT = "structure", "about"  # keys of the metadata


class Saveable(ABC):
    """An object that is saved as a tree, beside those that are one already."""

    @abstractmethod
    def saved(self) -> dict[str, Any]:
        """What `from_saved` makes it of."""

    @classmethod
    @abstractmethod
    def from_saved(cls, saved: dict[str, Any]) -> Self:
        """The object again."""


def save_tree(path: Path, tree: Any, about: dict[str, Any]) -> None:
    """Write a tree of tensors, numbers, texts, lists, tuples, dictionaries, dataclasses, named tuples and `Saveable`s.

    The file is replaced at once: whoever reads it, whenever, finds the tree as it was or as it is. about: what can be
    read without the tensors, for `json.dumps`.

    Raises:
        OSError: it cannot be written; what was there stays.
        TypeError: something in it is none of these.
    """
    from safetensors.torch import save

    writer = _Writer()
    metadata = {STRUCTURE: json.dumps(writer.encode(tree)), ABOUT: json.dumps(about)}
    data = save(writer.finish(), metadata)
    with whole_file(path) as part, part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # before it takes the place of the last one, also if the power fails


def load_about(path: Path) -> dict[str, Any]:
    """What is told of a tree, without reading it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of `save_tree`.
    """
    return _metadata(path)[1]


def load_tree(path: Path, types: Iterable[type], device: torch.device | str = "cpu") -> Any:
    """The tree in a file, of instances of these types; what was not on the CPU comes to `device`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of `save_tree`, or one with other types.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    structure, _ = _metadata(path)
    try:
        tensors = load_file(path)
        return _Reader(tensors, types=types, device=device).decode(structure)
    except (SafetensorError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: not a whole state: {type(error).__name__}: {error}") from error


def _metadata(path: Path) -> tuple[Any, dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, "pt") as file:
            found = file.metadata() or {}
        return json.loads(found[STRUCTURE]), json.loads(found[ABOUT])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a saved state (safetensors): {type(error).__name__}: {error}") from error


class _Writer:
    """Takes the tensors out of a tree."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.packs: dict[str, list[Tensor]] = defaultdict(list)

    def encode(self, value: Any) -> Any:
        """The tree as JSON, with references for tensors."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Tensor):
            return {"tensor": self._refer(value.detach()), "on_cpu": value.device.type == "cpu"}
        if isinstance(value, list):
            return [self.encode(part) for part in value]
        if isinstance(value, dict):
            return {"dict": [[self.encode(key), self.encode(part)] for key, part in value.items()]}
        if isinstance(value, Saveable):
            return {"type": type(value).__name__, "saved": self.encode(value.saved())}
        names = _field_names(value)
        if names is not None:
            return {"type": type(value).__name__, "fields": {n: self.encode(getattr(value, n)) for n in names}}
        if type(value) is tuple:
            return {"tuple": [self.encode(part) for part in value]}
        raise TypeError(f"state: expected tensors, numbers and data structures, got {type(value).__name__}")

    def _refer(self, value: Tensor) -> list[Any]:
        if value.numel() <= SMALL:
            shape = "x".join(map(str, value.shape))
            name = f"{str(value.dtype).removeprefix('torch.')}_{shape}"
            self.packs[name].append(value.cpu())
            return [name, len(self.packs[name]) - 1]
        name = str(len(self.tensors))
        self.tensors[name] = value.cpu().clone(memory_format=torch.contiguous_format)  # none shares its memory
        return [name]

    def finish(self) -> dict[str, Tensor]:
        """All tensors, small ones of a kind as one."""
        return self.tensors | {name: torch.stack(parts) for name, parts in self.packs.items()}


class _Reader:
    def __init__(self, tensors: dict[str, Tensor], *, types: Iterable[type], device: torch.device | str) -> None:
        self.tensors, self.device = tensors, device
        self.types = {each.__name__: each for each in types}

    def decode(self, value: Any) -> Any:
        """The tree of what `_Writer.encode` made."""
        if isinstance(value, list):
            return [self.decode(part) for part in value]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            name, *index = value["tensor"]
            tensor = self.tensors[name][index[0]].clone() if index else self.tensors[name]
            return tensor if value["on_cpu"] else tensor.to(self.device)
        if "dict" in value:
            return {self.decode(key): self.decode(part) for key, part in value["dict"]}
        if "tuple" in value:
            return tuple(self.decode(part) for part in value["tuple"])
        kind = self.types[value["type"]]
        if issubclass(kind, Saveable):
            return kind.from_saved(self.decode(value["saved"]))
        return kind(**{name: self.decode(part) for name, part in value["fields"].items()})


def _field_names(value: Any) -> list[str] | None:
    """Of a dataclass, those that make it, or of a named tuple; None of anything else."""
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if field.init]
    is_named = isinstance(value, tuple) and type(value) is not tuple
    return list(value._fields) if is_named else None
