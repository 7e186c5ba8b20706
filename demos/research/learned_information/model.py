"""ICP alignments between frames, and models of their information: Hessian, uniform, learned (Yi et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ProjectiveICP, association
from gradslam_ng.odometry.point_to_plane import PointToPlaneFactor
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import LiveFrame

SPANS = (1, 2, 4, 8)  # frames from one end of an edge to the other
FAR_APART = {"iterations": (8, 6, 4), "max_distance": 0.2, "row_stride": 1}  # what images of frames eight apart want
WIDTH = 80  # pixels across, of recordings: every edge is an alignment, and there are many
REACH = 2.0  # meters: a turn of one radian moves what is seen about so far
FEATURES = 6
TURNS = torch.tensor([1.0] * 3 + [REACH] * 3, dtype=torch.float64)


@dataclass(frozen=True)
class Edges:
    """Alignments of the frames of B sequences of N, M each, float64."""

    i: Tensor  # (M,)
    j: Tensor  # (M,)
    T_ij: Tensor  # (B, M, 4, 4)
    H: Tensor  # (B, M, 6, 6), of an update of T_ij from the right, turns in units of 1 / REACH radians
    evidence: Tensor  # (B, M, 3), see `evidence`
    ok: Tensor  # (B, M) bool
    truth: Tensor  # (B, N, 4, 4), the first pose at the origin

    def __getitem__(self, which: Tensor | slice) -> Edges:
        """Some of the sequences."""
        return Edges(self.i, self.j, *(getattr(self, field.name)[which] for field in fields(self)[2:]))

    @staticmethod
    def concatenate(parts: list[Edges]) -> Edges:
        rest = (torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Edges)[2:])
        return Edges(parts[0].i, parts[0].j, *rest)


@torch.no_grad()
def align(frames: gs.RGBDFrames, T_wc: Tensor, odometer: ProjectiveICP | None = None) -> Edges:
    """All edges of one sequence; frames (N, H, W, C), T_wc (N, 4, 4) the truth."""
    odometer = ProjectiveICP(photometric=False, **FAR_APART) if odometer is None else odometer
    live = measure_surface(frames, factor=max(1, frames.size[1] // WIDTH))
    count = len(T_wc)
    origin = torch.eye(4)[None].expand(count, 4, 4)
    parts, chained = [], None
    for span in (span for span in SPANS if span < count):
        i, j = torch.arange(count - span), torch.arange(span, count)
        start = origin[i] if chained is None else se3.inverse(chained[i]) @ chained[j]
        images = (live.color[j], live.depth[j], live.sigma[j])
        model, frame = take(live.surface, i), LiveFrame(take(live.surface, j), *images, None)
        found = odometer(frame, model.with_pose(origin[i]), start)
        if chained is None:
            chained = [torch.eye(4)]
            for T in found.T_wc:
                chained.append(chained[-1] @ T)
            chained = torch.stack(chained)
        factor = odometer.build_level(frame, frame.surface, model).geometry
        H, _, _ = factor.linearize(found.T_wc)
        seen = evidence(factor, found.T_wc)
        turn = se3.adjoint(found.T_wc.double()) / TURNS
        H = turn.mT @ (H * factor.total_information[:, None, None]).double() @ turn
        parts.append((i, j, found.T_wc.double(), H, seen.double(), found.ok))
    i, j, *rest = (torch.cat(part) for part in zip(*parts, strict=True))
    truth = T_wc.double()
    return Edges(i, j, *(part[None] for part in rest), (se3.inverse(truth[:1]) @ truth)[None])


def evidence(factor: PointToPlaneFactor, T_mc: Tensor) -> Tensor:
    """Of the vertices of each frame (B, 3): the share that meets something in the model; of those, the share within 3
    standard deviations of its plane, and the root mean square distance from that, at most 10, in those deviations."""
    information = factor.live.information
    p = se3.transform_soa(T_mc, factor.live.vertices.unbind(-1))
    d, n, _, candidate = association.lookup_pixel(p, factor.model)
    known = information > 0
    met = (candidate & known).to(information.dtype)
    r = (sum(a * b for a, b in zip(d, n, strict=True)).abs() * information.sqrt()).clamp(max=10.0)
    count = met.sum(-1).clamp(min=1)
    agreed = (met * (r < 3)).sum(-1) / count
    square = (met * r.square()).sum(-1) / count
    return torch.stack([met.sum(-1) / known.sum(-1).clamp(min=1), agreed, square.sqrt()], -1)


def take(surface, which: Tensor):
    return surface.map(lambda image: image[which])


class Hessian:
    """Information as the normal equations have it, perhaps divided by the variance of the residuals."""

    def __init__(self, by_residual: bool = False) -> None:
        self.by_residual = by_residual

    def __call__(self, edges: Edges) -> Tensor:
        L, V = spectrum(edges)
        if self.by_residual:
            L = L / edges.evidence[..., 2:].square()
        return square_root(edges, L, V)


class Uniform:
    """All alignments the same, so many radians as meters."""

    def __call__(self, edges: Edges) -> Tensor:
        L, V = spectrum(edges)
        return square_root(edges, torch.full_like(L, 1e4), V)


class Learned(nn.Module):
    """What the normal equations say times a factor for each of their directions; at the start that is 1."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, channels), nn.Tanh(), nn.Linear(channels, channels), nn.Tanh())
        self.last = nn.Linear(channels + FEATURES, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, edges: Edges) -> Tensor:
        L, V = spectrum(edges)
        seen = features(edges, L, V)
        logarithm = self.last(torch.cat([self.layers(seen), seen], -1))[..., 0]
        return square_root(edges, L * logarithm.clamp(-12, 12).exp(), V)


Information = Callable[[Edges], Tensor]


def spectrum(edges: Edges) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, M, 6), none below 1e-6 of the largest, and directions (B, M, 6, 6)."""
    L, V = torch.linalg.eigh(edges.H)
    return L.clamp(min=1.0).maximum(1e-6 * L[..., -1:]), V


def features(edges: Edges, L: Tensor, V: Tensor) -> Tensor:
    """What the network sees of each direction (B, M, 6, F), each of the order of 1."""
    turn = V[..., 3:, :].square().sum(-2)
    overlap, agreed, residual = edges.evidence.unbind(-1)
    overlap = 3 * overlap.clamp(min=0.05).log() + 1
    astray = (1 - agreed + 0.01).log() + 2
    residual = 2 * residual.clamp(min=0.1).log() - 1
    whole = (L.log().mean(-1) - 12) / 2
    each = (L.log() - 12) / 2
    rest = (part[..., None].expand_as(L) for part in (overlap, astray, residual, whole))
    return torch.stack([each, turn - 0.5, *rest], -1)


def square_root(edges: Edges, L: Tensor, V: Tensor) -> Tensor:
    """W (B, M, 6, 6) with W^T W = V diag(L) V^T, in meters and radians; next to nothing where ICP was lost."""
    L = torch.where(edges.ok[..., None], L, 1.0)
    return L.sqrt()[..., None] * V.mT * TURNS
