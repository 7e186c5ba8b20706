"""The folder of a run: the names in it, no mixing with another run's, and its log."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gradslam_ng.commands.errors import UsageError
from gradslam_ng.io.locks import lock
from gradslam_ng.io.similar_names import meant_path
from gradslam_ng.structures import Trajectory
from gradslam_ng.viz.scene_files import METRICS, TRAJECTORY, read_metrics

LOG, STATE = "run.log", "state.safetensors"
SUBMAPS = "submaps"  # folder of parts of the map that are not in memory, and of images of keyframes
MAPS = ("volume.npz", "map.ply")  # either kind
RESULTS = re.compile(  # what runs write, and nothing else
    r"(trajectory|covariance)(_\d+)?\.txt|map(_\d+)?\.ply|(trajectory|map)\.png|mesh\.(ply|glb)|volume\.npz|frames\.csv"
    r"|metrics\.json|report\.html|covariance\.txt"
)
SHOWN = 3  # names in a message

log = logging.getLogger("gradslam_ng")


def check_writable(out: Path) -> None:
    """Make the folder, and find out before the run whether its results can be written there.

    Raises:
        OSError: they cannot.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"out: cannot write to {out}: expected a folder for the results, got a file")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OSError(f"out: cannot write to {out}: {error.strerror}") from None


@contextlib.contextmanager
def claim_folder(out: Path) -> Iterator[None]:
    """Make the folder of a run, and keep other runs from it as long as the block lasts.

    Raises:
        OSError: nothing can be written there.
        UsageError: another run is writing there.
    """
    check_writable(out)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock(out, wait=False))
        except BlockingIOError:
            raise UsageError(f"out: another run is writing to {out}; take another folder, or wait for it") from None
        yield


def clear_folder(out: Path, overwrite: bool) -> None:
    """Refuse a folder with another run's results, or remove what of them this one must not go on from.

    Raises:
        UsageError: there are results, and these are not to be overwritten.
    """
    found = [path.name for path in results_in(out)] + [STATE] * (out / STATE).is_file()
    if found and not overwrite:
        told = ", ".join(found[:SHOWN]) + ", ..." * (len(found) > SHOWN)
        raise UsageError(f"out: {out} holds the results of another run ({told}); take another folder, or --overwrite")
    (out / STATE).unlink(missing_ok=True)
    for path in (out / SUBMAPS).glob("*.safetensors"):
        path.unlink()


def results_in(out: Path) -> list[Path]:
    """The results of runs in a folder."""
    return sorted(path for path in out.iterdir() if RESULTS.fullmatch(path.name) and path.is_file())


def metrics_beside(file: Path) -> dict[str, Any]:
    """What the run that wrote a file says of itself; nothing where there is no run."""
    return read_metrics(file.parent) if file.with_name(METRICS).is_file() else {}


def load_estimate(file: Path) -> Trajectory:
    """The poses in a file, which may be of a run: none where no frame of that was tracked, though earlier versions then
    wrote some.

    Raises:
        FileNotFoundError, ValueError: see `Trajectory.load`.
    """
    trajectory = Trajectory.load(file)
    tracked = metrics_beside(file).get("frames", {}).get("tracked") if file.name == TRAJECTORY else None
    return trajectory[:0] if tracked == 0 else trajectory


def map_file(path: Path) -> Path:
    """The file of a map, or that in the folder of a run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: another kind of file.
    """
    if path.is_dir():
        for name in MAPS:
            if (path / name).is_file():
                return path / name
        raise FileNotFoundError(f"{path}: expected {' or '.join(MAPS)} in it, as `gradslam-ng run` leaves them")
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}{meant_path(path)}")
    if path.suffix.lower() not in (".npz", ".ply"):
        raise ValueError(f"{path}: expected the folder of a run, or {' or '.join(MAPS)} in it")
    return path


def remove_results(out: Path) -> None:
    """Those of an earlier run, which would be taken for this one's."""
    for path in results_in(out):
        try:
            path.unlink()
        except OSError as error:
            log.warning("%s of an earlier run was not removed: %s", path.name, error.strerror)


def begin_log(out: Path, lines: Iterable[str]) -> list[logging.Handler]:
    """Begin `run.log` with some lines. Returns what adds all messages to it; nothing, where it cannot be written."""
    try:
        (out / LOG).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="replace")
        handler = logging.FileHandler(out / LOG, encoding="utf-8", errors="replace", delay=True)
    except OSError as error:
        log.warning("%s was not written: %s", LOG, error.strerror)
        return []
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return [handler]


def end_log(handlers: Iterable[logging.Handler], sentence: str) -> None:
    """Write how a run went, which the console is told as a table, to its log alone."""
    for handler in handlers:
        handler.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, sentence, (), None))
