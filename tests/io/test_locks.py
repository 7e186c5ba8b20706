"""A file or folder that one process at a time works on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gradslam_ng.io.locks import lock

pytest.importorskip("fcntl", reason="this system has no such locks")
HOLD = """
import sys, time
from gradslam_ng.io.locks import lock
with lock(sys.argv[1], wait=True):
    print(flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_another_is_kept_out_until_the_first_ends_even_by_a_kill(tmp_path, kind):
    path = tmp_path if kind == "folder" else tmp_path / "file"
    (tmp_path / "file").touch()
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        with pytest.raises(BlockingIOError), lock(path, wait=False):
            pass
    finally:
        process.kill()
        process.communicate()
    with lock(path, wait=True):
        pass
    with lock(path, wait=False):  # nor is it held by whoever left the block
        pass


def test_neither_file_nor_folder(tmp_path):
    with pytest.raises(FileNotFoundError), lock(tmp_path / "missing", wait=False):
        pass
