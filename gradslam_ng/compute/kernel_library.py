"""The compiled versions that a process has: loaded from disk, asked for where missing, taken over when ready."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from gradslam_ng.compute.arguments import TensorSpec, digest
from gradslam_ng.compute.compiler_process import FAILED, CompilerProcess
from gradslam_ng.compute.kernel_compiler import Compilable, Request
from gradslam_ng.compute.kernel_files import FOLDER_VARIABLES, Version, load_version, prepare_folder, stamped_folder
from gradslam_ng.compute.tree import tree_structure

log = logging.getLogger("gradslam_ng")
WORTH_COMPILING = 3.0  # seconds in plain functions, from which a run is long enough for another process beside it
LOWEST_PRIORITY = 19
MOST_SIZES = 10_000  # of calls without a version that are remembered


class Call(NamedTuple):
    """A call of such a function."""

    function: Compilable
    place: tuple[str, tuple[Any, ...]]  # where versions for such calls are: its name, and the key of `flatten`
    args: Sequence[Any]
    tensors: list[Tensor]  # within args

    @property
    def sizes(self) -> tuple[Any, ...]:
        """Sizes and strides of the tensors."""
        return tuple((x.shape, x.stride()) for x in self.tensors)

    def request(self) -> Request:
        """For the compiler.

        Raises:
            TypeError: see `digest`.
        """
        free = self.function.dynamic_sizes(self.args)
        specs = tuple(TensorSpec.of(x, sizes) for x, sizes in zip(self.tensors, free, strict=True))
        return Request(self.function, digest(*self.place, specs), tree_structure(tuple(self.args)), specs)


class Wanted:
    """A version that is missing."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.seconds = 0.0  # spent in the plain function instead

    @property
    def function(self) -> str:
        return self.request.function.name


class KernelLibrary:
    """All versions of one process, and its compiler process while there is one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()  # backward passes call from threads of their own
        self.versions: dict[tuple[str, tuple[Any, ...]], list[Version]] = {}
        self.requests: dict[Any, Request] = {}  # by place and sizes, of calls that no version was found for
        self.wanted: dict[str, Wanted] = {}  # by digest
        self.answered: set[str] = set()  # digests: loaded, or failed
        self.failed: dict[str, str] = {}  # by name of function, why
        self.process: CompilerProcess | None = None
        self.submitted = ""  # the digest that it works on
        self.refused = ""  # why there is none
        self.seconds = 0.0  # that calls have waited for versions

    def find(self, place: tuple[str, tuple[Any, ...]], tensors: list[Tensor]) -> Version | None:
        """The version for a call among those in memory."""
        for version in self.versions.get(place, ()):
            if version.accepts(*tensors):
                return version
        return None

    def provide(self, call: Call, wait: bool) -> Version | Wanted | None:
        """The version for a call that has none in memory: from disk, or from the compiler if that is waited for.

        Else what is noted as wanted; None where there will be none.
        """
        with self.lock:
            began = time.perf_counter()
            self.advance()
            request = self._request(call)
            if request is None or request.digest in self.answered:
                return self._accepting(call)
            if self._load(request.digest, call.place):
                self.seconds += time.perf_counter() - began
                return self._accepting(call)
            wanted = self.wanted.setdefault(request.digest, Wanted(request))
            if not wait or not self._compile_now(wanted):
                return wanted
            self._load(request.digest, call.place)
            self.seconds += time.perf_counter() - began
            return self._accepting(call)

    def advance(self) -> None:
        """Note what the compiler process has finished, and hand it what has cost most so far."""
        with self.lock:
            while self.process is not None and not self.process.finished.empty():
                self._finish(self.process.finished.get())
            waiting = [wanted for name, wanted in self.wanted.items() if not self._is_on_disk(name)]
            if self.submitted or not waiting:
                return
            if self.process is not None or sum(wanted.seconds for wanted in waiting) > WORTH_COMPILING:
                self._submit(max(waiting, key=lambda wanted: wanted.seconds).request, LOWEST_PRIORITY)

    def count(self) -> tuple[int, int]:
        """How many versions are in use, and how many are wanted still."""
        return sum(map(len, self.versions.values())), len(self.wanted)

    def close(self) -> None:
        """End the compiler process."""
        with self.lock:
            if self.process is not None:
                self.process.close()
            self.process, self.submitted = None, ""

    def _accepting(self, call: Call) -> Version | None:
        """The version for a call of a kind for which there is one, which may have been made for other sizes alone."""
        version = self.find(call.place, call.tensors)
        if version is None and call.place[0] not in self.failed:
            self._fail(call.place[0], "a size that changes from call to call was fixed where it was compiled")
        return version

    def _request(self, call: Call) -> Request | None:
        here = (call.place, call.sizes)
        if here not in self.requests:
            if len(self.requests) > MOST_SIZES:
                self.requests.clear()
            try:
                self.requests[here] = call.request()
            except TypeError as error:
                self._fail(call.place[0], str(error))
        return self.requests.get(here)

    def _is_on_disk(self, name: str) -> bool:
        return name in self.answered or (self.folder / name).exists()

    def _load(self, name: str, place: tuple[str, tuple[Any, ...]]) -> bool:
        """Whether a version is on disk, which is then in memory."""
        reason = self.folder / f"{name}{FAILED}"
        version = load_version(self.folder / name)
        if version is None and reason.exists():
            self._fail(place[0], reason.read_text().strip())
        if version is None and not reason.exists():
            return False
        if version is not None:
            self.versions.setdefault(place, []).append(version)
        self.answered.add(name)
        self.wanted.pop(name, None)
        return True

    def _compile_now(self, wanted: Wanted) -> bool:
        """Whether the compiler process has finished with a request, which is waited for."""
        log.info("compiling %s", wanted.function)
        while self.submitted or self._submit(wanted.request, niceness=0):
            assert self.process is not None
            finished = self.process.finished.get()
            self._finish(finished)
            if finished == wanted.request.digest:
                return True
        return False

    def _submit(self, request: Request, niceness: int) -> bool:
        """Whether the compiler process has taken a request on."""
        self.refused = self.refused or compiler_missing(self.folder)
        if self.refused:
            return False
        try:
            self.process = self.process or CompilerProcess(self.folder, niceness=niceness)
            self.process.submit(request)
        except OSError as error:
            self._finish("")
            self.refused = f"the compiler process ended: {error}"
            return False
        self.submitted = request.digest
        return True

    def _finish(self, name: str) -> None:
        if not name:  # the process has ended by itself
            self.close()
            self.refused = "the compiler process ended"
            log.warning("functions that are not compiled yet run plainly: %s", self.refused)
        self.submitted = ""

    def _fail(self, function: str, reason: str) -> None:
        if function not in self.failed:
            log.warning("%s runs without a compiled version: %s", function, reason)
        self.failed[function] = reason


def compiler_missing(folder: Path) -> str:
    """Why functions cannot be compiled here, empty where they can."""
    if os.name != "posix":
        return "compiling needs Linux or macOS"
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler ({compiler})"
    try:
        prepare_folder(folder)
    except OSError as error:
        return f"the folder for compiled functions cannot be written: {error}"
    return ""


def library() -> KernelLibrary:
    """The versions of this process for its folder."""
    return _library(*map(os.environ.get, FOLDER_VARIABLES))


@functools.cache
def _library(*_: str | None) -> KernelLibrary:
    """One for each folder that these variables name: a frame asks several times, so nothing else is looked at."""
    return KernelLibrary(stamped_folder())
