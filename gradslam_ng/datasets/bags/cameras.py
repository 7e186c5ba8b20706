"""Cameras as bags tell them: ROS's CameraInfo, and RealSense's own texts and lens models."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import torch
from torch import Tensor

from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.intrinsics import parse_intrinsics
from gradslam_ng.datasets.lens import parse_lens

GRID = 24  # rays across an image, to which a lens is fitted
MAX_RADIUS = 1.2  # of rays, normalized coordinates: 50 degrees off the axis


def camera_of_info(message: Any, where: str, is_rectified: bool) -> Camera | None:
    """The camera of a CameraInfo, None where it has no focal length: of the rectified image, or of the one as taken.

    Raises:
        ValueError: a lens that cannot be undone, a region of the image, or binning; begins with `where`.
    """
    about = {field.name.lower(): getattr(message, field.name) for field in dataclasses.fields(message)}
    K, P = torch.tensor(about["k"]).reshape(3, 3), torch.tensor(about["p"]).reshape(3, 4)
    if not bool(K[0, 0] > 0):
        return None
    size = (int(about["height"]), int(about["width"])) if about["height"] and about["width"] else None
    region = about["roi"]
    if max(about["binning_x"], about["binning_y"]) > 1 or region.x_offset or region.y_offset:
        raise ValueError(f"{where}: expected whole images, got a region (roi) or binning")
    if is_rectified:
        K = P[:, :3] if bool(P[0, 0] > 0) else K
        return Camera(parse_intrinsics(K, where), where, size)
    return _camera(K, size, str(about["distortion_model"]), [float(d) for d in about["d"]], where)


def camera_of_text(text: str, where: str) -> Camera:
    """The camera in a text of RealSense: `width=640;height=480;fx=...;ppx=...;model=Brown Conrady;coeffs=0,0,0,0,0`.

    Raises:
        ValueError: anything else; begins with `where`.
    """
    values = dict(re.findall(r"([^=;]+)=([^;]*)", text))
    try:
        fx, fy, cx, cy = (float(values[name]) for name in ("fx", "fy", "ppx", "ppy"))
        size = int(values["height"]), int(values["width"])
        coefficients = [float(word) for word in values.get("coeffs", "").split(",") if word.strip()]
    except (KeyError, ValueError):
        raise ValueError(f"{where}: expected width, height, fx, fy, ppx and ppy, got {text[:100]!r}") from None
    return _camera(parse_intrinsics([fx, fy, cx, cy], where), size, values.get("model", ""), coefficients, where)


def _camera(K: Tensor, size: tuple[int, int] | None, model: str, coefficients: list[float], where: str) -> Camera:
    K = parse_intrinsics(K, where)
    if size is not None and re.match(r"(inverse|modified) brown.?conrady", model, re.IGNORECASE) and any(coefficients):
        rays, seen = realsense_rays(K, size, coefficients, is_inverse=model[0] in "iI")
        coefficients, model = fit_brown_conrady(rays, seen), "brown_conrady"
    is_wide = re.search("fish|equid|kannala|theta", model, re.IGNORECASE) is not None
    if not any(coefficients) and not is_wide:
        coefficients, model = [], ""
    lens = parse_lens({"distortion": coefficients, "distortion_model": model or None}, where)
    return Camera(K, where, size, lens.coefficients, lens_model=lens.model)


def realsense_rays(
    K: Tensor,  # (3, 3), pixels
    size: tuple[int, int],
    coefficients: list[float],
    is_inverse: bool,
) -> tuple[Tensor, Tensor]:
    """Rays (N, 2) over an image and where a lens of RealSense shows them (N, 2), normalized coordinates.

    The inverse model maps what is seen to rays by Brown and Conrady's polynomial; the modified one puts the tangential
    part behind the radial one (librealsense, `rs2_deproject_pixel_to_point` and `rs2_project_point_to_pixel`).
    """
    k1, k2, p1, p2, k3 = (*coefficients, 0.0, 0.0, 0.0, 0.0, 0.0)[:5]
    height, width = size
    v, u = torch.meshgrid(
        torch.linspace(0, height - 1, GRID, dtype=torch.float64),
        torch.linspace(0, width - 1, GRID, dtype=torch.float64),
        indexing="ij",
    )
    x, y = ((u - K[0, 2]) / K[0, 0]).flatten(), ((v - K[1, 2]) / K[1, 1]).flatten()
    keep = x.square() + y.square() < MAX_RADIUS**2
    x, y = x[keep], y[keep]
    square = x.square() + y.square()
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    s, t = (x, y) if is_inverse else (x * radial, y * radial)
    moved = torch.stack(
        [
            x * radial + 2 * p1 * s * t + p2 * (square + 2 * s.square()),
            y * radial + 2 * p2 * s * t + p1 * (square + 2 * t.square()),
        ],
        -1,
    )
    given = torch.stack([x, y], -1)
    return (moved, given) if is_inverse else (given, moved)


def fit_brown_conrady(
    rays: Tensor,  # (N, 2)
    seen: Tensor,  # (N, 2)
) -> list[float]:
    """k1, k2, p1, p2, k3 of the lens that shows rays where they are seen, both normalized: linear least squares."""
    x, y = rays.unbind(-1)
    square = x.square() + y.square()
    columns = [
        torch.stack([x * square, y * square], -1),
        torch.stack([x * square**2, y * square**2], -1),
        torch.stack([2 * x * y, square + 2 * y.square()], -1),
        torch.stack([square + 2 * x.square(), 2 * x * y], -1),
        torch.stack([x * square**3, y * square**3], -1),
    ]
    A = torch.stack([column.flatten() for column in columns], -1)
    return torch.linalg.lstsq(A, (seen - rays).flatten()[:, None]).solution[:, 0].tolist()
