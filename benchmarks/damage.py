"""Ways to damage files; see `benchmarks.fuzz`."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

HUGE = (
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"99999999999",
    b"1e308",
    b"-1",
    b"nan",
    b"../../x",
    b"/x",
)


def flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 20)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def empty(data: bytearray, chance: random.Random) -> None:
    data.clear()


def swap(data: bytearray, chance: random.Random) -> None:
    """Two pieces exchanged."""
    size = chance.randint(1, max(1, len(data) // 4))
    a, b = (chance.randrange(max(1, len(data) - size)) for _ in range(2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def insert_huge(data: bytearray, chance: random.Random) -> None:
    """A huge number or an odd name, near the beginning as often as elsewhere."""
    where = chance.randrange(min(len(data), 400) if chance.random() < 0.5 else len(data))
    what = chance.choice(HUGE)
    data[where : where + len(what)] = what


def double(data: bytearray, chance: random.Random) -> None:
    data.extend(bytes(data[: chance.randrange(len(data))]))


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (flip_bits, cut, empty, swap, insert_huge, double)


def damaged(sample: Path, folder: Path, chance: random.Random) -> tuple[Path, str]:
    """A copy of a sample with one to three of its files damaged, and how."""
    source = sample if sample.is_dir() else sample.parent
    copy = folder / "recording"
    shutil.copytree(source, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    told = []
    for path in chance.sample(files, min(len(files), chance.randint(1, 3))):
        data, way = bytearray(path.read_bytes()), chance.choice(WAYS)
        if not data:
            continue
        if chance.random() < 0.05:
            path.unlink()
            told.append(f"{path.name}: removed")
            continue
        way(data, chance)
        path.write_bytes(data)
        told.append(f"{path.name}: {way.__name__}")
    return (copy if sample.is_dir() else copy / sample.name), ", ".join(told)
