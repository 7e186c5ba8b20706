"""The solution of a factor graph: values, error and marginal covariances."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.graph.centering import Centers, adjoint
from gradslam_ng.graph.ordering import Ordering, check_index


class GraphSolution:
    """Where the variables of a graph ended.

    solution, problem: what was solved, the graph with poses relative to `centers` (`centering`); it is linearized again
    for covariances with a gradient.
    """

    def __init__(
        self,
        ordering: Ordering,
        *,
        values: dict[str, Tensor],
        solution: optim.Solution,
        problem: optim.Problem,
        centers: Centers,
    ) -> None:
        self.centers = centers
        self.ordering, self.values, self.solution, self.problem = ordering, values, solution, problem

    def __getitem__(self, name: str) -> Tensor:
        """The variables (..., N, *event) of that name."""
        return self.values[name]

    @property
    def x(self) -> tuple[Tensor, ...]:
        """The variables, kind by kind."""
        return tuple(self.values.values())

    @property
    def error(self) -> Tensor:
        """Half the sum of robust squared residuals (...); it has a gradient by every `backward` but "detach"."""
        return self.solution.error

    def normal_matrix(self) -> Tensor | optim.BlockSparse:
        """The Gauss-Newton H (..., n, n) at the solution, with the gradient that the solution has, to updates about
        `centers`."""
        H = self.solution.H
        values = H if isinstance(H, Tensor) else H.values
        if values.requires_grad or not any(x.requires_grad for x in self.x):
            return H
        return self.problem.linearize(self.solution.x)[0]  # the ways back that record no iteration leave H a constant

    def covariance(
        self,
        name: str,
        index: Tensor | Sequence[int],  # (K,)
    ) -> Tensor:
        """Marginal covariances (..., K, n, n) of K variables, in their tangents; zero of one that is fixed.

        The inverse of the Gauss-Newton H at the solution, solved for a column at a time. It has a gradient wherever the
        solution has one, by every `backward` but "detach".
        """
        H, g, n = self.normal_matrix(), self.solution.g, self.ordering.n
        index = check_index(self.ordering.counts, name, index, self.values[name].device)
        places = self.ordering.columns(name, index)  # (K, d), n where fixed
        rows = torch.arange(places.numel(), device=places.device)
        columns = g.new_zeros(n + 1, places.numel())
        columns[places.flatten(), rows] = 1.0
        columns = columns[:-1].expand(*g.shape[:-1], -1, -1)
        solved = torch.linalg.solve(H, columns) if isinstance(H, Tensor) else H.factor().solve_columns(columns)
        solved = torch.nn.functional.pad(solved, (0, 0, 0, 1)).unflatten(-1, tuple(places.shape))  # (..., n + 1, K, d)
        which, axis = (torch.arange(size, device=places.device) for size in places.shape)
        covariance = solved[..., places[:, :, None], which[:, None, None], axis]
        if name not in self.centers:
            return covariance
        to_world = adjoint(self.centers[name])
        return to_world @ covariance @ to_world.mT
