"""Which frames of a lost camera are looked for, and near which places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
ALIKE = 0.9  # correlation of descriptors from which on two frames show the same


@dataclass(eq=False)
class SearchTurns:
    """Bounds what looking for a camera costs, by what was looked for in vain.

    A frame that shows what the one before it did, which was looked for in vain, is left out; the next one is not. Of
    the places that are most alike, a frame is compared with the first and one of the others in turn.
    """

    searched: int = 0  # frames
    in_vain: Tensor | None = None  # (D,), the descriptor of the frame before, where it was looked for

    def found(self) -> None:
        """The camera is lost no longer."""
        self.in_vain = None

    def is_due(
        self,
        descriptors: Tensor,  # (S, D) or (D,), see `Descriptor`
    ) -> bool:
        """Whether the next frame is looked for."""
        seen, before = torch.atleast_2d(descriptors)[0], self.in_vain
        if before is not None and float(before @ seen) > ALIKE:
            self.in_vain = None
            return False
        self.in_vain, self.searched = seen.clone(), self.searched + 1
        return True

    def choose(self, best: list[T]) -> list[T]:
        """Of those most alike, the first, and of the others one in turn."""
        return in_turn(best, self.searched)


def in_turn(best: list[T], frame: int) -> list[T]:
    """Of those most similar, the first of all, and of the others one a frame: what a lost camera costs is bounded."""
    return best[:1] + best[1 + frame % max(len(best) - 1, 1) :][:1]
