"""Interrupts, threads and memory during a run: Ctrl-C waits while state is corrected, threads find a core each.

Memory is kept from frame to frame.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

PERIOD = 0.5  # seconds between two looks at what others leave
SLACK = 0.3  # of a core: what others may take of one that a thread shares with them
STAT = Path("/proc/stat")  # of Linux
NOT_TAKEN = (1, 3, 4)  # its columns of a core: below usual priority, which gives way; idle; waiting for a disk
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # options of mallopt in the GNU C library
KEPT = 256 << 20  # bytes free at the end of the heap from which on some are given back
HIGHEST_DEFAULT = 32 << 20  # bytes, of the size from which on memory is mapped by itself


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Ctrl-C inside takes effect at the end: map, poses and keyframes are corrected together or not at all."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


@contextmanager
def share_cores(reserved: int = 1, adapt: bool = True) -> Iterator[Callable[[], None]]:
    """Inside, torch works with as many threads as find a core. It yields a function to be called between frames, by
    which that is decided anew, twice a second at most; if not to `adapt`, it stays as it was decided at first.

    Torch's threads synchronize after every parallel loop: one that shares its core with something else delays all. So
    they are as many as torch has, but no more than cores that no other program keeps busy, less those `reserved` for
    threads of this process that prefetch frames; at least one. Where nothing says what others do, that is on systems
    other than Linux, they are taken to do nothing.
    """
    threads, watch = torch.get_num_threads(), CoreWatch()
    cores = len(watch.cores) or threads

    def use(free: float) -> None:
        torch.set_num_threads(max(1, min(threads, math.floor(free + SLACK) - reserved)))

    def decide() -> None:
        free = watch.free_cores() if adapt and min(threads, cores - reserved) > 1 else None
        if free is not None:
            use(free)

    use(cores)
    try:
        yield decide
    finally:
        torch.set_num_threads(threads)


@contextmanager
def keep_memory() -> Iterator[None]:
    """Inside, memory that tensors leave stays with the process for those of the next frame, up to `KEPT`.

    The GNU C library gives large tensors back to the kernel as soon as they end, which fills every page of the next one
    with zeros first: longer than many a loop takes that writes it. Other libraries do as they do.
    """
    set_option = _mallopt()
    set_option(M_MMAP_THRESHOLD, 2 * KEPT)
    set_option(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:  # what it comes to by itself where tensors are large
        set_option(M_MMAP_THRESHOLD, HIGHEST_DEFAULT)
        set_option(M_TRIM_THRESHOLD, 2 * HIGHEST_DEFAULT)


def _mallopt() -> Callable[[int, int], int]:
    """That of the GNU C library; one without effect elsewhere."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        return ctypes.CDLL(None).mallopt
    return lambda *_: 0


class CoreWatch:
    """How many of the cores that this process may use others leave to it.

    stat: where the kernel counts what cores do.
    clock: seconds. own: seconds of computing of this process, of all its threads.
    """

    def __init__(
        self,
        stat: Path = STAT,
        *,
        clock: Callable[[], float] = time.monotonic,
        own: Callable[[], float] = time.process_time,
    ) -> None:
        self.stat, self.clock, self.own = stat, clock, own
        self.cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
        self.began, self.before = clock(), self.busy_elsewhere()

    def free_cores(self) -> float | None:
        """Their number, in the mean since it was last told; None if that is less than `PERIOD` ago or not known."""
        now = self.clock()
        if self.before is None or now - self.began < PERIOD:
            return None
        busy = self.busy_elsewhere()
        if busy is None:
            return None
        taken = max(0.0, (busy - self.before) / (now - self.began))
        self.began, self.before = now, busy
        return max(0.0, len(self.cores) - taken)

    def busy_elsewhere(self) -> float | None:
        """Seconds for which others have kept these cores busy so far; None where that is not known."""
        try:
            rows = [line.split() for line in self.stat.read_text().splitlines() if line.startswith("cpu")]
            ticks = {row[0]: [int(x) for x in row[1:9]] for row in rows}
            taken = sum(
                count
                for core in self.cores
                for column, count in enumerate(ticks[f"cpu{core}"])
                if column not in NOT_TAKEN
            )
        except (OSError, ValueError, KeyError):
            return None
        return taken / os.sysconf("SC_CLK_TCK") - self.own() if self.cores else None
