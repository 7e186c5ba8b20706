"""Versions of functions that torch's inductor has generated for a CPU, run without it: importing it takes two seconds.

The generated source is Python around C++ loops, which lie beside it as shared libraries.
"""

from __future__ import annotations

import builtins
import dis
import importlib.util
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.compute.kernel_buffers import keep_small_buffers

HEADER_END = re.compile(r"^async_compile = AsyncCompile\(\)\n", re.MULTILINE)  # imports and names end there
_compiler: Any = vars(torch._C._dynamo.guards)  # a part of torch itself, whose compiler is not imported
TAIL = "\ndef get_args():"  # where what is run alone begins


class Libraries:
    """In the place of the compiler in generated source: gives it its loops, in the order in which it asks for them."""

    def __init__(self, load: Callable[[Sequence[str], str], Any]) -> None:
        self.load = load  # (types of arguments, source in C++) -> the loop

    def cpp_pybinding(self, argument_types: Sequence[str], source: str) -> Any:
        return self.load(argument_types, source)

    def wait(self, namespace: dict[str, Any]) -> None:
        """All are there."""


class PerThread(threading.local):
    """A function with buffers of its own in each thread that calls it."""

    def __init__(self, prepare: Callable[[], Callable[[list[Tensor]], Any]]) -> None:
        self.call = prepare()


class Operations:
    """torch's own operations by name, as generated source calls those that are not loops of its own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def run_source(source: str, libraries: Libraries, constants: dict[str, Tensor]) -> Callable[[list[Tensor]], Any]:
    """The function (tensors) -> tensors that generated source defines; it empties the list that it is given.

    Raises:
        ValueError: source of another form.
    """
    parts = HEADER_END.split(source)
    if len(parts) != 2:
        raise ValueError("expected the source that torch's inductor generates for a CPU, got another")
    body = parts[1].split(TAIL)[0]
    namespace = {
        "torch": torch,
        "aten": torch.ops.aten,
        "math": math,
        "inf": math.inf,
        "nan": math.nan,
        "device": torch.device,
        "empty_strided": torch.empty_strided,
        "assert_size_stride": no_assertion,
        "empty_strided_cpu": _compiler["_empty_strided_cpu"],
        "reinterpret_tensor": _compiler["_reinterpret_tensor"],
        "extern_kernels": Operations(),
        "async_compile": libraries,
    }
    body = re.sub(r"^empty_strided_p2p = .*\n", "", body, flags=re.MULTILINE)
    body = keep_small_buffers(body)
    code = compile(body, "<compiled function>", "exec")
    exec(code, namespace)
    namespace.update(constants)  # in the source they are None
    entry = "prepare" if "prepare" in namespace else "call"
    if unknown := {entry, *_globals_of(code)} - namespace.keys() - vars(builtins).keys():
        raise ValueError(f"generated source: expected to know all names in it, not {', '.join(sorted(unknown))}")
    if entry == "call":
        return namespace["call"]
    local = PerThread(namespace["prepare"])
    return lambda tensors: local.call(tensors)


def _globals_of(code: CodeType) -> Iterator[str]:
    """The global names that functions within code use; those outside of functions have been used once it has run."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _globals_of(part)


def no_assertion(*_: Any) -> None:
    """Sizes have just been compared with those of the version."""


def load_in_order(paths: Iterator[Path]) -> Libraries:
    """Loops from shared libraries, each from the next file."""
    return Libraries(lambda *_: load_library(next(paths)))


def load_library(path: Path) -> Any:
    """The loop in a shared library.

    Raises:
        ImportError: the file is damaged.
    """
    os.environ["_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"] = str(_compiler["_torchinductor_pyobject_tensor_data_ptr"])
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}.kernel", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: expected a shared library")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.kernel
