"""Presets: how much work a system does for how much accuracy, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradslam_ng.odometry import ICPSettings, KnownPoses, Odometry, ProjectiveICP, step_strategy


@dataclass(frozen=True)
class Settings:
    """Working size of the images, and the settings of odometry that a system makes from a name ("gradicp", "icp").

    An odometry that is handed in as an object, and a mapper, bring settings of their own.
    """

    width: int = 320  # pixels: images are shrunk by the whole factor that brings them nearest to it
    association: str = "hard"  # or "soft": normals, predicted views and a system's own mapper without jumps
    icp: ICPSettings = field(default_factory=ICPSettings)

    def __post_init__(self) -> None:
        if self.association not in ("hard", "soft"):
            raise ValueError(f"association: expected hard or soft, got {self.association!r}")

    @property
    def soft(self) -> bool:
        return self.association == "soft"

    def make_odometry(self, name: str) -> Odometry:
        """The odometry of a name: gradicp (soft-damped, differentiable), icp (Levenberg-Marquardt), ground-truth.

        Raises:
            ValueError: another name.
        """
        return KnownPoses() if name == "ground-truth" else ProjectiveICP(step_strategy(name), settings=self.icp)


PRESETS = {
    "default": Settings(),
    "fast": Settings(width=160, icp=ICPSettings(iterations=(3, 2, 2))),
    "accurate": Settings(width=640, icp=ICPSettings(iterations=(6, 4, 4, 4))),
    "soft": Settings(association="soft", icp=ICPSettings(association="soft")),
}


def preset(name: str) -> Settings:
    """The settings of that name.

    Raises:
        ValueError: there are none.
    """
    if name not in PRESETS:
        raise ValueError(f"settings: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
