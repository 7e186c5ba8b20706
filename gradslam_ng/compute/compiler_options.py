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


class Option(NamedTuple):
    value: Any
    why: str
    since: str  # version of PyTorch


OPTIONS = {
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

GATHERING_OPTIONS = {
    "cpp.enable_tiling_heuristics": Option(
        False, "the compiler takes loops that gather much for not worth vectorizing, whatever they compute", "2.13"
    ),
}


@functools.cache
def compiler_options(fuse_reductions: bool = False, vectorize_gathers: bool = False) -> dict[str, Any]:
    """The options for torch.compile: those above with a tested version of PyTorch, none with others."""
    if not _is_tested(torch.__version__):
        _inform_once(f"PyTorch {torch.__version__} compiles with its own defaults: options are those of 2.13")
        return {}
    table = OPTIONS | (FUSED_REDUCTION_OPTIONS if fuse_reductions else {})
    table |= GATHERING_OPTIONS if vectorize_gathers else {}
    return {name: option.value for name, option in table.items()}


def _is_tested(version: str) -> bool:
    return ".".join(version.split(".")[:2]) in TESTED_VERSIONS


@functools.cache
def _inform_once(message: str) -> None:
    log.info(message)
