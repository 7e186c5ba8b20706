"""Layouts of recordings: which loader reads a file or a folder, or renders a scene."""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.datasets.azure_kinect import AzureKinect
from gradslam_ng.datasets.bags.bag import Bag
from gradslam_ng.datasets.findings import Finding, RecordingWarning
from gradslam_ng.datasets.folder import Folder
from gradslam_ng.datasets.icl import ICL
from gradslam_ng.datasets.image_files import visible_paths
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.klg import Klg
from gradslam_ng.datasets.polycam import Polycam
from gradslam_ng.datasets.record3d import Record3D
from gradslam_ng.datasets.replica import Replica
from gradslam_ng.datasets.scannet import ScanNet
from gradslam_ng.datasets.sens import Sens
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.datasets.sevenscenes import SevenScenes
from gradslam_ng.datasets.stray import StrayScanner
from gradslam_ng.datasets.transforms import Transforms
from gradslam_ng.datasets.tum import TUM
from gradslam_ng.datasets.unpacked import is_archive, unpacked
from gradslam_ng.io.similar_names import meant_path

# The first that recognizes a path reads it.
LOADERS: tuple[type[RGBDSequence], ...] = (
    TUM,
    ICL,
    ScanNet,
    SevenScenes,
    Replica,
    Transforms,
    Polycam,
    StrayScanner,
    Folder,
)
LOADERS += (Bag, Sens, Klg, Record3D, AzureKinect)
DEEPEST = 3  # folders down, in which a sequence is looked for, to name it
LOOKED_INTO = 2000  # of these at most
SHOWN = 5  # names in a message


@mode_free
def load(
    source: str | os.PathLike, *, intrinsics: Intrinsics | None = None, max_depth: float | None = None, **options
) -> RGBDSequence:
    """The sequence in a file or folder whose layout is recognized, or a scene rendered on the fly, `synthetic:NAME`.

    What is questionable about its files is warned of, and is in its `findings`; `validate` looks at its images too.

    Args:
        source: a file or a folder, or "synthetic:NAME".
        intrinsics: K as (3, 3), or fx, fy, cx, cy as numbers or as a text "fx,fy,cx,cy", pixels, or a camera file;
            overrides the recording's own.
        max_depth: depth beyond this, meters, is left out; default: the range of the layout's sensor.
        **options: of the loader, such as `depth_scale`.

    Raises:
        FileNotFoundError: no such path, or it has none of the layouts; lists what was looked for.
        ImportError: what reads such a file is not installed; says how to.
        ValueError: the recording is not as its layout demands, the loader has no such option, or max_depth is not
            positive.
    """
    if max_depth is not None and (isinstance(max_depth, str) or not max_depth > 0):
        raise ValueError(f"max_depth: expected a positive number of meters, got {max_depth!r}")
    kind, _, name = str(source).partition(":")
    if kind == "synthetic":
        from gradslam_ng.datasets.synthetic import Synthetic  # late: it brings scipy's interpolation along

        loader: type[RGBDSequence] = Synthetic
        source = name
    else:
        source, loader = recognize(Path(source))
    if intrinsics is not None:
        options["intrinsics"] = intrinsics
    known = list(inspect.signature(loader).parameters)[1:]
    for option in options:
        if option not in known:
            raise ValueError(f"{loader.__name__} takes no option {option!r}; it takes {', '.join(known)}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sequence = loader(source, **options)
    if max_depth is not None:
        sequence.max_depth = max_depth
    sequence.findings += tuple(
        Finding("warning", "files.lines", str(each.message))
        for each in caught
        if issubclass(each.category, UserWarning) and not issubclass(each.category, RecordingWarning)
    )
    for each in caught:
        warnings.warn(each.message, each.category, stacklevel=2)
    return sequence


def recognize(path: Path) -> tuple[Path, type[RGBDSequence]]:
    """The loader for a file or a folder, and where it is: an archive is unpacked first.

    Raises:
        FileNotFoundError: there is no such path, or it is of no known layout; lists what was looked for.
        ValueError, OSError: an empty file, or an archive that cannot be unpacked.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder{meant_path(path)}")
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path}: expected a recording, got an empty file")
    for loader in LOADERS:
        if loader.recognizes(path):
            return path, loader
    if is_archive(path):
        return recognize(unpacked(path))
    kind = "a file of no known layout" if path.is_file() else _describe_folder(path)
    archives = f"\n  {'archive':<12}one of these in .zip, .tgz or .tar, as downloaded"
    looked_for = "\n".join(f"  {loader.layout:<12}{loader.expected_files}" for loader in LOADERS)
    hint = _hint(path) if path.is_dir() else ""
    text = f"{path}: not a sequence: {kind}. Layouts looked for:"
    raise FileNotFoundError(f"{text}\n{looked_for}{archives}{hint}")


def _describe_folder(folder: Path) -> str:
    """What is in a folder that is no sequence."""
    names = [path.name for path in visible_paths(folder)]
    if not names:
        return "an empty folder"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"a folder of no known layout; in it: {', '.join(names[:SHOWN])}{more}"


def _hint(folder: Path) -> str:
    """Where the user may have meant a sequence in a folder below, or one that this is a part of."""
    if (folder / "metrics.json").is_file() and (folder / "trajectory.txt").is_file():
        return "\nIt is what a run left, not a recording"
    if any(loader.recognizes(folder.resolve().parent) for loader in LOADERS):
        return f"\nIt is a part of the sequence {folder.resolve().parent}"
    below = [str(path.relative_to(folder)) for path in _paths_below(folder) if any(k.recognizes(path) for k in LOADERS)]
    return f"\nA sequence lies in: {', '.join(below[:10])}" if below else ""


def _paths_below(folder: Path) -> list[Path]:
    """Files and folders below a folder, the upper ones first; not those that cannot be read."""
    found: list[Path] = []
    level = [folder]
    for _ in range(DEEPEST):
        level = [path for above in level for path in _entries(above) if path.name[0] != "."]
        found += level
        level = [path for path in level if path.is_dir()]
        if len(found) > LOOKED_INTO:
            break
    return found[:LOOKED_INTO]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
