from __future__ import annotations

import io
import tarfile

from gradslam_ng.commands.download import download


def test_lists_the_catalog(capsys):
    download(None)
    printed = capsys.readouterr().out
    assert "tum/fr1_desk" in printed and "CC BY" in printed


def test_downloads_and_tells_where_and_the_license(tmp_path, capsys):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as file:
        file.addfile(tarfile.TarInfo("rgb.txt"), io.BytesIO())
    download("tum/fr1_desk", out=tmp_path / "data", url=(tmp_path / "a.tgz").as_uri())
    assert (tmp_path / "data" / "tum" / "fr1_desk" / "rgb.txt").is_file()
    printed = capsys.readouterr().out
    assert str(tmp_path / "data" / "tum" / "fr1_desk") in printed and "CC BY 4.0" in printed
