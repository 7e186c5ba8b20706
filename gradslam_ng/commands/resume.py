"""`gradslam-ng resume DIR`: a run that was broken off goes on where its state was last saved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from gradslam_ng.commands.run import RunOptions, reconstruct
from gradslam_ng.commands.run_folder import STATE
from gradslam_ng.commands.run_options import ViewOptions
from gradslam_ng.slam.saved_run import read_about

RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]


def resume(
    folder: RunFolder,
    /,
    *,
    page: Annotated[ViewOptions, tyro.conf.OmitArgPrefixes],
) -> None:
    """Go on with a run that was broken off, from where its state was last saved; the results are those of a run that
    was not.

    Args:
        folder: Of the run, with state.safetensors in it.
    """
    path = folder / STATE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there: expected the folder of a run that has saved its state")
    about = read_about(path)
    if "source" not in about:
        raise ValueError(f"{path}: of a run whose frames cannot be read again; run --map goes on with its map")
    try:
        source, options = about["source"], RunOptions.of(about["options"])
        earlier = None if about["map"] is None else Path(about["map"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected the state of gradslam-ng run, of this version: {error}") from None
    reconstruct(source, folder, options, page, earlier=earlier, resume=path)
