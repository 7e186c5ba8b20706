"""Options of torch.compile's inductor backend, each with its reason and the version of PyTorch it was measured with.

They are internals of the compiler, which change their meaning between versions: with a version that they were not
tested with, the compiler's defaults apply.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, NamedTuple

import torch

log = logging.getLogger("gradslam_ng")
TESTED_VERSIONS = ("2.13",)  # major and minor, with which the tests compare every compiled function with its plain one
SIZE_HINT = 100_000  # entries, the size for which loops over a dynamic axis are laid out


class Option(NamedTuple):
    value: Any
    why: str
    since: str  # version of PyTorch


def _guards_to_keep(entries: list) -> list[bool]:
    """Which guards are looked at before each call: arguments may change, the package's own code does not.

    Of the 500 that an iteration of ICP would have, 50 are left; the others took 0.1 ms a call.
    """
    fixed = {"CLOSURE_MATCH", "NOT_PRESENT_IN_GENERIC_DICT"}  # methods of classes
    return [not entry.is_global and entry.guard_type not in fixed for entry in entries]


OPTIONS = {
    "guard_filter_fn": Option(_guards_to_keep, "looking at every guard took 0.1 ms a call", "2.13"),
    "inplace_buffers": Option(False, "a pass over neighboring pixels could overwrite what it is still to read", "2.13"),
    "cpp.min_chunk_size": Option(2048, "less for each thread costs more to hand out than it takes", "2.13"),
    "cpp.enable_loop_tail_vec": Option(
        False, "halves the time to compile; the few last pixels of a row are not worth it", "2.13"
    ),
    "size_asserts": Option(False, "guards have just made sure of sizes", "2.13"),
    "alignment_asserts": Option(False, "guards have just made sure of alignment", "2.13"),
    "assert_indirect_indexing": Option(
        False, "indices are made here, from what lies within the image or the map", "2.13"
    ),
    "max_fusion_size": Option(256, "all sums over the pixels in one pass", "2.13"),
    "cpp.max_horizontal_fusion_size": Option(
        256, "the default would take the sums of the normal equations sixteen at a time", "2.13"
    ),
}
FUSED_REDUCTION_OPTIONS = {
    "realize_opcount_threshold": Option(120, "what sums share is worked out in the pass that adds them", "2.13"),
    "realize_acc_reads_threshold": Option(30, "the same: it is not stored in between", "2.13"),
}


@functools.cache
def compiler_options(fuse_reductions: bool = False) -> dict[str, Any]:
    """The options for torch.compile: those above with a tested version of PyTorch, none with others."""
    if not _is_tested(torch.__version__):
        _inform_once(f"PyTorch {torch.__version__} compiles with its own defaults: options are those of 2.13")
        return {}
    table = OPTIONS | FUSED_REDUCTION_OPTIONS if fuse_reductions else OPTIONS
    return {name: option.value for name, option in table.items()}


def _is_tested(version: str) -> bool:
    return ".".join(version.split(".")[:2]) in TESTED_VERSIONS


@functools.cache
def _inform_once(message: str) -> None:
    log.info(message)
