"""Configuration files: TOML with the tables [odometry] and [mapping], checked on reading, written in full."""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradslam_ng.io.similar_names import meant_path
from gradslam_ng.io.text import read_toml

log = logging.getLogger("gradslam_ng")

TABLES = ("odometry", "mapping")

# Names of earlier versions, taken with a warning until the next one.
RENAMED = {
    "odometry": {
        "turns": "rotation_iterations",
        "rows": "row_stride",
        "scale": "kernel_width",
        "registration": "registration_sigma",
        "candidates": "association_window",
        "softness": "association_sigma",
        "last": "backward_iterations",
    },
    "mapping": {
        "stable": "stable_confidence",
        "patience": "max_unseen_frames",
        "persistence": "min_track_length",
        "tidy_every": "prune_every",
    },
}


def read_config(config: Path | None) -> dict[str, dict]:
    """The tables [odometry] and [mapping] of a TOML file; none without a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML, or other tables.
    """
    if config is None:
        return {}
    if not config.is_file():
        raise FileNotFoundError(f"config: no such file: {config}{meant_path(config)}")
    try:
        tables = read_toml(config, "TOML")
    except ValueError as error:
        raise ValueError(f"config: {error}") from None
    for name, table in tables.items():
        if name not in TABLES or not isinstance(table, dict):
            raise ValueError(f"config: {config}: expected the tables [odometry] and [mapping], got {name!r}")
    return tables


def format_config(tables: Mapping[str, Mapping[str, object]]) -> str:
    """TOML that `read_config` reads back; what is None, and so left to the program, is left out."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {format_value(value)}" for key, value in table.items() if value is not None]
        lines.append("")
    return "\n".join(lines).rstrip()


def format_value(value: object) -> str:
    """A string, truth value, number or array of such in TOML."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(format_value, value))}]"
    return json.dumps(value) if isinstance(value, (str, bool)) else repr(value)


def default_settings(component: type | None, given: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings that a table may hold, arguments of a component that have a default and are not `given`."""
    if component is None:
        return {}
    parameters = inspect.signature(component).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.default is not inspect.Parameter.empty and p.name not in ("strategy", *given)
    }


def validate_table(name: str, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one table, arrays as tuples and retired names replaced.

    Raises:
        ValueError: a setting that is not among the defaults, given twice, or of another type than its default.
    """
    settings: dict[str, Any] = {}
    given_as: dict[str, str] = {}
    for given, value in table.items():
        setting = current_name(name, given, defaults)
        if setting not in defaults:
            known = ", ".join(defaults) or "none"
            raise ValueError(f"config: [{name}] has no setting {setting!r} here; it has {known}")
        if setting in settings:
            raise ValueError(f"config: [{name}] {setting}: given twice, as {given_as[setting]!r} and as {given!r}")
        if given == "candidates" and value in (1, 4, 9):
            value = math.isqrt(value)  # it counted the pixels of the window, whose width is given now
        if not same_kind(value, defaults[setting]):
            expected = f"expected something like {defaults[setting]!r}, got {value!r}"
            raise ValueError(f"config: [{name}] {setting}: {expected}")
        settings[setting] = tuple(value) if isinstance(value, list) else value
        given_as[setting] = given
    return settings


def current_name(table: str, setting: str, defaults: Mapping[str, object]) -> str:
    """The name of a setting, with a warning where it is given by that of an earlier version."""
    new = RENAMED[table].get(setting, setting)
    if setting in defaults or new not in defaults:
        return setting
    log.warning("config: [%s] %s is called %s now; the next version will not take the old name", table, setting, new)
    return new


def same_kind(value: object, default: object) -> bool:
    """Whether a value of a TOML file may stand for a default: whole numbers serve as decimal ones, arrays as tuples."""
    if isinstance(default, tuple):
        return isinstance(value, list) and all(same_kind(entry, default[0]) for entry in value)
    kinds = (int, float) if isinstance(default, float) else type(default)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
