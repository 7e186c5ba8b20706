"""SLAM systems from the options of the command line and a configuration file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradslam_ng.commands.config import default_settings, read_config, validate_table
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.mapping import PointFuser
from gradslam_ng.odometry import ICPSettings, KnownPoses, ProjectiveICP, step_strategy
from gradslam_ng.slam import ICPSLAM, ICPOdometry, KinectFusion, PointFusion
from gradslam_ng.slam.settings import preset
from gradslam_ng.slam.stream import StreamingSystem

SYSTEMS = {"icpslam": ICPSLAM, "icp-odometry": ICPOdometry}


@dataclass(frozen=True)
class Component:
    """What a table of a configuration file sets: the arguments of a class, but for those that the program gives."""

    kind: type | None  # None: nothing can be set
    given: tuple[str, ...] = ()

    def defaults(self) -> dict[str, Any]:
        return default_settings(self.kind, self.given)


def component(table: str, system: str, odometry: str) -> Component:
    """What the table [odometry] or [mapping] sets in a system of that name with such odometry."""
    if table == "odometry":
        return Component(KnownPoses if odometry == "ground-truth" else ICPSettings)
    if system == "pointfusion":
        return Component(PointFuser)
    if system == "kinectfusion":
        return Component(KinectFusion, ("odometry", "mapper", "factor", "noise", "settings", "max_depth"))
    return Component(None)


def parse_frames(text: str) -> slice:
    """FIRST:LAST:STEP as a slice.

    Raises:
        UsageError: anything else, or a step that is not positive.
    """
    parts = text.split(":")
    try:
        bounds = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        bounds = []
    if not 2 <= len(bounds) <= 3 or (len(bounds) == 3 and bounds[2] is not None and bounds[2] < 1):
        raise UsageError(f"frames: expected FIRST:LAST:STEP, like 0:200:2 or ::3, got {text!r}")
    first, last = bounds[:2]
    if first is not None and last is not None and 0 <= last <= first:
        raise UsageError(f"frames: expected LAST after FIRST, got {text!r}, which leaves none")
    return slice(*bounds)


def parse_scale(scale: float | None) -> int | None:
    """The whole factor by which images are shrunk.

    Raises:
        UsageError: a scale that is not 1 / n.
    """
    if scale is None:
        return None
    factor = round(1 / scale) if scale > 0 else 0
    if factor < 1 or abs(1 / factor - scale) > 1e-2 * scale:
        raise UsageError(f"scale: expected one over a whole number (1, 0.5, 0.25, ...), got {scale:g}")
    return factor


def read_settings(system: str, odometry: str, config: Path | None) -> dict[str, dict[str, Any]]:
    """The settings in the tables of a TOML file, by table.

    Raises:
        FileNotFoundError, ValueError: no such file, not TOML, a table or setting that does not exist, or a value of
            another type.
    """
    tables = read_config(config)
    parts = {name: component(name, system, odometry) for name in ("odometry", "mapping")}
    return {name: validate_table(name, tables.get(name, {}), part.defaults()) for name, part in parts.items()}


def all_settings(
    system: str, odometry: str, config: Path | None = None, settings: str = "default"
) -> dict[str, dict[str, Any]]:
    """Every setting of the tables [odometry] and [mapping], with the values that `make_system` uses."""
    tables = read_settings(system, odometry, config)
    tracker = make_odometry(odometry, settings, tables["odometry"])
    tracking = vars(tracker.settings) if isinstance(tracker, ProjectiveICP) else {}
    return {"odometry": tracking, "mapping": component("mapping", system, odometry).defaults() | tables["mapping"]}


def make_odometry(name: str, settings: str, changed: dict[str, Any]) -> KnownPoses | ProjectiveICP:
    """What finds the poses, with a preset's settings but for those changed."""
    if name == "ground-truth":
        return KnownPoses(**changed)
    return ProjectiveICP(step_strategy(name), settings=preset(settings).icp, **changed)


def make_system(
    system: str,
    odometry: str,
    factor: int | None,
    config: Path | None = None,
    settings: str = "default",
    max_depth: float | None = None,
) -> StreamingSystem:
    """The system of that name, with a preset's settings and those of a TOML file, which go before. max_depth: meters.

    Raises:
        FileNotFoundError, ValueError: see `read_settings`; or a value out of range.
    """
    tables = read_settings(system, odometry, config)
    tracker = make_odometry(odometry, settings, tables["odometry"])
    common: dict[str, Any] = {"odometry": tracker, "factor": factor, "settings": settings}
    if max_depth is not None:
        common["max_depth"] = max_depth
    if system == "pointfusion":
        return PointFusion(**common, mapper=PointFuser(**tables["mapping"]))
    if system == "kinectfusion":
        return KinectFusion(**common, **tables["mapping"])
    return SYSTEMS[system](**common)
