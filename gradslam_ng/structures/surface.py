"""What a camera sees of a surface: a live frame, or a map rendered from somewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d


@dataclass(frozen=True, eq=False)
class Surface:
    """Vertex and normal maps of one view per batch element, in the frame of their camera.

    weights say how far each pixel is to be trusted: 0 where nothing is seen.
    """

    vertices: Tensor  # (B, H, W, 3), metres, zero where nothing is seen
    normals: Tensor  # (B, H, W, 3), unit, towards the camera, zero where undefined
    weights: Tensor  # (B, H, W)
    K: Tensor  # (B, 3, 3)
    intensity: Tensor | None = None  # (B, H, W), in [0, 1]; None where brightness plays no part

    @property
    def size(self) -> tuple[int, int]:
        return self.vertices.shape[-3], self.vertices.shape[-2]

    def where(self, chosen: Tensor, other: Surface) -> Surface:
        """This surface for the batch elements for which chosen (B,) holds, `other` elsewhere."""

        def pick(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(chosen.reshape(-1, *(1,) * (mine.ndim - 1)), mine, theirs)

        return Surface(
            pick(self.vertices, other.vertices), pick(self.normals, other.normals),
            pick(self.weights, other.weights), pick(self.K, other.K),
            None if self.intensity is None or other.intensity is None else pick(self.intensity, other.intensity),
        )  # fmt: skip

    def subsampled(self, step: int) -> Surface:
        """Every `step`-th pixel of every `step`-th row, the camera's K with it."""
        if step == 1:
            return self
        first = step // 2
        K = self.K.clone()
        K[..., :2, :2] = self.K[..., :2, :2] / step
        K[..., :2, 2] = (self.K[..., :2, 2] - first) / step
        pick = (slice(None), slice(first, None, step), slice(first, None, step))
        vertices, normals, weights = (image[pick].contiguous() for image in (self.vertices, self.normals, self.weights))
        return Surface(vertices, normals, weights, K, None if self.intensity is None else self._blurred(step))

    def _blurred(self, step: int) -> Tensor:
        """Intensity at the pixels of `subsampled(step)`, each a mean of what is seen around it."""
        seen = (self.weights > 0).to(self.intensity.dtype)
        window = {"kernel_size": 2 * step - 1, "stride": step, "padding": step - 1 - step // 2, "ceil_mode": True}
        total, share = avg_pool2d(torch.stack([self.intensity * seen, seen], 1), **window).unbind(1)
        return torch.where(share > 0, total / torch.where(share > 0, share, 1.0), 0.0)
