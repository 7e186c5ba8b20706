"""The process that compiles functions beside a run, and what a run knows of it.

It takes requests on its standard input, and ends with whoever started it, its C++ compiler included.
"""

from __future__ import annotations

import base64
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradslam_ng.compute.kernel_compiler import Request

FAILED = ".failed"  # ends the name of a file that says why there is no version


class CompilerProcess:
    """A process that compiles one request at a time into a folder, so much nicer to others than this one."""

    def __init__(self, folder: Path, *, niceness: int) -> None:
        # this file, not the package: that takes seconds to import, in which the process would not heed its end
        command = [sys.executable, "-P", __file__, str(folder), str(niceness)]
        environ = os.environ | {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        environ["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        # in a session of its own, so that Ctrl-C is the run's alone to handle
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
        )
        self.finished: queue.SimpleQueue[str] = queue.SimpleQueue()  # digests; an empty one: it has ended
        threading.Thread(target=self._listen, daemon=True).start()

    def submit(self, request: Request) -> None:
        """Ask for a version; its digest comes in `finished`.

        Raises:
            OSError: the process has ended.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(request.digest.encode() + b" " + base64.b64encode(pickle.dumps(request)) + b"\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """End the process, and the C++ compiler that it runs."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.finished.put(line.decode().strip())
        self.finished.put("")


def main(folder: Path, niceness: int) -> None:
    """Work off the requests on standard input, until it is closed."""
    os.nice(niceness)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no answer
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(
        target=_read_requests, args=(requests,), daemon=True
    ).start()  # before what takes seconds to import
    logging.getLogger("torch").setLevel(logging.CRITICAL)
    from gradslam_ng.io.locks import lock

    while True:
        digest, request = requests.get().decode().split()
        with lock(folder, wait=True):  # another run may have compiled the same meanwhile
            if not (folder / digest).exists():
                _compile(request, folder / digest)
        print(digest, file=answers, flush=True)


def _read_requests(requests: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os.killpg(0, signal.SIGKILL)  # the run is over


def _compile(request: str, folder: Path) -> None:
    from gradslam_ng.compute.kernel_compiler import compile_request

    try:
        compile_request(pickle.loads(base64.b64decode(request)), folder)
    except Exception as error:  # of many kinds, none of them documented
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        folder.with_name(f"{folder.name}{FAILED}").write_text(f"{reason}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
