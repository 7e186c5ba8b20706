"""Square-root information: weights from information matrices by Cholesky factorization."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def square_root(
    information: Tensor,  # (..., d, d), symmetric and positive definite
    name: Callable[[int], str] = "measurement {}".format,
) -> Tensor:
    """W (..., d, d) upper triangular with W^T W = information.

    name: what to call the first bad one, by its number among all.

    Raises:
        ValueError: NaN or infinite entries, or a matrix that is not positive definite.
    """
    flat = information.reshape(-1, *information.shape[-2:])
    finite = flat.detach().isfinite().flatten(1).all(-1)
    if not bool(finite.all()):
        raise ValueError(f"information: {name(int((~finite).nonzero()[0]))} has entries that are not finite")
    L, info = torch.linalg.cholesky_ex(flat)
    if bool((info > 0).any()):
        bad = int((info > 0).nonzero()[0])
        lowest = float(torch.linalg.eigvalsh(flat[bad].detach())[0])
        count = int((info > 0).sum())
        raise ValueError(
            f"information: expected positive definite matrices, but that of {name(bad)} has the eigenvalue "
            f"{lowest:.3g} (and {count - 1} more are alike)"
        )
    return L.mT.reshape(information.shape)
