"""File formats: PLY, and in `io.text` the reader of all text files.

What is exported is imported when it is first asked for (PEP 562): the command line answers without torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradslam_ng.io.ply import read_ply, write_ply

__all__ = ["read_ply", "write_ply"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("gradslam_ng.io.ply"), name)
