"""Tables of the documentation, in Markdown, each from its result files; see `benchmarks.report`."""

from benchmarks.tables import camera_marks, control, disturbed, grids, harmonic, maps, marks, scale, solvers, tracking
from benchmarks.tables.common import TABLES

__all__ = [
    "TABLES",
    "camera_marks",
    "control",
    "disturbed",
    "grids",
    "harmonic",
    "maps",
    "marks",
    "scale",
    "solvers",
    "tracking",
]
