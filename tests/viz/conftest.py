"""A browser without a display, and what is seen in it."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterator

import imageio.v3 as iio
import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WEBGL = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


@pytest.fixture(scope="package")
def browser() -> Iterator:
    """Chromium without a display; WebGL is drawn by the processor."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with the extra `test`")
    if CHROMIUM is None:
        pytest.skip("no chromium to look at the page with (Debian, Ubuntu: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=WEBGL)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def until() -> Callable[..., bool]:
    """Function (holds) -> whether it holds, or comes to hold within a minute."""
    return hold_soon


def hold_soon(holds: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.3)
    return found


@pytest.fixture(scope="package")
def red_pixels() -> Callable[..., np.ndarray]:
    """Function (page) -> (K, 2) rows and columns of the pixels of a screenshot that are red."""

    def find(page) -> np.ndarray:
        image = iio.imread(io.BytesIO(page.screenshot()))[..., :3].astype(int)
        return np.argwhere((image[..., 0] > 180) & (image[..., 1:] < 90).all(-1))

    return find
