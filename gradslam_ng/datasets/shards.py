"""Clips in shards: tar files in the layout of WebDataset, read one after the other by many processes at a time.

What training reads from a disk or a store of objects is fast where it is read in order. A shard has some dozens of
clips, one after the other, each with a file for each field, as arrays of NumPy: color in 8 bit, all else as it is.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import tarfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.datasets.findings import RecordingWarning
from gradslam_ng.io.atomic import whole_file
from gradslam_ng.io.optional_import import import_optional
from gradslam_ng.structures import RGBDFrames

FIELDS = tuple(field.name for field in dataclasses.fields(RGBDFrames))
ENDING = ".npy"
SHUFFLED = 64  # clips that are held to be shuffled
BARREN = 100  # shards without a clip, one after the other, after which nothing more is expected


def write_shards(clips: Iterable[RGBDFrames], folder: Path | str, *, clips_per_shard: int = 32) -> list[Path]:
    """Write clips, of any leading axes, as `clips-000000.tar` and so on; a shard is there whole or not at all.

    Args:
        clips: such as `sequence.clips(8)`; color is rounded to 8 bit, all else is kept as it is.
        folder: made if need be; shards of these names are replaced.
        clips_per_shard: at 8 frames of 160x120 a clip takes 1.1 MB.

    Raises:
        ValueError: not one clip in a shard.
        OSError: a shard cannot be written.
    """
    if clips_per_shard < 1:
        raise ValueError(f"clips_per_shard: expected at least 1, got {clips_per_shard}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    left, paths = iter(enumerate(clips)), list[Path]()
    while part := list(itertools.islice(left, clips_per_shard)):
        path = folder / f"clips-{len(paths):06d}.tar"
        with whole_file(path) as whole, tarfile.open(whole, "w") as shard:
            for number, clip in part:
                _write_clip(shard, f"{number:08d}", clip)
        paths.append(path)
    return paths


def read_shards(shards: Sequence[str | Path], *, seed: int | None = None) -> Any:
    """A torch `IterableDataset` of the clips in shards, for a `DataLoader` with any number of workers.

    Processes of `torch.distributed` and workers of a loader share the shards, so that there should be as many or more.
    A clip that cannot be read is left out with a RecordingWarning, and so is the rest of a shard that is damaged.
    Shards are tar files that are not compressed, so that none takes more memory than it has bytes.

    Args:
        shards: paths, or addresses that WebDataset opens.
        seed: without one each clip comes once, in order; with one, shards are drawn again and again, without an end,
            others in each process and worker, and their clips are shuffled, some `SHUFFLED` of them at a time.

    Raises:
        ValueError: no shards; while it is iterated: none of `BARREN` in a row has a clip that can be read.
        ImportError: WebDataset is missing; the message says what to install.
    """
    wds = import_optional("webdataset", user="reading shards", extra="training")
    names = [str(shard) for shard in shards]
    if not names:
        raise ValueError("shards: expected a tar file at least, got none")
    reader = _Reader(wds.gopen)
    if seed is None:
        return wds.DataPipeline(wds.SimpleShardList(names), wds.split_by_node, wds.split_by_worker, reader)
    shuffle = wds.detshuffle(SHUFFLED, SHUFFLED // 4, seed=seed)
    return wds.DataPipeline(wds.ResampledShards(names, seed=seed, deterministic=True), reader, shuffle)


def _write_clip(shard: tarfile.TarFile, key: str, clip: RGBDFrames) -> None:
    """A file for each field that is present."""
    for name in FIELDS:
        value: Tensor | None = getattr(clip, name)
        if value is None:
            continue
        value = (255 * value.clamp(0, 1)).round().to(torch.uint8) if name == "color" else value
        data = io.BytesIO()
        np.save(data, value.detach().cpu().numpy(), allow_pickle=False)
        about = tarfile.TarInfo(f"{key}.{name.lower()}{ENDING}")
        about.size = data.tell()
        data.seek(0)
        shard.addfile(about, data)


class _Reader:
    """A stage of a pipeline of WebDataset's: what has a shard's name becomes its clips. Goes to workers by pickling."""

    def __init__(self, gopen: Any) -> None:
        self.gopen = gopen

    def __call__(self, sources: Iterable[dict[str, str]]) -> Iterator[RGBDFrames]:
        barren = 0
        for source in sources:
            barren += 1
            for clip in self._clips(source["url"]):
                barren = 0
                yield clip
            if barren >= BARREN:
                raise ValueError(f"shards: none of {barren} in a row has a clip that can be read; {source['url']}")

    def _clips(self, name: str) -> Iterator[RGBDFrames]:
        """Of a shard, up to where it is damaged."""
        try:
            with self.gopen(name) as stream, tarfile.open(fileobj=stream, mode="r|") as shard:
                yield from _clips_of(shard, name)
        except (OSError, tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            warnings.warn(f"{name}: the rest of the shard is left out: {error}", RecordingWarning, stacklevel=2)


def _clips_of(shard: tarfile.TarFile, name: str) -> Iterator[RGBDFrames]:
    """Those that can be decoded."""
    for key, files in itertools.groupby(_files(shard), key=lambda file: file[0]):
        clip = _decoded(name, key, {field: data for _, field, data in files})
        if clip is not None:
            yield clip


def _files(shard: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    """Key, field and content of each file that is of a clip."""
    names = {name.lower(): name for name in FIELDS}
    for about in shard:
        key, _, rest = Path(about.name).name.partition(".")
        field = names.get(rest.removesuffix(ENDING))
        file = shard.extractfile(about) if about.isreg() and not about.issparse() else None
        if file is not None and field is not None and rest.endswith(ENDING):
            yield key, field, file.read()
        shard.members = []  # type: ignore[attr-defined]  # which else grow with the shard


def _decoded(shard: str, key: str, files: dict[str, bytes]) -> RGBDFrames | None:
    """The clip of these files; None where they are damaged, which is said."""
    try:
        return RGBDFrames(**{field: _array(data) for field, data in files.items()})
    except (ValueError, TypeError, EOFError, OverflowError, SyntaxError, MemoryError) as error:
        warnings.warn(f"{shard}: clip {key} is left out: {error}", RecordingWarning, stacklevel=2)
        return None


def _array(data: bytes) -> Tensor:
    """Of a file of NumPy's, without a copy of what it has.

    Raises:
        ValueError: it is none, or has fewer bytes than it says.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, in_columns, dtype = read(file)
    if dtype.hasobject or in_columns:
        raise ValueError(f"expected numbers in rows, got {dtype}{' in columns' * in_columns}")
    values = np.frombuffer(data, dtype, count=int(np.prod(shape, dtype=object)), offset=file.tell())
    return torch.from_numpy(values.reshape(shape).copy())
