"""What a run asks of that which closes loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor

from gradslam_ng.slam.state import State
from gradslam_ng.slam.system import System
from gradslam_ng.structures import LiveFrame, SurfelMap


class LoopClosure(Protocol):
    """What closes loops: `loops.LoopCloser` and, for volumes, `loops.VolumeLoopCloser`. One for each run."""

    @property
    def loops(self) -> list[Any]:
        """Those closed."""
        ...

    @property
    def moves_map(self) -> bool:
        """Whether the map that is tracked against moves with a loop at once, and not only at the end."""
        ...

    @property
    def archive(self) -> SurfelMap:
        """Surfels of the map that are not tracked against for now; empty where all are."""
        ...

    def loop_frames(self) -> list[tuple[int, int]]:
        """The two frames of each loop closed, counted from 0 among those handed in."""
        ...

    def poses(self) -> Tensor:
        """Of all frames so far (L, 4, 4) float64, as the loops closed have them."""
        ...

    def process(self, system: System, state: State, live: LiveFrame, in_map: bool) -> State:
        """The state after each frame, corrected if a loop was closed.

        in_map: whether the frame was fused where it was tracked; a frame found by relocalization was not.
        """
        ...

    def reactivate(self, state: State) -> State:
        """The state after a frame in which a lost camera was found, what it sees of the archive in the map again."""
        ...

    def recall(self, T_wc: Sequence[Tensor]) -> None:
        """The archive near these poses, (4, 4) each, is in memory, for a camera that is looked for there."""
        ...

    def stored(self) -> Iterator[SurfelMap]:
        """Surfels of the map that are on disk and not in the archive, in parts; after `finalize` as that has them."""
        ...

    def finalize(self, map_: Any) -> tuple[Any, Tensor]:
        """The map and the poses of all frames (L, 4, 4) float64, once all frames are done; relative, like all that is
        handed in, to the origin of the states."""
        ...

    @property
    def saved_types(self) -> tuple[type, ...]:
        """Data structures in what `saved` returns, see `io.tensor_tree`."""
        ...

    def saved(self) -> dict[str, Any]:
        """What it knows between two frames, for `restore`."""
        ...

    def restore(self, saved: dict[str, Any], system: System) -> None:
        """Go on from where another one of the same settings was."""
        ...

    def fresh(self) -> LoopClosure:
        """Another one of the same settings, for another map."""
        ...
