"""The lens of a camera in a table of names and values: which model, which coefficients; undone or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradslam_ng.geometry.lens import COUNTS, LensModel
from gradslam_ng.io.text import is_number, split_words

COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")  # in OpenCV's order
FISHEYE_COEFFICIENTS = ("k1", "k2", "k3", "k4")
LENGTHS = COUNTS["brown_conrady"]  # how many of them there may be
# Names of models, letters and digits alone: Brown and Conrady's, of cameras whose coefficients are of that model, ...
BROWN_CONRADY = re.compile(
    r"(?:^|distortion|model)(?:brown(?:conrady)?|plumbbob|rationalpolynomial|radtan\d*|radialtangential|(?:full)?opencv|"
    r"(?:simple)?radial|(?:simple)?pinhole|perspective)$"
)
NO_DISTORTION = re.compile(r"^(?:distortion)?(?:none|null|no|false|nodistortion|undistorted|rectified)$")
# Kannala and Brandt's, of fisheye lenses, ...
KANNALA_BRANDT = re.compile(r"(?:^|distortion|model)(?:(?:opencv)?fisheye|equidistant|kannalabrandt[48]?|kb[48]?)$")
# ... of others that are a pinhole's where their coefficients are zero, and of cameras that are none in any case.
NEARLY = re.compile(r"brownconrady$")
WIDE = re.compile(
    r"fisheye|equidistant|kannala|^kb\d*$|^omni$|omnidir|^mei$|fov$|ftheta$|eucm|unified|doublesphere|^ds$|equirect|"
    r"spheric|panoram|ocam|scaramuzza|orthograph|stereograph|equisolid"
)
EXPECTED = (
    "expected the model none, brown-conrady (plumb_bob, rational_polynomial, radtan, opencv) or kannala-brandt "
    "(equidistant, fisheye)"
)
LISTS = ("coefficients", "data", "coeffs", "distortion_coefficients", "params")  # in a mapping of a distortion
BESIDES = ("model", "type", "name", "rows", "cols", "dt", *LISTS)  # what else such a mapping has


@dataclass(frozen=True)
class LensFile:
    """What a table tells of a lens."""

    coefficients: tuple[float, ...] | None = None  # to undo, k1, k2, p1, p2, k3, ...; None: a pinhole camera
    model: LensModel = "brown_conrady"
    unused: tuple[str, ...] = ()  # models that are not known


def parse_lens(values: Mapping[str, Any], where: str) -> LensFile:
    """The lens that a table tells.

    `values` may have "distortion", numbers, a mapping or a model's name, and k1 to k6, p1 and p2, "distortion_model",
    "camera_model", "type" and "fisheye".

    Raises:
        ValueError: another model than Brown and Conrady's or Kannala and Brandt's, coefficients that are none, or given
            twice; begins with `where`.
    """
    given = values.get("distortion")
    models = [values.get("camera_model"), values.get("distortion_model")]
    if isinstance(given, Mapping):
        models.append(given.get("model", given.get("type")))
    elif isinstance(given, str):  # numbers, or the model alone
        words = split_words(given)
        is_model = not all(is_number(word) and not NO_DISTORTION.search(word.lower()) for word in words)
        models, given = ([*models, given], None) if is_model else (models, words)
    if str(values.get("fisheye", "")).lower() in ("1", "true"):
        models.append("fisheye")
    if WIDE.search(_letters(str(values.get("type", "")))):  # which may be the type of anything
        models.append(values["type"])
    named = [str(model) for model in models if model is not None]
    is_fisheye = any(KANNALA_BRANDT.search(_letters(name)) for name in named)
    names = FISHEYE_COEFFICIENTS if is_fisheye else COEFFICIENTS
    if others := [name for name in COEFFICIENTS if name not in names and values.get(name)]:
        raise ValueError(f"{where}: distortion: expected k1, k2, k3, k4 of a fisheye lens, got {others[0]} too")
    found = [c for c in (_listed(given, where, names), _named(values, where, names)) if c is not None]
    if len(found) == 2 and found[0] != found[1]:
        raise ValueError(f"{where}: distortion: given twice, as {found[0]} and as {found[1]}")
    coefficients = found[0] if found else None
    if coefficients and isinstance(given, Mapping) and "coefficients" in given and not named:
        raise ValueError(f"{where}: distortion: {EXPECTED}, got {coefficients} without a model")
    unknown = tuple(f"model {name!r}" for name in named if not _is_known(name, coefficients, where))
    if is_fisheye and coefficients is None:
        raise ValueError(f"{where}: distortion: expected k1, k2, k3, k4 of a fisheye lens, got none")
    return LensFile(coefficients, "kannala_brandt" if is_fisheye else "brown_conrady", unknown)


def _is_known(model: str, coefficients: tuple[float, ...] | None, where: str) -> bool:
    """Whether it is known what a model is, of the coefficients that there are; ValueError where it cannot be undone."""
    name = _letters(model)
    if KANNALA_BRANDT.search(name):
        return True
    if WIDE.search(name):
        raise ValueError(f"{where}: distortion: {EXPECTED}, got {model!r}, which is no pinhole camera: undistort first")
    if not name or BROWN_CONRADY.search(name):
        return True
    if coefficients is not None:
        raise ValueError(f"{where}: distortion: {EXPECTED}, got {model!r} with {coefficients}")
    return NO_DISTORTION.search(name) is not None or NEARLY.search(name) is not None


def _letters(model: str) -> str:
    return re.sub(r"[^a-z0-9]", "", model.lower())


def parse_distortion(value: object, where: str) -> tuple[float, ...] | None:
    """Coefficients k1, k2, p1, p2, k3, ... of the lens (Brown-Conrady, OpenCV's order); None where all are zero.

    Raises:
        ValueError: not 4, 5, 8, 12 or 14 finite numbers, in a list, a row or a column; begins with `where`.
    """
    values = _numbers(value)
    if values.size == 0 or not values.any():
        return None
    if max(values.shape, default=1) != values.size or values.size not in LENGTHS or not np.isfinite(values).all():
        form = "k1, k2, p1, p2 and perhaps k3 or more (4, 5, 8, 12 or 14 numbers)"
        raise ValueError(f"{where}: distortion: expected {form}, got {str(value)[:100]}")
    return tuple(values.ravel().tolist())


def parse_fisheye(value: object, where: str) -> tuple[float, ...] | None:
    """Coefficients k1, k2, k3, k4 of a fisheye lens (Kannala-Brandt), of which all may be zero; None where there are
    none.

    Raises:
        ValueError: not 4 finite numbers, but for zeros behind them; begins with `where`.
    """
    values = _numbers(value)
    if values.size == 0:
        return None
    row = values.ravel()
    if max(values.shape, default=1) != values.size or row.size < 4 or row[4:].any() or not np.isfinite(row).all():
        raise ValueError(f"{where}: distortion: expected k1, k2, k3, k4 of a fisheye lens, got {str(value)[:100]}")
    return tuple(row[:4].tolist())


def _numbers(value: object) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.full(1, np.nan)


def _listed(given: Any, where: str, names: tuple[str, ...]) -> tuple[float, ...] | None:
    """The coefficients in a list, or a mapping that has a list, or one for each coefficient."""
    parse = parse_fisheye if names == FISHEYE_COEFFICIENTS else parse_distortion
    if given is None or given == "":
        return None
    if not isinstance(given, Mapping):
        return parse(given, where)
    lists = [given[name] for name in LISTS if given.get(name) is not None]
    others = [name for name in given if name not in (*names, *BESIDES, "radial", "tangential")]
    if len(lists) > 1 or others:
        raise ValueError(f"{where}: distortion: expected a model and coefficients, got {str(dict(given))[:100]}")
    if lists:
        return parse(lists[0], where)
    if "radial" in given:
        radial, tangential = list(given["radial"]), list(given.get("tangential", (0, 0)))
        return parse(radial if parse is parse_fisheye else [*radial[:2], *tangential, *radial[2:]], where)
    return _named(given, where, names)


def _named(values: Mapping[str, Any], where: str, names: tuple[str, ...]) -> tuple[float, ...] | None:
    """The coefficients by their own names."""
    given = [0.0 if values.get(name) is None else values[name] for name in names]
    count = max((k + 1 for k, name in enumerate(names) if values.get(name) is not None), default=0)
    if names == FISHEYE_COEFFICIENTS:
        return parse_fisheye(given, where) if count else None
    return parse_distortion(given[: next((length for length in LENGTHS if length >= count), count)], where)
