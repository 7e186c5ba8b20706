"""A camera recorded into a folder that `datasets.load` reads: whole at any moment, whatever ends the recording."""

from __future__ import annotations

import json
import queue
import threading
from pathlib import Path

from gradslam_ng.cameras.camera import LiveCamera, Shot
from gradslam_ng.datasets.export import new_folder
from gradslam_ng.io.atomic import write_whole

WAITING = 90  # shots that may wait for the disk, about 130 MB at 640x480


class Recorder:
    """Writes shots to `color/` and `depth/`, named by their time stamps, in a thread of its own; a `with` statement
    ends it when all is written.

    The camera's file comes first, and an image has its name only when it is whole, depth before color: if the process
    is killed, what the folder holds can be loaded.

    Args:
        folder: is made; must be empty if it is there.
        camera: whose shots come.
        jpeg: quality of color as JPEG, 1 to 100; default PNG, without loss.

    Raises:
        FileExistsError: something is in the folder already.
        ValueError: a quality out of range.
    """

    def __init__(self, folder: Path, *, camera: LiveCamera, jpeg: int | None = None) -> None:
        if jpeg is not None and not 1 <= jpeg <= 100:
            raise ValueError(f"jpeg: expected a quality of 1 to 100, got {jpeg}")
        self.folder, self.jpeg = new_folder(folder), jpeg
        for name in ("color", "depth"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (fx, _, cx), (_, fy, cy), _ = camera.K.tolist()
        height, width = camera.size
        text = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height}
        text |= {"depth_scale": round(camera.depth_scale, 6)}
        write_whole(self.folder / "intrinsics.json", json.dumps(text, indent=2) + "\n")
        self.written = 0
        self.dropped = 0  # shots for which the disk was too slow
        self.error: Exception | None = None
        self._queue: queue.Queue[Shot | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write_all, name="recorder")
        self._thread.start()

    def add(self, shot: Shot) -> None:
        """Have a shot written, or count it as dropped where too many wait.

        Raises:
            OSError: an earlier one could not be written.
        """
        if self.error is not None:
            raise self.error
        if self._queue.full():
            self.dropped += 1
        else:
            self._queue.put(shot)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while (shot := self._queue.get()) is not None:
            if self.error is None:
                try:
                    self._write(shot)
                    self.written += 1
                except OSError as error:
                    self.error = error

    def _write(self, shot: Shot) -> None:
        import cv2  # late: it takes long to load

        fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        name = f"{shot.seconds:.6f}"
        self._write_image(self.folder / "depth" / f"{name}.png", shot.depth, fast)
        bgr = cv2.cvtColor(shot.color, cv2.COLOR_RGB2BGR)
        suffix, options = ("png", fast) if self.jpeg is None else ("jpg", [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])
        self._write_image(self.folder / "color" / f"{name}.{suffix}", bgr, options)

    @staticmethod
    def _write_image(path: Path, pixels, options: list[int]) -> None:
        """The whole file at once under its name."""
        import cv2

        done, data = cv2.imencode(path.suffix, pixels, options)
        if not done:
            raise OSError(f"{path}: the image could not be encoded")
        write_whole(path, data.tobytes())
