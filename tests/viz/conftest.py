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
CROWDED = ["--disable-dev-shm-usage"]  # a container's /dev/shm is soon full
PATIENCE = 120  # seconds that anything in the browser may take: other tests run beside it


@pytest.fixture(scope="package")
def browser() -> Iterator:
    """Chromium without a display; WebGL is drawn by the processor."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with the extra `test`")
    if CHROMIUM is None:
        pytest.skip("no chromium to look at the page with (Debian, Ubuntu: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=WEBGL + CROWDED)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable]:
    """Function (url, width, height, asked) -> a page; what it asks for is appended to a list. All are closed after the
    test, whatever became of it.

    A page left open would go on drawing, and look for its server again on the port of the next.
    """
    contexts = []

    def open_(url: str, width: int, height: int, asked: list[str] | None = None):
        context = browser.new_context(viewport={"width": width, "height": height})  # set later, it may come too late
        contexts.append(context)
        context.set_default_timeout(1000 * PATIENCE)
        page = context.new_page()
        if asked is not None:
            page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="package")
def until() -> Callable[..., bool]:
    """Function (holds) -> whether it holds, or comes to hold before patience ends."""
    return hold_soon


def hold_soon(holds: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.3)
    return found


@pytest.fixture(scope="package")
def at_rest() -> Callable:
    """Function (measure) -> what it measures, an array or number, once that no longer changes within a second."""

    def measure_twice(measure: Callable):
        last = [None, measure()]

        def is_same() -> bool:
            time.sleep(1)
            last[:] = last[1], measure()
            return np.array_equal(*last)

        assert hold_soon(is_same)
        return last[1]

    return measure_twice


@pytest.fixture(scope="package")
def red_pixels() -> Callable[..., np.ndarray]:
    """Function (page) -> (K, 2) rows and columns of the pixels of a screenshot that are red."""

    def find(page) -> np.ndarray:
        image = iio.imread(io.BytesIO(page.screenshot()))[..., :3].astype(int)
        return np.argwhere((image[..., 0] > 180) & (image[..., 1:] < 90).all(-1))

    return find
