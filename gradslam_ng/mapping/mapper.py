"""Mapper: what a system calls to join a frame to its map."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from torch import Tensor

from gradslam_ng.compute.configurable import Configurable
from gradslam_ng.structures import LiveFrame

M = TypeVar("M", bound=Any)  # a map


class Mapper(Configurable, Generic[M]):
    """Joins frames to the map. Derive from it to write one of your own; this one leaves the map as it is."""

    map_type: type = object  # the kind of map that it can join frames to, object for any
    capturable = False  # it never waits for the device and keeps nothing in Python: frames may become a CUDA graph

    def __init__(self) -> None:
        super().__init__()
        # of the instance, not of the class: a parameter may take the place of an instance's attribute alone
        self.stable_confidence: float | Tensor = 1.0  # of a surfel that weighs half of one that is certain in tracking
        self.prune_every = 1  # frames

    def forward(
        self,
        map_: M,
        live: LiveFrame,
        T_wc: Tensor,  # (B, 4, 4)
        ok: Tensor,  # (B,) bool
        frame: int | Tensor,  # () int64
    ) -> M:
        """The map with the frame of that number, seen from T_wc, where ok; elsewhere it must stay as it is."""
        return map_

    def prune(self, map_: M, ok: Tensor, frame: int) -> M:
        """The map without what is not worth keeping after the frame of that number; called every `prune_every`."""
        return map_

    def prune_if_due(self, map_: M, ok: Tensor, frame: int) -> M:
        """The map after the frame of that number, pruned every `prune_every` frames."""
        return self.prune(map_, ok, frame) if frame % self.prune_every == 0 else map_

    def finalize(self, map_: M) -> M:
        """The map after the last frame."""
        return map_
