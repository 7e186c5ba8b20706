from __future__ import annotations

import io
import stat
import tarfile
import zipfile

import pytest

from gradslam_ng.datasets.archive import unpack


def tar_with(path, name, kind=tarfile.REGTYPE, link="", mode="w:gz"):
    with tarfile.open(path, mode) as file:
        good = tarfile.TarInfo("good.txt")
        good.size = 4
        file.addfile(good, io.BytesIO(b"good"))
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        content = b"evil" if kind == tarfile.REGTYPE else b""
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    return path


def zip_with(path, name, mode=stat.S_IFREG | 0o644):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("good.txt", "good")
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        file.writestr(member, "../../evil")
    return path


def everything(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("suffix, mode", [("tar", "w"), ("tgz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")])
def test_unpacks_tar(tmp_path, suffix, mode):
    unpack(tar_with(tmp_path / f"a.{suffix}", "sequence/rgb/0.png", mode=mode), tmp_path / "out")
    assert everything(tmp_path / "out") == {"good.txt", "sequence/rgb/0.png"}


def test_unpacks_zip(tmp_path):
    unpack(zip_with(tmp_path / "a.zip", "sequence/rgb/0.png"), tmp_path / "out")
    assert everything(tmp_path / "out") == {"good.txt", "sequence/rgb/0.png"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/{tmp}/evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("make", [tar_with, zip_with])
def test_archive_that_would_unpack_outside_is_refused(tmp_path, make, name):
    archive = make(tmp_path / "a.archive", name.format(tmp=tmp_path))
    with pytest.raises(ValueError, match="would unpack outside its folder; refused"):
        unpack(archive, tmp_path / "deep" / "out")
    assert everything(tmp_path) <= {"a.archive", "deep/out/good.txt"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar_are_refused(tmp_path, kind):
    archive = tar_with(tmp_path / "a.tgz", "link", kind, link="/etc/passwd")
    with pytest.raises(ValueError, match="'link' is a link or a device; refused"):
        unpack(archive, tmp_path / "out")
    assert everything(tmp_path) <= {"a.tgz", "out/good.txt"}


def test_link_in_zip_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a link or a device; refused"):
        unpack(zip_with(tmp_path / "a.zip", "link", stat.S_IFLNK | 0o777), tmp_path / "out")


def test_broken_and_other_files(tmp_path):
    other = tmp_path / "page.html"
    other.write_text("<html>404</html>")
    with pytest.raises(ValueError, match="not a zip or tar archive"):
        unpack(other, tmp_path / "out")
    whole = tar_with(tmp_path / "a.tgz", "x" * 90)
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(whole.read_bytes()[:-60])
    with pytest.raises(ValueError, match="not a"):
        unpack(cut, tmp_path / "out")
