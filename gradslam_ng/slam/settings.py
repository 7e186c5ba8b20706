"""How much work a system does for how much accuracy: what changes together, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from gradslam_ng import optim
from gradslam_ng.odometry import ProjectiveICP


@dataclass(frozen=True)
class Settings:
    """Of tracking and of the images it works on. What is not here is an argument of the parts themselves."""

    width: int = 320  # pixels: images are shrunk by the whole factor that brings them nearest to it
    iterations: tuple[int, ...] = (4, 3, 2)  # per pyramid level, coarsest first
    turns: int = 2  # iterations before them in which the camera only turns
    rows: int = 2  # every so many-th row of pixels takes part at the finest level
    photometric: bool = True  # what is seen must look as bright as the map remembers it

    def odometer(self, strategy: optim.StepStrategy | None = None, **others) -> ProjectiveICP:
        """An odometer so set; `others` of its arguments go before."""
        own = {"iterations": self.iterations, "rotation_iterations": self.turns, "row_stride": self.rows}
        return ProjectiveICP(strategy, **own | {"photometric": self.photometric} | others)


PRESETS = {
    "default": Settings(),
    "fast": Settings(width=160, iterations=(3, 2, 2)),
    "accurate": Settings(width=640, iterations=(6, 4, 4, 4), rows=1),
}


def preset(name: str) -> Settings:
    """The settings of that name.

    Raises:
        ValueError: there are none.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
