"""`gradslam-ng compile`: the compiled functions of a run, made beforehand."""

from __future__ import annotations

from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.logging import RichHandler

from gradslam_ng.commands.console import show_messages
from gradslam_ng.commands.recording import SourceOptions
from gradslam_ng.commands.run_options import SystemOptions
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.compute.kernel_files import stamped_folder
from gradslam_ng.compute.kernel_library import compiler_missing, library
from gradslam_ng.slam.runtime import share_cores

FRAMES = 4  # from the first to the first that is tracked and fused like all others
Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[SOURCE]")]


def compile(
    source: Source = "synthetic:living_room",
    /,
    *,
    recording: Annotated[SourceOptions, tyro.conf.OmitArgPrefixes],
    method: Annotated[SystemOptions, tyro.conf.OmitArgPrefixes],
) -> None:
    """Compile what a run with the same options uses, for images of this size: some minutes, once a machine.

    A run does so by itself, beside its frames; after this command it is fast from its first frame on.

    Args:
        source: File or folder of a sequence, or synthetic:NAME, whose images are 640x480.
    """
    missing = compiler_missing(stamped_folder())
    if missing:
        raise OSError(f"compile: {missing}")
    console = Console()
    show_messages(RichHandler(console=console, show_path=False))
    sequence = recording.load(source)
    slam = method.make(recording.max_depth)
    with torch.no_grad(), share_cores(), compilation(wait=True):
        state = None
        for i in range(min(FRAMES, len(sequence))):
            state = slam.step(state, sequence[i])
    ready, wanted = library().count()
    console.print(f"{ready} of {ready + wanted} functions compiled, in {stamped_folder()}", soft_wrap=True)
