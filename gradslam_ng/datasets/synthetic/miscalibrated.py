"""A rendered sequence whose cameras are not what is told of them: two cameras, taken for one that is also off."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.datasets.synthetic import noise as sensor
from gradslam_ng.datasets.synthetic.paths import camera_path
from gradslam_ng.datasets.synthetic.render import render
from gradslam_ng.datasets.synthetic.sequence import Synthetic
from gradslam_ng.geometry import se3


class Miscalibrated(Synthetic):
    """`Synthetic` seen by a depth camera and by a color camera beside it, later in time.

    Images come as recorded, unregistered, depth in wrong units; `K` is that of the depth camera, but off. Poses are
    those of the depth camera.

    Args:
        name, **about: as for Synthetic.
        K_off: what focal lengths are multiplied by; the center is that much farther to the left and down.
        scale: what depth is multiplied by.
        shift: of the color image, pixels.
        T_color_depth: (4, 4), meters; default: 25 mm to the side, turned by half a degree.
        time_offset: seconds from depth to color.
    """

    def __init__(
        self,
        name: str = "living_room",
        *,
        K_off: float = 1.03,
        scale: float = 1.02,
        shift: tuple[float, float] = (2.0, -1.0),
        T_color_depth: Tensor | None = None,
        time_offset: float = 0.02,
        **about,
    ) -> None:
        super().__init__(name, **about)
        beside = torch.tensor([-0.025, 0, 0, 0.004, -0.003, 0.006], dtype=torch.float64, device="cpu")
        self.T_color_depth = se3.exp(beside) if T_color_depth is None else T_color_depth
        self.scale, self.time_offset = scale, time_offset
        self.K_depth, self.K_color = self.K.double(), self.K.double()
        self.K_color[:2, 2] += torch.tensor(shift, dtype=torch.float64, device="cpu")
        off = [[K_off, 1, 2 - K_off], [1, K_off, K_off], [1, 1, 1]]
        self.K = self.K * torch.tensor(off, dtype=self.K.dtype, device="cpu")
        path = about.get("path", "handheld")
        count = len(self.timestamps)
        _, self.T_w_depth = camera_path(path, self.room, count, self.seed)
        _, T_later = camera_path(path, self.room, count, self.seed, time_offset)
        self.T_w_color = T_later @ se3.inverse(self.T_color_depth)

    @torch.no_grad()
    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Color (H, W, 3) and depth (H, W, 1) of a frame, float32, each of its own camera."""
        near = render(self.scene(index), self.T_w_depth[index], self.K_depth, self.size)
        beside = render(self.scene(index), self.T_w_color[index], self.K_color, self.size)
        color, depth = beside.color.float(), near.depth.float()
        if self.noise != "none":
            seed = 1_000_003 * self.seed + index
            color, _ = sensor.kinect(color, beside.depth.float(), beside.normal.float(), self.K_color, seed)
            _, depth = sensor.kinect(near.color.float(), depth, near.normal.float(), self.K_depth, seed)
        return color, self.scale * depth
