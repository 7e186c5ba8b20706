"""Arrays in files: numbers alone, and no more of them than the file has."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from gradslam_ng.io import numpy_files
from gradslam_ng.io.numpy_files import read_npy, read_npz


def test_arrays_come_back(tmp_path):
    values = np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", values=values, one=1)
    assert (read_npy(tmp_path / "a.npy") == values).all()
    found = read_npz(tmp_path / "a.npz")
    assert (found["values"] == values).all() and int(found["one"]) == 1


@pytest.mark.parametrize("content", [b"", b"no array at all", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_other_bytes_are_one_error_without_advice(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    (tmp_path / "a.npz").write_bytes(content)
    for read, ending in ((read_npy, "npy"), (read_npz, "npz")):
        with pytest.raises(ValueError, match=rf"expected (an array|arrays) of .*\(\.{ending}\)") as caught:
            read(tmp_path / f"a.{ending}")
        assert "pickle" not in str(caught.value) and "trust" not in str(caught.value)


def test_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    for read, ending in ((read_npy, "npy"), (read_npz, "npz")):
        with pytest.raises(ValueError, match=rf"expected .* of numbers \(\.{ending}\): got objects$"):
            read(tmp_path / f"a.{ending}")


def test_a_header_that_tells_of_more_than_there_is(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    (tmp_path / "a.npy").write_bytes(head.getvalue() + bytes(64))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("a.npy", head.getvalue() + bytes(64))
    for read, ending in ((read_npy, "npy"), (read_npz, "npz")):
        with pytest.raises(ValueError, match=rf"\(\.{ending}\)"):
            read(tmp_path / f"a.{ending}")


def test_what_unpacks_to_far_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_files, "ALWAYS", 1000)
    np.savez_compressed(tmp_path / "a.npz", zeros=np.zeros(100_000))
    with pytest.raises(ValueError, match=r"8\d* bytes unpacked, of a file of"):
        read_npz(tmp_path / "a.npz")
