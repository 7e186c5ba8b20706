"""Interrupts and threads during a run: Ctrl-C is deferred while state is corrected, reading ahead has a core."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
def reserve_core() -> Iterator[None]:
    """Inside, torch works with one thread less than it has, if it has more than one, so that the threads that prefetch
    frames have a core. Torch's threads synchronize after every parallel loop: one that shares its core delays all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
