from __future__ import annotations

import io
import tarfile

import pytest

from gradslam_ng.cli import main
from gradslam_ng.commands.download import download
from gradslam_ng.datasets import CATALOG


def test_lists_the_catalog(capsys):
    download(None)
    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in CATALOG) and "CC BY" in printed  # names are whole: they are typed


def test_downloads_and_tells_where_and_the_license(tmp_path, capsys):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as file:
        file.addfile(tarfile.TarInfo("rgb.txt"), io.BytesIO())
    download("tum/fr1_desk", out=tmp_path / "data", url=(tmp_path / "a.tgz").as_uri())
    assert (tmp_path / "data" / "tum" / "fr1_desk" / "rgb.txt").is_file()
    printed = capsys.readouterr().out
    assert str(tmp_path / "data" / "tum" / "fr1_desk") in printed and "CC BY 4.0" in printed


@pytest.mark.parametrize(("address", "reason"), [
    ("http://127.0.0.1:9/a.tgz", "Connection refused"),
    ("http://nowhere.invalid/a.tgz", ""),  # whatever the resolver says
    ("file:///nowhere/a.tgz", "No such file or directory"),
])  # fmt: skip
def test_offline_it_says_what_cannot_be_reached_in_one_line(tmp_path, capsys, address, reason):
    assert main(["download", "tum/fr1_desk", "--out", str(tmp_path), "--url", address]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {address}: cannot be reached: {reason}") and error.count("\n") == 1
    assert "is this machine online?" in error and "urlopen" not in error and "Errno" not in error
