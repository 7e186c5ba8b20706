"""From the words of the command line to a system."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path

from gradslam_ng.mapping import PointFuser
from gradslam_ng.odometry import ICPSettings, KnownPoses, step_strategy
from gradslam_ng.slam import ICPSLAM, ICPOdometry, KinectFusion, PointFusion
from gradslam_ng.slam.settings import preset
from gradslam_ng.slam.system import System

SYSTEMS = {"icpslam": ICPSLAM, "icp-odometry": ICPOdometry}


def parse_frames(text: str) -> slice:
    """FIRST:LAST:STEP as a slice.

    Raises:
        ValueError: anything else, or a step that is not positive.
    """
    parts = text.split(":")
    try:
        bounds = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        bounds = []
    if not 2 <= len(bounds) <= 3 or (len(bounds) == 3 and bounds[2] is not None and bounds[2] < 1):
        raise ValueError(f"frames: expected FIRST:LAST:STEP, like 0:200:2 or ::3, got {text!r}")
    return slice(*bounds)


def parse_scale(scale: float | None) -> int | None:
    """The whole factor by which images are shrunk.

    Raises:
        ValueError: a scale that is not 1 / n.
    """
    if scale is None:
        return None
    factor = round(1 / scale) if scale > 0 else 0
    if factor < 1 or abs(1 / factor - scale) > 1e-2 * scale:
        raise ValueError(f"scale: expected one over a whole number (1, 0.5, 0.25, ...), got {scale:g}")
    return factor


def build(
    system: str, odometry: str, factor: int | None, config: Path | None = None, settings: str = "default"
) -> System:
    """The system of that name, with a preset's settings and those of a TOML file, which go before.

    Raises:
        FileNotFoundError, ValueError: no such file, not TOML, a table or setting that does not exist, or a value of
            another type or out of range.
    """
    tables = read_config(config)
    if odometry == "ground-truth":
        odometer = KnownPoses(**known(tables, "odometry", KnownPoses))
    else:
        odometer = preset(settings).odometer(step_strategy(odometry), **known(tables, "odometry", ICPSettings))
    common = {"odometry": odometer, "factor": factor, "settings": settings}
    if system == "pointfusion":
        return PointFusion(**common, mapper=PointFuser(**known(tables, "mapping", PointFuser)))
    if system == "kinectfusion":
        return KinectFusion(**common, **known(tables, "mapping", KinectFusion, "noise", *common))
    known(tables, "mapping", None)
    return SYSTEMS[system](**common)


def read_config(config: Path | None) -> dict[str, dict]:
    """The tables [odometry] and [mapping] of a TOML file."""
    if config is None:
        return {}
    if not config.is_file():
        raise FileNotFoundError(f"config: no such file: {config}")
    try:
        tables = tomllib.loads(config.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config: {config} is not TOML: {error}") from None
    for name, table in tables.items():
        if name not in ("odometry", "mapping") or not isinstance(table, dict):
            raise ValueError(f"config: {config}: expected the tables [odometry] and [mapping], got {name!r}")
    return tables


def known(tables: dict[str, dict], name: str, part: type | None, *given: str) -> dict:
    """The settings in one table, all of which the part takes and are not given, each of its default's type."""
    settings = tables.get(name, {})
    takes = {} if part is None else {p.name: p.default for p in inspect.signature(part).parameters.values()}
    takes = {setting: default for setting, default in takes.items() if setting not in ("strategy", *given)}
    for setting, value in settings.items():
        if setting not in takes:
            raise ValueError(f"config: [{name}] has no setting {setting!r} here; it has {', '.join(takes) or 'none'}")
        if not alike(value, takes[setting]):
            raise ValueError(f"config: [{name}] {setting}: expected something like {takes[setting]!r}, got {value!r}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}


def alike(value: object, default: object) -> bool:
    """Whether a value of a TOML file may stand for a default: whole numbers serve as decimal ones, arrays as tuples."""
    if isinstance(default, tuple):
        return isinstance(value, list) and all(alike(entry, default[0]) for entry in value)
    kinds = (int, float) if isinstance(default, float) else type(default)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
