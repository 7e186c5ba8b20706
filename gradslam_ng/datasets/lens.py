"""The lens of a camera in a table of names and values: which model, which coefficients; undone or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradslam_ng.io.text import is_number, split_words

COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")  # in OpenCV's order
LENGTHS = (4, 5, 8, 12, 14)  # how many of them there may be
# Names of models, letters and digits alone: Brown and Conrady's, of cameras whose coefficients are of that model, ...
BROWN_CONRADY = re.compile(
    r"(?:^|distortion|model)(?:brown(?:conrady)?|plumbbob|rationalpolynomial|radtan\d*|radialtangential|(?:full)?opencv|"
    r"(?:simple)?radial|(?:simple)?pinhole|perspective)$"
)
NO_DISTORTION = re.compile(r"^(?:distortion)?(?:none|null|no|false|nodistortion|undistorted|rectified)$")
# ... of others that are a pinhole's where their coefficients are zero, and of cameras that are none in any case.
NEARLY = re.compile(r"brownconrady$")
WIDE = re.compile(
    r"fisheye|equidistant|kannala|^kb\d*$|^omni$|omnidir|^mei$|fov$|ftheta$|eucm|unified|doublesphere|^ds$|equirect|"
    r"spheric|panoram|ocam|scaramuzza|orthograph|stereograph|equisolid"
)
EXPECTED = "expected the model none or brown-conrady, plumb_bob, rational_polynomial, radtan or opencv"
LISTS = ("coefficients", "data", "coeffs", "distortion_coefficients", "params")  # in a mapping of a distortion
BESIDES = ("model", "type", "name", "rows", "cols", "dt", *LISTS)  # what else such a mapping has


def parse_lens(values: Mapping[str, Any], where: str) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """Coefficients k1, k2, p1, p2, k3, ... to undo, None where there are none, and models that are not known.

    `values` may have "distortion", numbers, a mapping or a model's name, and k1 to k6, p1 and p2, "distortion_model",
    "camera_model", "type" and "fisheye".

    Raises:
        ValueError: a model that is no pinhole camera with Brown and Conrady's lens, coefficients that are none, or
            given twice; begins with `where`.
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
    found = [c for c in (_listed(given, where), _named(values, where)) if c is not None]
    if len(found) == 2 and found[0] != found[1]:
        raise ValueError(f"{where}: distortion: given twice, as {found[0]} and as {found[1]}")
    coefficients = found[0] if found else None
    if coefficients and isinstance(given, Mapping) and "coefficients" in given and models == [None] * len(models):
        raise ValueError(f"{where}: distortion: {EXPECTED}, got {coefficients} without a model")
    named = [str(model) for model in models if model is not None]
    return coefficients, tuple(f"model {model!r}" for model in named if not _is_known(model, coefficients, where))


def _is_known(model: str, coefficients: tuple[float, ...] | None, where: str) -> bool:
    """Whether it is known what a model is, of the coefficients that there are; ValueError where it cannot be undone."""
    name = _letters(model)
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
    try:
        values = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.full(1, np.nan)
    if values.size == 0 or not values.any():
        return None
    if max(values.shape, default=1) != values.size or values.size not in LENGTHS or not np.isfinite(values).all():
        form = "k1, k2, p1, p2 and perhaps k3 or more (4, 5, 8, 12 or 14 numbers)"
        raise ValueError(f"{where}: distortion: expected {form}, got {str(value)[:100]}")
    return tuple(values.ravel().tolist())


def _listed(given: Any, where: str) -> tuple[float, ...] | None:
    """The coefficients in a list, or a mapping that has a list, or one for each coefficient."""
    if given is None or given == "":
        return None
    if not isinstance(given, Mapping):
        return parse_distortion(given, where)
    lists = [given[name] for name in LISTS if given.get(name) is not None]
    others = [name for name in given if name not in (*COEFFICIENTS, *BESIDES, "radial", "tangential")]
    if len(lists) > 1 or others:
        raise ValueError(f"{where}: distortion: expected a model and coefficients, got {str(dict(given))[:100]}")
    if lists:
        return parse_distortion(lists[0], where)
    if "radial" in given:
        radial, tangential = list(given["radial"]), list(given.get("tangential", (0, 0)))
        return parse_distortion([*radial[:2], *tangential, *radial[2:]], where)
    return _named(given, where)


def _named(values: Mapping[str, Any], where: str) -> tuple[float, ...] | None:
    """The coefficients by their own names."""
    given = [0.0 if values.get(name) is None else values[name] for name in COEFFICIENTS]
    count = max((k + 1 for k, name in enumerate(COEFFICIENTS) if values.get(name) is not None), default=0)
    return parse_distortion(given[: next((length for length in LENGTHS if length >= count), count)], where)
