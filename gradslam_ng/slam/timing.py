"""Timing of the stages of a system: a decorator for its methods, and the seconds that add up."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from gradslam_ng.compute.compiled import seconds_compiling

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class StageTimer:
    """Adds up the seconds spent in each stage, but for compiling. A stage within another counts to the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.running = False

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to a stage."""
        if self.running:
            yield
            return
        began, compiling_before = time.perf_counter(), seconds_compiling()
        self.running = True
        try:
            yield
        finally:
            self.running = False
            self.seconds[name] += time.perf_counter() - began - (seconds_compiling() - compiling_before)

    def iterate(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """The same items, the time spent waiting for each added to a stage."""
        end = object()
        while True:
            with self.measure(name):
                item = next(items, end)
            if item is end:
                return
            yield item  # type: ignore[misc]


def stage(name: str) -> Callable[[F], F]:
    """Decorator for methods of objects with a `timer`: their time is added to the stage of that name."""

    def decorate(method: F) -> F:
        @functools.wraps(method)
        def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
            with self.timer.measure(name):
                return method(self, *args, **kwargs)

        return timed  # type: ignore[return-value]

    return decorate
