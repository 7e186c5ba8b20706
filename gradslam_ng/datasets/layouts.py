"""Layouts of recordings: which loader reads a folder or renders a scene."""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path

from gradslam_ng.compute.caller_modes import on_cpu
from gradslam_ng.datasets.findings import Finding, RecordingWarning
from gradslam_ng.datasets.folder import Folder
from gradslam_ng.datasets.icl import ICL
from gradslam_ng.datasets.intrinsics import Intrinsics
from gradslam_ng.datasets.replica import Replica
from gradslam_ng.datasets.scannet import ScanNet
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.datasets.sevenscenes import SevenScenes
from gradslam_ng.datasets.tum import TUM

LOADERS = (TUM, ICL, ScanNet, SevenScenes, Replica, Folder)  # the first that recognizes a folder reads it


@on_cpu
def load(
    source: str | os.PathLike, *, intrinsics: Intrinsics | None = None, max_depth: float | None = None, **options
) -> RGBDSequence:
    """The sequence in a folder whose layout is recognized, or a scene rendered on the fly, `synthetic:NAME`.

    What is questionable about its files is warned of, and is in its `findings`; `validate` looks at its images too.

    Args:
        source: a folder, or "synthetic:NAME".
        intrinsics: K as (3, 3), or fx, fy, cx, cy as numbers or as a text "fx,fy,cx,cy", pixels, or a camera file;
            overrides the recording's own.
        max_depth: depth beyond this, meters, is left out; default: the range of the layout's sensor.
        **options: of the loader, such as `depth_scale`.

    Raises:
        FileNotFoundError: no such folder, or it has none of the layouts; lists what was looked for.
        ValueError: the recording is not as its layout demands, the loader has no such option, or max_depth is not
            positive.
    """
    if max_depth is not None and (isinstance(max_depth, str) or not max_depth > 0):
        raise ValueError(f"max_depth: expected a positive number of meters, got {max_depth!r}")
    kind, _, name = str(source).partition(":")
    if kind == "synthetic":
        from gradslam_ng.datasets.synthetic import Synthetic  # late: it brings scipy's interpolation along

        loader, source = Synthetic, name
    else:
        loader = recognize(Path(source))
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


def recognize(folder: Path) -> type[RGBDSequence]:
    """The loader for a folder; FileNotFoundError, listing what was looked for, where there is none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    for loader in LOADERS:
        if loader.recognizes(folder):
            return loader
    looked_for = "\n".join(f"  {loader.layout:<12}{loader.expected_files}" for loader in LOADERS)
    raise FileNotFoundError(f"{folder}: not a sequence. Layouts looked for:\n{looked_for}{_hint(folder)}")


def _hint(folder: Path) -> str:
    """Where the user may have meant a sequence one folder below."""
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    below = [path.name for path in folders if any(loader.recognizes(path) for loader in LOADERS)]
    return f"\nA sequence lies in: {', '.join(below[:10])}" if below else ""
