"""Local features of a frame: keypoints with descriptors, lifted to 3D by the depth there."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gradslam_ng.geometry import images
from gradslam_ng.geometry.depth_noise import axial_sigma
from gradslam_ng.io.tensor_tree import Saveable, load_tree, save_tree
from gradslam_ng.structures import RGBDFrames

MAX_FEATURES = 1000
CONTRAST = 0.01  # of SIFT's extrema; OpenCV's 0.04 leaves too few on plain walls
ENOUGH = 50  # features with depth, without which an image counts as bare

# Of a gray image (H, W) uint8, to keypoints (N, 2), u and v, pixels, and their descriptors (N, D), floating point
Extractor = Callable[[Tensor], tuple[Tensor, Tensor]]


def sift(
    image: Tensor,  # (H, W) uint8
) -> tuple[Tensor, Tensor]:
    """The keypoints (N, 2), pixels, of greatest contrast and their RootSIFT descriptors (N, 128).

    Lowe 2004 by OpenCV; the root of the descriptors' normalized entries after Arandjelovic and Zisserman 2012. None,
    with a warning, where OpenCV is missing.
    """
    none = (
        torch.zeros(0, 2, dtype=torch.float32, device="cpu"),
        torch.zeros(0, 128, dtype=torch.float32, device="cpu"),
    )
    try:
        import cv2
    except ImportError:
        warnings.warn(
            "OpenCV is missing, so there are no local features: pip install opencv-python-headless", stacklevel=2
        )
        return none
    detector = cv2.SIFT.create(MAX_FEATURES, contrastThreshold=CONTRAST, enable_precise_upscale=True)
    keypoints, descriptors = detector.detectAndCompute(image.numpy(), None)
    if not keypoints:
        return none
    pixels = torch.tensor([keypoint.pt for keypoint in keypoints], dtype=torch.float32, device="cpu")
    return pixels, normalize(torch.from_numpy(descriptors), p=1.0).sqrt()


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Keypoints of a frame."""

    pixels: Tensor  # (N, 2), u and v
    points: Tensor  # (N, 3), meters, in the camera's frame; zero where there is no depth
    sigma: Tensor  # (N,), meters, standard deviation of the depth
    descriptors: Tensor  # (N, D), of unit length
    K: Tensor  # (3, 3)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def are_enough(self) -> bool:
        """Whether there are enough with depth for a match with another frame to be expected."""
        return int(self.has_depth.sum()) >= ENOUGH

    @property
    def has_depth(self) -> Tensor:
        """(N,) bool."""
        return self.points[:, 2] > 0


class FeatureFrame(Saveable):
    """What is kept of a frame, one byte of brightness and two of depth a pixel, until its features are asked for.

    Args:
        frame: a frame, or a batch of one.
        max_depth: depth beyond this, meters, is none.
        extract: what finds and describes keypoints, for instance a learned detector.
    """

    def __init__(self, frame: RGBDFrames, *, max_depth: float, extract: Extractor = sift) -> None:
        frame = frame[0] if frame.shape else frame
        gray = images.intensity(frame.color.detach())[..., 0].nan_to_num(0.0)
        depth = frame.depth.detach()[..., 0]
        valid = torch.isfinite(depth) & (depth > 0) & (depth <= max_depth)
        self._gray = (255 * gray).clamp(0, 255).round().byte().cpu()
        self._depth = torch.where(valid, depth, 0.0).half().cpu()  # to a thousandth
        self._K, self._extract = frame.K.detach().float().cpu(), extract
        self._features: LocalFeatures | None = None
        self._file: Path | None = None

    def to_disk(self, folder: Path) -> None:
        """What is kept of it goes to a file of a folder, which is read where its features are asked for.

        Raises:
            OSError: it cannot be written.
        """
        if self._file is None:
            path = folder.resolve() / f"{secrets.token_hex(8)}.safetensors"
            folder.mkdir(parents=True, exist_ok=True)
            save_tree(path, self, {})
            if self._features is None:
                del self._gray, self._depth
            self._file, self._features = path, None

    def saved(self) -> dict[str, Any]:
        """Its features, or its images where these were not asked for yet; where it is on disk, the file."""
        if self._file is not None:
            return {"file": str(self._file)}
        if self._features is not None:
            return {"features": self._features}
        return {"gray": self._gray, "depth": self._depth, "K": self._K}

    @classmethod
    def from_saved(cls, saved: dict[str, Any]) -> FeatureFrame:
        """The same again; features not extracted yet will be those of `sift`."""
        frame = cls.__new__(cls)
        frame._extract, frame._features = sift, saved.get("features")
        frame._file = Path(saved["file"]) if "file" in saved else None
        if not {"file", "features"} & saved.keys():
            frame._gray, frame._depth, frame._K = (saved[name] for name in ("gray", "depth", "K"))
        return frame

    @property
    def features(self) -> LocalFeatures:
        """Its features, on the CPU; the images are let go.

        Raises:
            FileNotFoundError, ValueError: it is on disk, and the file is gone or not what was written.
        """
        if self._file is not None:
            return load_tree(self._file, [FeatureFrame, LocalFeatures]).features
        if self._features is None:
            self._features = self._extracted()
            del self._gray, self._depth
        return self._features

    def _extracted(self) -> LocalFeatures:
        pixels, descriptors = self._extract(self._gray)
        height, width = self._gray.shape
        u, v = pixels.round().long().unbind(-1)
        z = self._depth[v.clamp(0, height - 1), u.clamp(0, width - 1)].float()
        x = (pixels - self._K[:2, 2]) / self._K[[0, 1], [0, 1]]
        points = torch.cat([x * z[:, None], z[:, None]], -1)
        return LocalFeatures(pixels, points, axial_sigma(z), normalize(descriptors.float(), dim=-1), self._K)
