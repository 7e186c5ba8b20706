"""Image files of a folder: which endings are read, which files are passed over, and which belong together."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from gradslam_ng.datasets.findings import Finding

COLOR_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
DEPTH_ENDINGS = (".png", ".tif", ".tiff", ".pgm", ".npy")
Numbers = tuple[int, ...]  # in the name of a file


def find_images(folder: Path, endings: tuple[str, ...], pattern: str = "*") -> list[Path]:
    """Files whose names have such an ending, in any case, and match a pattern before it, as `frame-*.color`.

    Hidden files are passed over, such as those that macOS leaves beside others (`._0001.png`); links count as files.

    Raises:
        FileNotFoundError: there is none; the message tells what was looked for, and what is there.
    """
    files = [path for path in visible_files(folder) if fnmatchcase(path.stem.lower(), pattern)]
    found = [path for path in files if path.suffix.lower() in endings]
    if not found:
        others = sorted({path.suffix.lower() for path in files} - {""})
        there = f"; found names that end in {', '.join(others[:5])}" if others else ""
        like = "" if pattern == "*" else f" {pattern}"
        if endings == DEPTH_ENDINGS and set(others) & {".jpg", ".jpeg"}:
            there += ": JPEG has 8 bit and loses what it finds small, so that it cannot hold depth; record 16 bit PNG"
        raise FileNotFoundError(f"{folder}: no image{like} that ends in {', '.join(endings)}{there}")
    return found


def has_images(folder: Path, endings: tuple[str, ...], pattern: str = "*") -> bool:
    """Whether `find_images` finds any."""
    files = visible_files(folder)
    return any(path.suffix.lower() in endings and fnmatchcase(path.stem.lower(), pattern) for path in files)


def visible_files(folder: Path, ending: str = "") -> list[Path]:
    """Files and links of a folder in order of their names, without hidden ones; none where there is no such folder."""
    return [path for path in visible_paths(folder) if path.name.lower().endswith(ending) and not path.is_dir()]


def visible_paths(folder: Path) -> list[Path]:
    """What is in a folder, folders included, in order of their names, without what is hidden."""
    return sorted(path for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []


def match_places(color: dict[Numbers, Path], depth: dict[Numbers, Path]) -> tuple[dict[Numbers, Path], ...]:
    """Images of two kinds by that of several numbers in their names which they share most: `cam0_0012` and `cam1_0012`.

    As they are where all numbers together are shared as often.
    """
    keys = [*color, *depth]
    best: tuple[dict[Numbers, Path], ...]
    best, shared = (color, depth), len(color.keys() & depth.keys())
    for place in range(min(map(len, keys)) if max(map(len, keys)) > 1 else 0):
        kinds: tuple[dict[Numbers, Path], ...] = tuple(
            {(key[place],): path for key, path in images.items()} for images in (color, depth)
        )
        is_unique = all(len(kind) == len(images) for kind, images in zip(kinds, (color, depth), strict=True))
        if is_unique and len(kinds[0].keys() & kinds[1].keys()) > shared:
            best = tuple(dict(sorted(kind.items())) for kind in kinds)
            shared = len(kinds[0].keys() & kinds[1].keys())
    return best


def match_numbers(
    frames: Sequence[Numbers], files: dict[Numbers, Path], what: str
) -> tuple[dict[Numbers, Path], list[Finding]]:
    """The files of each frame, by its number, or in order where one kind is numbered from 0 and the other from 1.

    Both are in order. `what` the files are, for the user.
    """
    if len(files) != len(frames) or files.keys() == set(frames):
        return files, []
    shifts = {its[-1] - mine[-1] for mine, its in zip(frames, files, strict=True)}
    if not shifts <= {0} and not shifts <= {1} and not shifts <= {-1}:
        return files, []
    key, path = next(iter(files.items()))
    text = f"{what} are numbered from {key[-1]} on, color from {frames[0][-1]} on: taken in order, {path.name} first"
    return dict(zip(frames, files.values(), strict=True)), [Finding("warning", "numbers.shifted", text)]
