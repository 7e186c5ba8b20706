"""During a run: as many threads as find a core, and memory that stays."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path

import pytest
import torch

from gradslam_ng.slam import runtime
from gradslam_ng.slam.runtime import CoreWatch, keep_memory, share_cores

TICKS = os.sysconf("SC_CLK_TCK")  # a second
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cores are those of Linux")


class Machine:
    """A machine of which the test says what it does."""

    def __init__(self, stat: Path, cores: int) -> None:
        self.stat, self.cores, self.now, self.own = stat, cores, 0.0, 0.0
        self.user, self.nice = 0.0, 0.0
        self.write()

    def write(self) -> None:
        idle = self.cores * self.now - self.user - self.nice
        rows = [[self.user, self.nice, 0, idle, 0, 0, 0, 0], *([[0] * 8] * (self.cores - 1))]
        ticks = [" ".join(str(round(TICKS * x)) for x in [*row, 0, 0]) for row in rows]
        self.stat.write_text("".join(f"cpu{i} {row}\n" for i, row in enumerate(ticks)) + "intr 1 2 3\n")

    def run(self, seconds: float, own: float, others: float = 0.0, polite: float = 0.0) -> None:
        """Some seconds, in which programs keep so many cores busy; polite ones give way to all others."""
        self.now, self.own = self.now + seconds, self.own + own * seconds
        self.user, self.nice = self.user + (own + others) * seconds, self.nice + polite * seconds
        self.write()


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    """Of four cores; torch has four threads."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    machine = Machine(tmp_path / "stat", cores=4)
    watch = CoreWatch(machine.stat, clock=lambda: machine.now, own=lambda: machine.own)
    monkeypatch.setattr(runtime, "CoreWatch", lambda: watch)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield machine
    torch.set_num_threads(before)


def test_others_take_cores_and_give_them_back(machine):
    with share_cores() as decide:
        assert torch.get_num_threads() == 3
        for others, expected in ((0.0, 3), (1.0, 2), (2.0, 1), (4.0, 1), (0.1, 3)):
            machine.run(1.0, own=4.0 - others, others=others)
            decide()
            assert torch.get_num_threads() == expected, others
    assert torch.get_num_threads() == 4


def test_what_gives_way_takes_no_core(machine):
    """The process that compiles beside a run."""
    with share_cores(reserved=0) as decide:
        machine.run(1.0, own=1.0, polite=3.0)
        decide()
        assert torch.get_num_threads() == 4


def test_decides_twice_a_second_at_most(machine):
    with share_cores() as decide:
        machine.run(0.2, own=1.0, others=3.0)
        decide()
        assert torch.get_num_threads() == 3
        machine.run(0.4, own=1.0, others=3.0)
        decide()
        assert torch.get_num_threads() == 1


def test_stays_where_it_is_not_to_adapt(machine):
    with share_cores(adapt=False) as decide:
        machine.run(1.0, own=1.0, others=3.0)
        decide()
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize("text", ["", "cpu0 1 2\n", "cpu0 a b c d e f g h\n", "nothing"])
def test_where_nothing_says_what_others_do_they_do_nothing(machine, text):
    with share_cores() as decide:
        machine.now = 9.0
        machine.stat.write_text(text)
        decide()
        assert torch.get_num_threads() == 3


def test_where_there_is_no_such_file(tmp_path):
    assert CoreWatch(tmp_path / "none", clock=lambda: 0.0).free_cores() is None


def test_this_machine_has_cores():
    watch = CoreWatch()
    watch.began -= 1.0
    free = watch.free_cores()
    assert free is not None and 0.0 <= free <= len(watch.cores)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others decide by themselves")
def test_memory_stays_for_the_next_frame():
    """A large tensor takes pages that are there: eight of them fault less often than one fresh one would."""
    size, faults = 16 << 20, []  # numbers of a byte each; pages that were not there
    with keep_memory():
        for _ in range(4):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(8):
                torch.ones(size, dtype=torch.uint8)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults) < size // 4096
