"""Surface reconstruction metrics: accuracy, completion and F-score (Knapitsch et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.evaluation import mesh as meshes
from gradslam_ng.evaluation.statistics import Statistics, as_errors
from gradslam_ng.geometry import camera, se3
from gradslam_ng.structures import RGBDFrames


@dataclass(frozen=True, eq=False)
class SurfaceErrors:
    """Comparison of reconstructed points with the true surface (Knapitsch et al. 2017)."""

    accuracy: Statistics  # from each point to the surface, meters
    completion: Statistics  # from each sample of the surface to the nearest point, meters
    threshold: float  # meters
    precision: float  # fraction of points within the threshold of the surface
    recall: float  # fraction of the surface within the threshold of a point
    f_score: float  # harmonic mean of the two

    def summary(self) -> dict[str, float | dict[str, float]]:
        """The figures without the errors themselves, for tables and JSON."""
        figures = {name: getattr(self, name) for name in ("threshold", "precision", "recall", "f_score")}
        return {"accuracy": self.accuracy.summary(), "completion": self.completion.summary(), **figures}


@mode_free
def surface(
    points: Tensor,  # (N, 3), meters
    mesh: meshes.Mesh,
    seen: Tensor | None = None,  # (M,) bool
    threshold: float = 0.01,
    spacing: float = 0.01,
) -> SurfaceErrors:
    """Accuracy, completion and F-score of points (N, 3), meters, in the frame of the mesh.

    Accuracy is exact (`mesh.distance`); completion is taken at `sample_mesh(mesh, spacing)`, each sample standing for
    the same area.

    Args:
        seen: (M,) bool, the samples that count for completion, such as `seen_samples` finds; default all.
        threshold: distance within which a point counts as right and a sample as covered, meters.
        spacing: between samples, meters.

    Raises:
        ValueError: no points, points that are not finite, a bad mesh, or a mask that does not fit the samples or has
            none of them.
    """
    if points.ndim != 2 or points.shape[-1] != 3 or not len(points):
        raise ValueError(f"points: expected shape (N, 3) with N > 0, got {tuple(points.shape)}")
    if not points.isfinite().all():
        raise ValueError(f"points: {int((~points.isfinite().all(-1)).sum())} of {len(points)} are not finite")
    samples = meshes.sample_mesh(mesh, spacing)
    if seen is not None:
        if seen.shape != samples.shape[:1] or seen.dtype != torch.bool or not seen.any():
            raise ValueError(
                f"seen: expected a bool mask of the {len(samples)} samples at spacing {spacing}, some of them True, "
                f"got {seen.dtype} {tuple(seen.shape)}"
            )
        samples = samples[seen.cpu()]
    points = points.detach().to("cpu", torch.float64)
    accuracy = Statistics(as_errors(meshes.distance(points, mesh)))
    from scipy.spatial import cKDTree  # late: a second of importing that only this needs

    completion = Statistics(as_errors(torch.as_tensor(cKDTree(points.numpy()).query(samples.numpy(), workers=-1)[0])))

    precision = (accuracy.errors <= threshold).double().mean().item()
    recall = (completion.errors <= threshold).double().mean().item()
    f_score = 2 * precision * recall / max(precision + recall, 1e-12)
    return SurfaceErrors(accuracy, completion, threshold, precision, recall, f_score)


@mode_free
def seen_samples(
    samples: Tensor,  # (M, 3), meters
    frames: Iterable[RGBDFrames],
    tolerance: float = 0.02,
) -> Tensor:
    """Which points of the surface (M, 3) the camera has measured: (M,) bool.

    A sample is seen in a frame if it falls on a pixel whose depth agrees with its own to within `tolerance` meters.
    `frames` have no leading axes and carry true poses and, for an answer free of noise, true depth.
    """
    seen = torch.zeros(len(samples), dtype=torch.bool, device=samples.device)
    for frame in frames:
        T_wc, K = frame.T_wc.to(samples), frame.K.to(samples)
        uv, z = camera.project(se3.transform(se3.inverse(T_wc), samples), K)
        u, v = uv.round().unbind(-1)
        height, width = frame.size
        inside = (z > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        pixel = torch.where(inside, v * width + u, 0).long()
        depth = frame.depth.to(samples).flatten()[pixel]
        seen |= inside & (depth > 0) & ((depth - z).abs() <= tolerance)
    return seen
