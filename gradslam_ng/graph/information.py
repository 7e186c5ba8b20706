"""How sure a measurement is: information matrices as weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradslam_ng.geometry import se3
from gradslam_ng.optim.costs import FullWeight


def square_root(information: Tensor, name: Callable[[int], str] = "measurement {}".format) -> Tensor:
    """W (..., d, d) upper triangular with W^T W = information (..., d, d), symmetric and positive definite.

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


def alignment_weight(H: Tensor, T_ij: Tensor, floor: float = 1e-6) -> FullWeight:
    """The weight of `Between` for a motion T_ij (..., 4, 4) found by alignment, H (..., 6, 6) its normal equations.

    H is the information of a left update of T_ij, as ICP has it; `Between` measures its error from the right, so
    W_right = W_left Ad(T_ij). `floor`: share of H's largest diagonal entry added, for directions that it did not see.
    """
    lift = floor * H.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
    H = H + lift * torch.eye(6, dtype=H.dtype, device=H.device)
    return FullWeight(square_root(H) @ se3.adjoint(T_ij))
