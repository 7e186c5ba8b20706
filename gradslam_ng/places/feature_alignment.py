"""Rigid motion between two frames from matches of their local features: RANSAC, then least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.geometry import camera, se3, so3
from gradslam_ng.places.features import FeatureFrame, LocalFeatures

RATIO = 0.85  # of the distances to the nearest and to the second nearest descriptor (Lowe 2004)
HYPOTHESES = 256
MIN_DEPTH = 1e-3  # meters, of what a camera sees
PIXEL_SIGMA = 1.0  # of keypoints, pixels
GATE = 3.0  # standard deviations
KERNEL = optim.Cauchy(GATE / 2)
MIN_INLIERS = 12  # matches that agree; of 256 draws from wrong ones hardly ever do more than 6


class Motion(NamedTuple):
    """The motion between two frames, and what says so."""

    T_ab: Tensor  # (4, 4) float64
    inliers: int  # matches that agree with it


def match_descriptors(
    a: Tensor,  # (N, D), of unit length
    b: Tensor,  # (M, D), of unit length
) -> tuple[Tensor, Tensor]:
    """Indices (P,) into a and into b of mutual nearest neighbors that pass the ratio test."""
    if len(a) < 2 or len(b) < 2:
        none = torch.zeros(0, dtype=torch.long, device=a.device)
        return none, none
    similarity = a @ b.mT
    best, nearest = similarity.topk(2, dim=1)  # of each a
    distance = (2 - 2 * best).clamp(min=0).sqrt()
    mutual = similarity.argmax(0)[nearest[:, 0]] == torch.arange(len(a), device=a.device)
    kept = (mutual & (distance[:, 0] < RATIO * distance[:, 1])).nonzero()[:, 0]
    return kept, nearest[kept, 0]


@dataclass(frozen=True, eq=False)
class Matches:
    """Matched features of two frames; a residual of a match is its keypoint's distance from where the other frame's
    point appears, and the difference of depths, in standard deviations."""

    points_a: Tensor  # (P, 3), meters
    points_b: Tensor  # (P, 3)
    pixels_a: Tensor  # (P, 2)
    pixels_b: Tensor  # (P, 2)
    sigma: Tensor  # (P,), meters, of the difference of depths
    K_a: Tensor  # (3, 3)
    K_b: Tensor  # (3, 3)

    @property
    def known(self) -> Tensor:
        """(P, 5) bool: the residuals that exist, by the depths that they need."""
        a, b = self.points_a[:, 2] > 0, self.points_b[:, 2] > 0
        return torch.stack([a, a, b, b, a & b], -1)

    def residuals(
        self,
        T_ba: Tensor,  # (..., 4, 4)
    ) -> Tensor:
        """(..., P, 5): pixels in b, pixels in a, and depth in b; 0 where a frame has no depth."""
        in_b, in_a = se3.transform(T_ba, self.points_a), se3.transform(se3.inverse(T_ba), self.points_b)
        off_b = (project_safely(in_b, self.K_b) - self.pixels_b) / PIXEL_SIGMA
        off_a = (project_safely(in_a, self.K_a) - self.pixels_a) / PIXEL_SIGMA
        off_z = (in_b[..., 2:] - self.points_b[:, 2:]) / self.sigma[:, None]
        return torch.where(self.known, torch.cat([off_b, off_a, off_z], -1), 0.0)

    def jacobian(
        self,
        T_ba: Tensor,  # (..., 4, 4)
    ) -> Tensor:
        """(..., P, 5, 6), of the residuals to a left update of T_ba."""
        T_ab = se3.inverse(T_ba)
        in_b, in_a = se3.transform(T_ba, self.points_a), se3.transform(T_ab, self.points_b)
        moved_b = point_jacobian(in_b)  # of a point to a left update of its pose
        moved_a = -T_ab[..., None, :3, :3] @ point_jacobian(self.points_b.expand_as(in_a))
        off_b = projection_jacobian(in_b, self.K_b) @ moved_b / PIXEL_SIGMA
        off_a = projection_jacobian(in_a, self.K_a) @ moved_a / PIXEL_SIGMA
        off_z = moved_b[..., 2:, :] / self.sigma[:, None, None]
        return torch.where(self.known[..., None], torch.cat([off_b, off_a, off_z], -2), 0.0)

    def linearize(
        self,
        T_ba: Tensor,  # (B, 4, 4)
        /,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """H (B, 6, 6) and g (B, 6) to a left update of T_ba, and the robust error (B)."""
        r, J = self.residuals(T_ba), self.jacobian(T_ba)
        square = r.square().sum(-1)
        wJ = (KERNEL.weight(square)[..., None, None] * J).flatten(-3, -2)
        H, g = wJ.mT @ J.flatten(-3, -2), (wJ.mT @ r.flatten(-2)[..., None])[..., 0]
        return H, g, 0.5 * KERNEL.rho(square).sum(-1)

    def error(
        self,
        T_ba: Tensor,  # (B, 4, 4)
        /,
    ) -> Tensor:
        """The robust error (B)."""
        return 0.5 * KERNEL.rho(self.residuals(T_ba).square().sum(-1)).sum(-1)

    def subset(
        self,
        chosen: Tensor,  # (P,) bool
    ) -> Matches:
        """Some of them."""
        points = self.points_a[chosen], self.points_b[chosen]
        pixels = self.pixels_a[chosen], self.pixels_b[chosen]
        return Matches(*points, *pixels, self.sigma[chosen], self.K_a, self.K_b)

    def agree(
        self,
        T_ba: Tensor,  # (..., 4, 4)
    ) -> Tensor:
        """(..., P) bool: all residuals of a match within the gate."""
        r = self.residuals(T_ba)
        pixels = torch.stack([r[..., 0:2].norm(dim=-1), r[..., 2:4].norm(dim=-1)], -1).amax(-1)
        return (pixels < GATE) & (r[..., 4].abs() < GATE)


def project_safely(
    points: Tensor,  # (..., 3)
    K: Tensor,  # (3, 3)
) -> Tensor:
    """Pixels (..., 2); far outside any image for what is not before the camera."""
    pixels, z = camera.project(points, K)
    return torch.where(z[..., None] > MIN_DEPTH, pixels, 1e6)


def projection_jacobian(
    points: Tensor,  # (..., 3)
    K: Tensor,  # (3, 3)
) -> Tensor:
    """(..., 2, 3), of the pixels of points to the points; 0 for what is not before the camera."""
    x, y, z = points.unbind(-1)
    near = (z > MIN_DEPTH).to(z.dtype) / z.clamp(min=MIN_DEPTH)
    u = torch.stack([K[0, 0] * near, torch.zeros_like(z), -K[0, 0] * x * near**2], -1)
    v = torch.stack([torch.zeros_like(z), K[1, 1] * near, -K[1, 1] * y * near**2], -1)
    return torch.stack([u, v], -2)


def point_jacobian(
    points: Tensor,  # (..., 3)
) -> Tensor:
    """(..., 3, 6), of points T p to a left update of T."""
    eye = torch.eye(3, dtype=points.dtype, device=points.device).expand(*points.shape, 3)
    return torch.cat([eye, -so3.hat(points)], -1)


def match(a: LocalFeatures, b: LocalFeatures) -> Matches:
    """The matches of which one frame at least has depth."""
    i, j = match_descriptors(a.descriptors, b.descriptors)
    lifted = a.has_depth[i] | b.has_depth[j]
    i, j = i[lifted], j[lifted]
    sigma = (a.sigma[i].square() + b.sigma[j].square()).sqrt() + 0.005  # keypoints sit on edges of depth
    pixels = a.pixels[i].double(), b.pixels[j].double()
    points = a.points[i].double(), b.points[j].double()
    return Matches(*points, *pixels, sigma.double(), a.K.double(), b.K.double())


def fit_rigid(
    p: Tensor,  # (..., N, 3)
    q: Tensor,  # (..., N, 3)
) -> Tensor:
    """T (..., 4, 4) with T p nearest to q in the least squares (Kabsch 1976; Umeyama 1991)."""
    mean_p, mean_q = p.mean(-2, keepdim=True), q.mean(-2, keepdim=True)
    R = so3.nearest_rotation((q - mean_q).mT @ (p - mean_p))
    T = torch.eye(4, dtype=p.dtype, device=p.device).expand(*p.shape[:-2], 4, 4).clone()
    T[..., :3, :3], T[..., :3, 3] = R, (mean_q.mT - R @ mean_p.mT)[..., 0]
    return T


def estimate_motion(a: LocalFeatures, b: LocalFeatures) -> Motion | None:
    """The motion T_ab that most matches agree with, by RANSAC (Fischler and Bolles 1981) on three points each; None
    where they are too few.

    The same features give the same motion: draws are seeded.
    """
    matches = match(a, b)
    both = ((matches.points_a[:, 2] > 0) & (matches.points_b[:, 2] > 0)).nonzero()[:, 0]
    if len(both) < MIN_INLIERS:
        return None
    generator = torch.Generator("cpu").manual_seed(0)
    draws = (
        torch.rand(HYPOTHESES, len(both), generator=generator, device="cpu", dtype=torch.float32).topk(3, dim=1).indices
    )
    chosen = both[draws]
    T_ba = fit_rigid(matches.points_a[chosen], matches.points_b[chosen])
    count = matches.agree(T_ba).sum(-1)
    if int(count.max()) < MIN_INLIERS // 2:  # as wrong ones have; refinement does not double that
        return None
    T_ba = refine(matches, T_ba[count.argmax()])
    inliers = int(matches.agree(T_ba).sum())
    return None if inliers < MIN_INLIERS else Motion(se3.inverse(T_ba), inliers)


def refine(
    matches: Matches,
    T_ba: Tensor,  # (4, 4)
) -> Tensor:
    """T_ba (4, 4) that minimizes the robust residuals of all matches near to it."""
    near = matches.residuals(T_ba).abs().amax(-1) < 3 * GATE
    problem = optim.Sum(matches.subset(near), variable=optim.SE3())
    found = optim.solve(problem, T_ba[None], strategy=optim.LevenbergMarquardt(), iterations=6)
    return cast(Tensor, found.x)[0]


def locate(
    known: FeatureFrame,
    T_wk: Tensor,  # (1, 4, 4)
    image: FeatureFrame,
) -> Tensor | None:
    """The pose (1, 4, 4) of an image that shows the same as one seen from T_wk; None where too few features say so."""
    motion = estimate_motion(known.features, image.features)
    return None if motion is None else (T_wk.double() @ motion.T_ab.to(T_wk.device)).to(T_wk)
