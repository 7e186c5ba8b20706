from __future__ import annotations

import os
import shutil
import tarfile
import zipfile

import pytest

from gradslam_ng import datasets
from gradslam_ng.io import numpy_files


@pytest.mark.parametrize("form, ending", [("gztar", ".tar.gz"), ("zip", ".zip"), ("tar", ".tar")])
def test_an_archive_as_downloaded_is_read_and_unpacked_once(recordings, tmp_path, form, ending):
    recordings.tum(tmp_path / "made" / "rgbd_dataset_freiburg3_walk")
    shutil.make_archive(str(tmp_path / "walk"), form, tmp_path / "made")
    path = tmp_path / f"walk{ending}"
    sequence = datasets.load(path)
    assert sequence.layout == "tum" and sequence.name == "rgbd_dataset_freiburg3_walk" and len(sequence) == 8
    assert {each.name for each in tmp_path.iterdir()} == {"made", "walk", path.name}
    path.write_bytes(path.read_bytes()[:100] + bytes(100))  # what is unpacked is not unpacked again
    os.truncate(path, 0)
    with pytest.raises(ValueError, match="got an empty file"):
        datasets.load(path)
    assert len(datasets.load(tmp_path / "walk" / "rgbd_dataset_freiburg3_walk")) == 8


def test_the_cache_is_used_where_the_folder_cannot_be_written(recordings, tmp_path, monkeypatch):
    recordings.tum(tmp_path / "made")
    shutil.make_archive(str(tmp_path / "walk"), "zip", tmp_path / "made")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for _ in range(2):
        assert len(datasets.load(tmp_path / "walk.zip")) == 8
    assert not (tmp_path / "walk").exists() and len(list((tmp_path / "cache" / "gradslam_ng").iterdir())) == 1


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt"])
def test_archives_that_lead_outside_are_refused_and_leave_nothing(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(name, "evil")
    with pytest.raises(ValueError, match="would unpack outside its folder; refused"):
        datasets.load(tmp_path / "a.zip")
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"]


def test_archives_that_grow_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_files, "ALWAYS", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(1_000_000))
    (tmp_path / "zeros").write_bytes(bytes(1_000_000))
    with tarfile.open(tmp_path / "b.tgz", "w:gz") as file:
        file.add(tmp_path / "zeros", "zeros")
    for name in ("a.zip", "b.tgz"):
        with pytest.raises(ValueError, match=r"unpacks to more than .* bytes; refused"):
            datasets.load(tmp_path / name)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.zip", "b.tgz", "zeros"]


def test_broken_archives_are_one_error(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(ValueError, match=r"a\.zip: expected a zip or tar archive, got other bytes"):
        datasets.load(tmp_path / "a.zip")
    with tarfile.open(tmp_path / "b.tgz", "w:gz") as file:
        file.add(__file__, "some.py")
    data = (tmp_path / "b.tgz").read_bytes()
    (tmp_path / "b.tgz").write_bytes(data[:-40])
    with pytest.raises(ValueError, match="not a readable archive"):
        datasets.load(tmp_path / "b.tgz")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.zip", "b.tgz"]
