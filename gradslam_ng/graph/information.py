"""Square-root information: weights from information matrices, by Cholesky factorization or eigenvalues."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROUNDING = 1e-9  # an eigenvalue of less than this share of the largest is zero


def square_root(
    information: Tensor,  # (..., d, d), symmetric and positive semi-definite
    name: Callable[[int], str] = "measurement {}".format,
) -> Tensor:
    """W (..., d, d) upper triangular with W^T W = information.

    A direction that was not measured has the eigenvalue zero; the square root has no gradient there.

    name: what to call the first bad one, by its number among all.

    Raises:
        ValueError: NaN or infinite entries, a negative eigenvalue, or one of zero where gradients are recorded.
    """
    flat = information.reshape(-1, *information.shape[-2:])
    finite = flat.detach().isfinite().flatten(1).all(-1)
    if not bool(finite.all()):
        raise ValueError(f"information: {name(int((~finite).nonzero()[0]))} has entries that are not finite")
    L, info = torch.linalg.cholesky_ex(flat)
    W, singular = L.mT, info > 0
    if bool(singular.any()):
        W = torch.where(singular[:, None, None], _singular_square_root(flat, singular, name), W)
    return W.reshape(information.shape)


def _singular_square_root(
    information: Tensor,  # (N, d, d)
    singular: Tensor,  # (N,) bool
    name: Callable[[int], str],
) -> Tensor:
    """W (N, d, d), 0 where not singular, by eigenvalues; ValueError as of `square_root`."""
    expected = "positive definite" if information.requires_grad else "positive semi-definite"
    values, vectors = torch.linalg.eigh(information[singular].detach())
    bad = (values[:, 0] < -ROUNDING * values[:, -1]) | information.requires_grad
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        which = name(int(singular.nonzero()[first]))
        raise ValueError(
            f"information: expected {expected} matrices, but that of {which} has the eigenvalue "
            f"{float(values[first, 0]):.3g} (and {int(bad.sum()) - 1} more are alike)"
        )
    roots = torch.where(values > ROUNDING * values[:, -1:], values, 0).sqrt()
    W = torch.zeros_like(information)
    W[singular] = torch.linalg.qr(roots[..., None] * vectors.mT).R
    return W
