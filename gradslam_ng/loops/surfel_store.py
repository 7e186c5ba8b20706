"""Surfels of a long run on disk: parts of the map far from the camera, each in the coordinates of its keyframe.

What lies on disk moves with its keyframe: a loop that is closed touches no file.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.io.tensor_tree import Saveable, load_tree, save_tree
from gradslam_ng.structures import SurfelMap
from gradslam_ng.structures.surfels import concatenate, transform_surfels

log = logging.getLogger("gradslam_ng")
REACH = 10.0  # meters from a camera to a keyframe, within which the surfels of this stay in memory: twice what it sees
LEFT = 0.7  # of the limit, down to where surfels go to disk once it is reached
ATTRIBUTE_BYTES = 60  # of a surfel


@dataclass(frozen=True)
class StoredSurfels:
    """A file."""

    path: str
    keyframe: int
    count: int


class SurfelStore(Saveable):
    """Surfels in files of a folder.

    Args:
        folder: where files are written; made if need be.
        limit: bytes of surfels that `page` leaves in memory, but for those within reach of the camera.
    """

    def __init__(self, folder: Path, *, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self.files: list[StoredSurfels] = []

    def saved(self) -> dict[str, Any]:
        """Paths of files, which are not written over."""
        files = [[file.path, file.keyframe, file.count] for file in self.files]
        return {"folder": str(self.folder.resolve()), "limit": self.limit, "files": files}

    @classmethod
    def from_saved(cls, saved: dict[str, Any]) -> SurfelStore:
        """The same again, its files where they were."""
        store = cls(Path(saved["folder"]), limit=float(saved["limit"]))
        store.files = [StoredSurfels(str(path), int(keyframe), int(count)) for path, keyframe, count in saved["files"]]
        return store

    def fresh(self) -> SurfelStore:
        """Another one in the same folder, for another map."""
        return SurfelStore(self.folder, limit=self.limit)

    @property
    def count(self) -> int:
        """Surfels on disk."""
        return sum(file.count for file in self.files)

    def page(
        self,
        archive: SurfelMap,
        keyframe: Tensor,  # (1, N) int64, of each surfel
        T_wk: Tensor,  # (K, 4, 4) float64
        cameras: Sequence[Tensor],  # (4, 4) each
    ) -> SurfelMap:
        """The archive with what lies on disk within reach of these poses, and, where it is full, without what is
        farthest from them, which goes to disk.

        Where a file cannot be written all stays in memory from then on, and where one cannot be read its surfels are
        missing; either way a warning says so.
        """
        centers = torch.stack([T[:3, 3].double().cpu() for T in cameras])
        away = torch.cdist(T_wk[:, :3, 3].cpu(), centers).amin(-1)  # (K,)
        near = [file for file in self.files if away[file.keyframe] < REACH]
        if int(archive.count[0]) * ATTRIBUTE_BYTES > self.limit:
            archive = self._page_out(archive, keyframe, T_wk, away)
        if near:
            self.files = [file for file in self.files if file not in near]
            archive = reduce(concatenate, self._read(near, T_wk), archive[0].to("cpu")).to(archive.points.device)
        return archive

    def _read(self, files: list[StoredSurfels], T_wk: Tensor) -> Iterator[SurfelMap]:
        for file in files:
            try:
                yield self._load(file, T_wk)
            except (OSError, ValueError) as error:
                log.warning("%d surfels of the map are missing: %s", file.count, error)

    def _page_out(self, archive: SurfelMap, keyframe: Tensor, T_wk: Tensor, away: Tensor) -> SurfelMap:
        keyframe = torch.where(archive.mask, keyframe, -1)
        counts = torch.bincount(keyframe[archive.mask].cpu(), minlength=len(T_wk)).tolist()
        leave = int(archive.count[0]) - LEFT * self.limit / ATTRIBUTE_BYTES
        gone = torch.zeros_like(archive.mask)
        for k in away.argsort(descending=True).tolist():
            if leave <= 0 or away[k] < REACH:
                break
            if counts[k]:
                chosen = keyframe == k
                try:
                    self._save(archive, chosen, k, T_wk[k])
                except OSError as error:
                    log.warning("the map stays in memory: %s", error)
                    self.limit = math.inf
                    break
                gone, leave = gone | chosen, leave - counts[k]
        return archive.compact(~gone)[0]

    def _save(self, map_: SurfelMap, chosen: Tensor, keyframe: int, T_wk: Tensor) -> None:
        values = {name: value[chosen][None].cpu() for name, value in map_.attributes().items()}
        part = replace(map_, **values, count=chosen.sum(-1).cpu(), origin=None)
        path = self.folder.resolve() / f"{secrets.token_hex(8)}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        save_tree(path, transform_surfels(part, se3.inverse(T_wk.cpu())), {})
        self.files.append(StoredSurfels(str(path), keyframe, len(values["radii"][0])))

    def _load(self, file: StoredSurfels, T_wk: Tensor) -> SurfelMap:
        """Surfels of a file, in the coordinates of the map.

        Raises:
            FileNotFoundError, ValueError: it is gone, or not what was written.
        """
        found = load_tree(Path(file.path), [SurfelMap])
        if not isinstance(found, SurfelMap) or found.capacity != file.count or file.keyframe >= len(T_wk):
            raise ValueError(f"{file.path}: expected {file.count} surfels of keyframe {file.keyframe}")
        return transform_surfels(found, T_wk[file.keyframe].cpu())

    def parts(self, T_wk: Tensor) -> Iterator[SurfelMap]:  # T_wk (K, 4, 4)
        """All surfels on disk, a file at a time, in the coordinates of the map."""
        return self._read(self.files, T_wk)
