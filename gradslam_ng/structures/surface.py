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
        intensity = None if self.intensity is None else self.blurred(step)[pick].contiguous()
        return Surface(vertices, normals, weights, K, intensity)

    def blurred(self, step: int) -> Tensor:
        """Intensity (B, H, W) as sharp as the camera of `subsampled(step)` sees it: at every pixel a mean of what is
        seen around."""
        if step == 1:
            return self.intensity
        seen = (self.weights > 0).to(self.intensity.dtype)
        images = torch.stack([self.intensity * seen, seen], 1)
        total, share = avg_pool2d(images, 2 * step - 1, stride=1, padding=step - 1).unbind(1)
        return torch.where(share > 0, total / torch.where(share > 0, share, 1.0), 0.0)
