from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from urllib.parse import urlparse

import pytest

from gradslam_ng import datasets
from gradslam_ng.datasets import CATALOG, catalog, download
from gradslam_ng.datasets.archive import fetch


@pytest.fixture
def archive(recordings, tmp_path):
    """A TUM sequence in an archive, as its data set packs them."""
    folder = recordings.tum(tmp_path / "made" / "rgbd_dataset_freiburg1_desk")
    path = tmp_path / "desk.tgz"
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, arcname=folder.name)
    return path


@pytest.fixture
def server(tmp_path):
    """Serves a folder over HTTP, parts of files too; `requests` holds the ranges that were asked for."""
    root = tmp_path / "served"
    root.mkdir()
    requests: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        ranges = True

        def do_GET(self):
            data = (root / self.path.lstrip("/")).read_bytes()
            asked = self.headers.get("Range")
            requests.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and Handler.ranges else 0
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : start + Handler.limit] if Handler.limit else data[start:])

        def log_message(self, *args):
            pass

    Handler.limit = None
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=service.serve_forever)
    thread.start()
    yield functools.partial("http://127.0.0.1:{}/{}".format, service.server_port), root, requests, Handler
    service.shutdown()
    thread.join()
    service.server_close()


def test_catalog_entries_are_complete():
    assert {"tum/fr1_desk", "tum/fr3_long_office_household", "icl/living_room_kt2"} <= CATALOG.keys()
    for name, entry in CATALOG.items():
        assert entry.name == name and entry.license and entry.camera
        assert urlparse(entry.url).scheme == "https" and entry.url.endswith((".tgz", ".tar.gz", ".zip"))
    assert len({entry.url for entry in CATALOG.values()}) == len(CATALOG)


def test_downloads_and_unpacks(archive, tmp_path):
    seen = []
    url = archive.as_uri()
    folder = download("tum/fr1_desk", tmp_path / "data", url, lambda done, total: seen.append((done, total)))
    assert folder == tmp_path / "data" / "tum" / "fr1_desk" / "rgbd_dataset_freiburg1_desk"
    assert len(datasets.load(folder)) == 8
    assert seen[-1] == (archive.stat().st_size, archive.stat().st_size)
    left = {path.name for path in (tmp_path / "data" / "tum").iterdir()}
    assert left == {"fr1_desk", "fr1_desk.sha256"}
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in (tmp_path / "data/tum/fr1_desk.sha256").read_text()


def test_what_is_there_is_not_fetched_again(archive, tmp_path):
    folder = download("tum/fr1_desk", tmp_path, archive.as_uri())
    archive.unlink()
    assert download("tum/fr1_desk", tmp_path, archive.as_uri()) == folder


def test_second_download_must_be_the_same(archive, tmp_path):
    folder = download("tum/fr1_desk", tmp_path, archive.as_uri())
    folder.parent.rename(tmp_path / "away")
    with tarfile.open(archive, "w:gz") as file:
        file.addfile(tarfile.TarInfo("another"), io.BytesIO())
    with pytest.raises(ValueError, match=r"SHA-256 is .*, the first download had"):
        download("tum/fr1_desk", tmp_path, archive.as_uri())
    assert not folder.parent.exists() and not list((tmp_path / "tum").glob("*.part"))


def test_known_checksum_is_verified(archive, tmp_path, monkeypatch):
    entry = catalog.Entry("tum/known", archive.as_uri(), "none", "none", sha256="0" * 64)
    monkeypatch.setitem(CATALOG, "tum/known", entry)
    with pytest.raises(ValueError, match=r"SHA-256 is .*, the catalog has 000"):
        download("tum/known", tmp_path)
    assert not (tmp_path / "tum" / "known").exists()


def test_unknown_name_suggests_close_ones(tmp_path):
    with pytest.raises(ValueError, match=r"no sequence 'tum/fr1_dsek'.*tum/fr1_desk"):
        download("tum/fr1_dsek", tmp_path)


def test_hostile_archive_leaves_nothing(tmp_path):
    with tarfile.open(tmp_path / "evil.tgz", "w:gz") as file:
        for name in ("good", "../../../evil"):
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
    before = {path for path in tmp_path.rglob("*")}
    with pytest.raises(ValueError, match="would unpack outside its folder"):
        download("tum/fr1_desk", tmp_path / "data", (tmp_path / "evil.tgz").as_uri())
    left = {path for path in tmp_path.rglob("*")} - before
    assert left == {tmp_path / "data", tmp_path / "data" / "tum"}


def test_runs_packed_once_more_are_unpacked(recordings, tmp_path):
    run = recordings.sevenscenes(tmp_path / "made" / "seq-01")
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        for path in run.iterdir():
            file.write(path, f"seq-01/{path.name}")
    with zipfile.ZipFile(tmp_path / "chess.zip", "w") as file:
        file.writestr("chess/seq-01.zip", inner.getvalue())
    folder = download("sevenscenes/chess", tmp_path, (tmp_path / "chess.zip").as_uri())
    assert [path.name for path in folder.iterdir()] == ["seq-01"]
    assert len(datasets.load(folder / "seq-01")) == 8


def test_interrupted_download_goes_on(server, archive, tmp_path):
    url, root, requests, handler = server
    (root / "desk.tgz").write_bytes(archive.read_bytes())
    handler.limit = 1000
    with pytest.raises(ConnectionError, match=r"broke off at 1000 of .* run again to go on"):
        download("tum/fr1_desk", tmp_path, url("desk.tgz"))
    handler.limit = None
    assert len(datasets.load(download("tum/fr1_desk", tmp_path, url("desk.tgz")))) == 8
    assert requests == [None, "bytes=1000-"]


def test_server_without_ranges_starts_again(server, tmp_path):
    url, root, requests, handler = server
    (root / "file").write_bytes(bytes(range(200)))
    (tmp_path / "part").write_bytes(b"old")
    handler.ranges = False
    fetch(url("file"), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == bytes(range(200)) and requests == ["bytes=3-"]


def test_part_beyond_the_end_starts_again(server, tmp_path):
    url, root, requests, _ = server
    (root / "file").write_bytes(b"new")
    (tmp_path / "part").write_bytes(b"much older")
    fetch(url("file"), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == b"new" and requests == ["bytes=10-", None]


def test_missing_address(tmp_path):
    with pytest.raises(OSError):
        download("tum/fr1_desk", tmp_path, (tmp_path / "nowhere.tgz").as_uri())
    assert not (tmp_path / "tum" / "fr1_desk").exists()
