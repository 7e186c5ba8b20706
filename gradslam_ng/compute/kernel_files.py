"""Compiled versions of functions on disk: one folder a version, in a folder for all that they depend on.

That one is named by a stamp: of PyTorch, the processor, options and source of the package. Another stamp, another
folder, so that a version that is found there is right.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pickle
import platform
import re
import shutil
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.compute.arguments import field_names
from gradslam_ng.compute.batches import join_batch
from gradslam_ng.compute.compiler_options import FUSED_REDUCTION_OPTIONS, GATHERING_OPTIONS, OPTIONS
from gradslam_ng.compute.kernel_source import load_in_order, run_source
from gradslam_ng.compute.tree import Placeholder

# in which compiled functions, and what they call, are
PACKAGES = ("compute", "geometry", "structures", "optim", "preprocessing", "odometry", "rendering", "mapping")
KEPT = 8  # stamps; those used last
FILE = "version.pickle"
FOLDER_VARIABLES = ("GRADSLAM_NG_KERNELS", "XDG_CACHE_HOME", "HOME")  # of the environment, which name the folder


@dataclass(frozen=True)
class Generated:
    """What the compiler has made of a function."""

    source: str
    constants: dict[str, Tensor]
    guard: str  # of sizes and strides: a Python expression of t0, t1, ...
    arguments: int  # tensors
    aliases: tuple[int | None, ...]  # by tensor returned: which argument it is, None for one of its own
    structure: Any  # of what is returned, see `tree_structure`


class Version:
    """A compiled version of a function, loaded."""

    def __init__(self, made: Generated, *, run: Callable[[list[Tensor]], Any]) -> None:
        self.accepts = _accepting(made)
        self.run = run
        self.aliases = made.aliases if any(i is not None for i in made.aliases) else None
        self.rebuild = _rebuilder(made.structure)

    def __call__(self, tensors: list[Tensor]) -> Any:
        if self.aliases is None:
            return self.rebuild(iter(self.run(tensors)))
        fresh = iter(self.run(list(tensors)))
        return self.rebuild(iter([next(fresh) if i is None else tensors[i] for i in self.aliases]))

    def each(self, elements: list[list[Tensor]], tensors: list[Tensor]) -> Any:
        """Of each element of a batch, see `split_batch`, put together again; tensors: those of the batch."""
        fresh = iter(join_batch([self.run(element) for element in elements]))
        if self.aliases is None:
            return self.rebuild(fresh)
        return self.rebuild(iter([next(fresh) if i is None else tensors[i] for i in self.aliases]))


def kernel_folder() -> Path:
    """Where compiled functions lie: GRADSLAM_NG_KERNELS, or in the user's folder for caches."""
    if folder := os.environ.get("GRADSLAM_NG_KERNELS"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gradslam_ng" / "kernels"


@functools.cache
def stamp() -> str:
    """Of all that compiled versions depend on but their arguments."""
    table = OPTIONS | FUSED_REDUCTION_OPTIONS | GATHERING_OPTIONS
    options = sorted((name, str(option.value)) for name, option in table.items())
    about = [torch.__version__, sys.version, platform.machine(), processor(), str(options)]
    code = hashlib.sha256("\n".join(about).encode())
    root = Path(__file__).resolve().parents[1]
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            code.update(path.read_bytes())
    return code.hexdigest()[:24]


def processor() -> str:
    """What the processor can do: versions are compiled for this one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    except OSError:
        return platform.processor()


def stamped_folder() -> Path:
    """The folder of the versions for this machine, PyTorch and source."""
    return kernel_folder() / stamp()


def prepare_folder(folder: Path) -> None:
    """Make the folder of a stamp if need be; those of other stamps go, but for those used last.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{uuid.uuid4().hex[:8]}"
    probe.touch()
    probe.unlink()
    os.utime(folder)
    others = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def save_version(folder: Path, made: Generated, libraries: list[Path]) -> None:
    """Write a version whole or not at all."""
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    fresh.mkdir()
    try:
        for i, path in enumerate(libraries):
            shutil.copyfile(path, fresh / f"{i}.so")
        (fresh / FILE).write_bytes(pickle.dumps(made))
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load_version(folder: Path) -> Version | None:
    """A version from disk, None where there is none that is whole."""
    try:
        made: Generated = pickle.loads((folder / FILE).read_bytes())
        paths = sorted(folder.glob("*.so"), key=lambda path: int(path.stem))
        return Version(made, run=run_source(made.source, load_in_order(iter(paths)), made.constants))
    except Exception:  # a file is missing or damaged
        return None


def _accepting(made: Generated) -> Callable[..., bool]:
    """Whether tensors are of the sizes and strides of a version, each asked once: a call takes as long as a term."""
    guard = re.sub(r"\b(t\d+)\.(size|stride)\(\)", r"\1_\2", made.guard)  # Python that `_guard` has made
    asked = dict.fromkeys(re.findall(r"\b(t\d+)_(size|stride)\b", guard))
    lines = [f"    {name}_{what} = {name}.{what}()" for name, what in asked]
    arguments = ", ".join(f"t{i}" for i in range(made.arguments))
    namespace: dict[str, Any] = {}
    exec("\n".join([f"def accepts({arguments}):", *lines, f"    return {guard}"]), namespace)
    return namespace["accepts"]


def _rebuilder(structure: Any) -> Callable[[Any], Any]:
    """The function (tensors) -> value of that structure, see `tree_unflatten`; this one takes it apart but once."""
    if isinstance(structure, Placeholder):
        return next
    if isinstance(structure, tuple):
        parts, kind = [_rebuilder(part) for part in structure], type(structure)
        if kind is tuple:
            return lambda leaves: tuple(part(leaves) for part in parts)
        return lambda leaves: kind(*(part(leaves) for part in parts))
    if isinstance(structure, dict):
        items = {name: _rebuilder(part) for name, part in structure.items()}
        return lambda leaves: {name: part(leaves) for name, part in items.items()}
    names = field_names(type(structure)) if dataclasses.is_dataclass(structure) else ()
    if not names:
        return lambda leaves: structure
    fields = {name: _rebuilder(getattr(structure, name)) for name in names}
    return lambda leaves: type(structure)(**{name: part(leaves) for name, part in fields.items()})
