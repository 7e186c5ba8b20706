"""What does `run --view` cost a run? `python -m benchmarks.view_cost [--sequence FOLDER]`.

One run of PointFusion over frames in memory, there and back again, each time a block, so that all blocks are of the
same frames: in every second one the page is updated as `run --view` does it, in the others it is not. Somebody looks: a
client in a process of its own reads all that the server sends (a browser would want the same cores for drawing, which
is the browser's cost). Ratios are those of two neighboring blocks, of the mean time of a frame and of the processor
time of all threads; the first two blocks warm up and do not count. On a machine that does other work ratios scatter;
`page_share` hardly does: the processor time of updates and of the page's own threads, over that of all threads in the
blocks with the page. It leaves out what the page costs others by waiting for it.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from statistics import median

import numpy as np
import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import save, working_size
from gradslam_ng.commands.live import LiveView
from gradslam_ng.commands.recording import image_reader
from gradslam_ng.datasets import RGBDSequence, Samples
from gradslam_ng.slam import State
from gradslam_ng.slam.stream import Stream
from gradslam_ng.viz.browser import BrowserView

CLIENT = """
import asyncio, sys, viser, websockets
async def read():
    protocol = [f"viser-v{viser.__version__}"]
    async with websockets.connect(sys.argv[1], subprotocols=protocol, max_size=None, compression=None) as server:
        count = 0
        async for message in server:
            count += len(message)
            print(count, flush=True)
asyncio.run(read())
"""


class Alternating:
    """Called after each frame: updates the page in every second block, and keeps the time of each block."""

    def __init__(self, live: LiveView, block: int, threads: set[threading.Thread]) -> None:
        self.live, self.block, self.threads = live, block, threads
        self.stream: Stream | None = None
        self.frames = 0
        self.updating = 0.0  # seconds of the processor, of the run's thread, after the first two blocks
        self.serving_before = 0.0  # those of the page's threads, by then
        self.starts: list[tuple[float, float]] = []  # of the blocks, and the end: seconds, and those of processors

    def __call__(self, index: int, state: State) -> None:
        if self.frames % self.block == 0:
            self.starts.append((time.perf_counter(), time.process_time()))
        if self.frames == 2 * self.block:
            self.updating, self.serving_before = 0.0, self.serving()
        self.frames += 1
        if len(self.starts) % 2:
            began = time.thread_time()
            self.live.update(self.stream, f"frame {index + 1}")
            self.updating += time.thread_time() - began

    def serving(self) -> float:
        """Seconds of the processor that the page's threads have taken."""
        return sum(time.clock_gettime(time.pthread_getcpuclockid(each.ident)) for each in self.threads if each.ident)

    def page_share(self) -> float:
        """Of the processor time of the blocks with the page, what it takes itself."""
        return (self.updating + self.serving() - self.serving_before) / sum(self.blocks(1)[::2])

    def blocks(self, clock: int) -> list[float]:
        """Seconds of each block but the first two, by the first clock, or of processors by the second."""
        return [after[clock] - before[clock] for before, after in itertools.pairwise(self.starts)][2:]

    def ratio(self, clock: int) -> dict[str, float]:
        """With the page over without it, of pairs of neighboring blocks."""
        seconds = self.blocks(clock)
        found = [a / b for a, b in zip(seconds[::2], seconds[1::2], strict=False)]
        return {"median": median(found), "lowest": min(found), "highest": max(found)}


def in_memory(source: RGBDSequence, times: int) -> RGBDSequence:
    """Its frames there and back again, so many times."""
    arrays = []
    for frame in source:
        depth = (1000 * frame.depth[..., 0]).round().numpy().astype(np.uint16)
        arrays.append({"color": (255 * frame.color).byte().numpy(), "depth": depth})
    turn = [*range(len(arrays)), *range(len(arrays) - 2, 0, -1)]
    return Samples([arrays[i] for i in turn * times], K=source.K.numpy(), name=source.name)


def view_cost(sequence: str = "datasets/living_room", frames: int = 26, blocks: int = 18, compile: bool = True) -> dict:
    """Time of a frame with and without the page.

    Args:
        sequence: Folder of a sequence, or synthetic:NAME.
        frames: The first so many are run through, there and back.
        blocks: How many times, the first two of which do not count.
        compile: Compiled functions, as in a long run.
    """
    once, block = gs.datasets.load(sequence)[:frames], 2 * frames - 2
    source = in_memory(once, blocks)
    slam = gs.PointFusion()
    others = set(threading.enumerate())
    page = BrowserView(source.name, port=8200, K=source.K, size=source.size, images=image_reader(source))
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, page.url.replace("http", "ws")], stdout=subprocess.PIPE, text=True
    )
    page.show(page.scene)
    watch = Alternating(LiveView(page), block, set(threading.enumerate()) - others)
    watch.stream = Stream(slam, sequence=source, on_frame=watch, compile=compile, loops=None, relocalizer=None)
    result = watch.stream.run()
    share = watch.page_share()
    page.close()
    client.kill()
    received = client.stdout.read().split() if client.stdout is not None else []
    figures = {
        "sequence": source.name,
        "size": f"{source.size[1]}x{source.size[0]}",
        "working_size": working_size(source.size, slam),
        "compiled": compile,
        "frames": blocks * block,
        "tracked": int(result.tracked.sum()),
        "milliseconds_without": 1e3 * median(watch.blocks(0)[1::2]) / block,
        "ratio": watch.ratio(0),
        "processor_ratio": watch.ratio(1),
        "page_share": share,
        "sent_mb": int(received[-1]) / 1e6 if received else 0.0,
        "threads": torch.get_num_threads(),
    }
    print({name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()})
    save("view_cost", figures, images=figures["size"])
    return figures


if __name__ == "__main__":
    tyro.cli(view_cost)
