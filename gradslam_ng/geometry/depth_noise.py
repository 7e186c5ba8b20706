"""How far a depth reading is to be trusted."""

from __future__ import annotations

import torch
from torch import Tensor

LATERAL = 0.5  # pixels, standard deviation of where in the image a reading belongs; Nguyen et al. 2012, equation 1


def axial_sigma(z: Tensor) -> Tensor:
    """Standard deviation along the ray, metres, of a structured-light camera's reading at depth z, metres.

    Nguyen, Izadi and Lovell 2012, equation 2, held at its least value for readings nearer than 0.4 m.
    """
    return 0.0012 + 0.0019 * (z - 0.4).clamp(min=0.0) ** 2


def normal_sigma(sigma: Tensor, vertices: Tensor, normals: Tensor, focal: Tensor) -> Tensor:
    """Standard deviation of vertices across their surface, metres, from that along the ray.

    A reading that is too far by sigma lies sigma cos(theta) off a surface seen at angle theta, one that belongs to the
    pixel beside it z / f sin(theta). sigma (B, H, W), metres; vertices and normals (B, H, W, 3), camera; focal (B),
    pixels. Returns (B, H, W), sigma where there is no normal.
    """
    x, y, z = vertices.unbind(-1)
    n_0, n_1, n_2 = normals.unbind(-1)
    there = z > 0
    inverse = 1.0 / torch.where(there, z, 1.0)
    slant = (n_0 * x + n_1 * y + n_2 * z) * inverse  # cos(theta) times the ray's length at depth 1
    cosine_2 = slant * slant / ((x * x + y * y) * inverse * inverse + 1.0)
    shift = LATERAL * z / focal[:, None, None]
    variance = sigma * sigma * slant * slant + shift * shift * (1.0 - cosine_2).clamp(min=0.0)
    return torch.where(there & (slant.detach() != 0), variance, sigma * sigma).sqrt()
