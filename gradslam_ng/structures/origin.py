"""Origins of maps: a map's coordinates are relative to a point of the world near where it begins.

float32 tells points apart to 2 micrometers at 30 m from where coordinates begin, to 8 mm at 100 km and to half a meter
at the coordinates of a map projection. So poses of the world are float64, and what is computed in, maps and the poses
of cameras in them, is relative to an origin (B, 3) float64: the axes stay those of the world, only translations differ.

An origin is a multiple of `SPACING` in each coordinate: what begins within 8 m of the world's has the world's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradslam_ng.compute.discrete import discrete
from gradslam_ng.io.ply import read_comments

SPACING = 16.0  # meters
COMMENT = "origin"  # in PLY files, before its three coordinates


@discrete
def nearest_origin(T_wc: Tensor) -> Tensor:  # T_wc (..., 4, 4)
    """The origin (..., 3) float64 nearest to poses, zero where these are not known. A discrete choice."""
    steps = (T_wc.detach()[..., :3, 3].double() / SPACING).round()
    return SPACING * steps.nan_to_num(0.0, 0.0, 0.0)


def translation(origin: Tensor) -> Tensor:  # origin (..., 3)
    """(..., 4, 4), zero but for the translation: what poses in the world are more than relative to the origin."""
    return pad(origin[..., None], (3, 0, 0, 1))


def relative_to_origin(
    T_wc: Tensor,  # (..., 4, 4)
    origin: Tensor | None,  # (..., 3) float64
    dtype: torch.dtype,
) -> Tensor:
    """Poses in the world as poses relative to an origin, None for the world's, in another precision."""
    return (T_wc if origin is None else T_wc.double() - translation(origin)).to(dtype)


def to_world(
    T_oc: Tensor,  # (..., 4, 4)
    origin: Tensor | None,  # (..., 3) float64
    dtype: torch.dtype,
) -> Tensor:
    """Poses relative to an origin as poses in the world, in another precision."""
    return (T_oc if origin is None else T_oc.double() + translation(origin)).to(dtype)


def world_columns(points: Tensor, origin: Tensor | None) -> tuple[dict[str, Tensor], list[str]]:
    """Columns x, y, z of a PLY file for points (V, 3) relative to an origin (3,), and comments that tell it.

    The columns are of the world: float, or double where the origin is not the world's.
    """
    points = points.detach().cpu()
    if origin is None or not bool(origin.any()):
        return {name: points[:, i].float() for i, name in enumerate("xyz")}, []
    comments = [" ".join([COMMENT, *map(repr, origin.tolist())])]
    return {name: points[:, i].double() + float(origin[i]) for i, name in enumerate("xyz")}, comments


def read_origin(path) -> Tensor | None:
    """The origin (3,) float64 that a PLY file tells, None where it tells none.

    Raises:
        FileNotFoundError, ValueError: see `read_ply`.
    """
    for comment in read_comments(path):
        words = comment.split()
        if words[:1] == [COMMENT] and len(words) == 4:
            return torch.tensor([float(word) for word in words[1:]], dtype=torch.float64)
    return None
