"""Clips in shards: they come back as they were, once each, and damage costs clips, not a training."""

from __future__ import annotations

import io
import itertools
import tarfile
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gradslam_ng.datasets import RecordingWarning, read_shards, write_shards
from gradslam_ng.structures import RGBDFrames

pytest.importorskip("webdataset")


def clips(count: int, **fields) -> list[RGBDFrames]:
    random = torch.Generator().manual_seed(0)

    def clip(i: int) -> RGBDFrames:
        color = torch.randint(256, (3, 4, 6, 3), generator=random) / 255
        depth = torch.rand(3, 4, 6, 1, generator=random) + i
        poses, times = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1), torch.arange(3, dtype=torch.float64)
        values = {"T_wc": poses, "timestamps": times, **fields}
        return RGBDFrames(color, depth, torch.diag(torch.tensor([50.0, 51, 1])), **values)

    return [clip(i) for i in range(count)]


def numbers(found) -> list[int]:
    """Which of the clips these are."""
    return [int(clip.depth.amin()) for clip in found]


@pytest.fixture
def shards(tmp_path):
    """Four, of two clips each."""
    return write_shards(clips(8), tmp_path, clips_per_shard=2)


@pytest.mark.parametrize("fields", [{}, {"T_wc": None, "timestamps": None}])
def test_clips_come_back_as_they_were(tmp_path, fields):
    given = clips(3, **fields)
    shards = write_shards(given, tmp_path / "new", clips_per_shard=2)
    assert [path.name for path in shards] == ["clips-000000.tar", "clips-000001.tar"]
    found = list(read_shards(shards))
    assert len(found) == 3
    for a, b in zip(found, given, strict=True):
        for name in ("color", "depth", "K", "T_wc", "timestamps", "T_prior"):
            expected = getattr(b, name)
            assert getattr(a, name) is None if expected is None else torch.equal(getattr(a, name), expected)


def test_workers_share_the_shards(shards):
    batches = list(DataLoader(read_shards(shards), batch_size=2, num_workers=2))
    assert [batch.shape for batch in batches] == [(2, 3)] * 4
    assert sorted(numbers(clip for batch in batches for clip in batch)) == list(range(8))


def test_processes_share_the_shards(shards, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        found.append(numbers(read_shards(shards)))
    assert found == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_draws_without_an_end_and_by_the_seed(shards, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")

    def draw(seed, rank=0):
        monkeypatch.setenv("RANK", str(rank))
        return numbers(itertools.islice(read_shards(shards, seed=seed), 100))

    assert set(draw(0)) == set(range(8)) and draw(0) == draw(0) != draw(1) and draw(0, rank=1) != draw(0)


def entry(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(data)
    tar.addfile(about, io.BytesIO(data))


def array(value, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, value, **options)
    return file.getvalue()


BAD = {
    "cut": array(np.zeros((3, 4, 6, 1), np.float32))[:200],
    "objects": array(np.array([print, {}], dtype=object), allow_pickle=True),
    "no array": b"hello",
    "huge": array(np.zeros((3, 4, 6, 1), np.float32)).replace(b"(3, 4, 6, 1)", b"(99999999,9)"),
    "another shape": array(np.zeros((2, 4, 6, 1), np.float32)),
    "empty": b"",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_damaged_clip_is_left_out(tmp_path, bad):
    (good,) = write_shards(clips(1), tmp_path)
    with tarfile.open(good) as tar:
        files = {each.name.partition(".")[2]: tar.extractfile(each).read() for each in tar}
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for key, change in (("a", {}), ("b", {"depth.npy": BAD[bad]}), ("c", {"other.txt": b"what others put there"})):
            for name, data in (files | change).items():
                entry(tar, f"{key}.{name}", data)
    with pytest.warns(RecordingWarning, match="x.tar: clip b is left out"):
        found = list(read_shards([tmp_path / "x.tar"]))
    assert len(found) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:6000], lambda data: b"", lambda data: b"x" * 2000])
def test_a_damaged_shard_costs_its_rest(shards, damage):
    shards[1].write_bytes(damage(shards[1].read_bytes()))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert {0, 1, 4, 5, 6, 7} <= set(numbers(read_shards(shards)))
    assert all(str(shards[1]) in str(each.message) for each in told)


def test_what_is_compressed_is_not_unpacked(tmp_path):
    """A bomb of zeros would fill the memory."""
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        entry(tar, "a.depth.npy", bytes(10_000_000))
    with pytest.warns(RecordingWarning, match="x.tar: the rest of the shard is left out"):
        assert list(read_shards([tmp_path / "x.tar"])) == []


def test_no_shards_and_none_that_can_be_read(tmp_path):
    with pytest.raises(ValueError, match="expected a tar file at least"):
        read_shards([])
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        write_shards([], tmp_path, clips_per_shard=0)
    assert write_shards([], tmp_path) == []
    with pytest.warns(RecordingWarning), pytest.raises(ValueError, match="none of 100 in a row"):
        next(iter(read_shards([tmp_path / "missing.tar"], seed=0)))
