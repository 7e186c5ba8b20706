"""Tables of the documentation, in Markdown, each from its result files; see `benchmarks.report`."""

from benchmarks.tables import control, disturbed, grids, harmonic, maps, marks, solvers, tracking
from benchmarks.tables.common import TABLES

__all__ = ["TABLES", "control", "disturbed", "grids", "harmonic", "maps", "marks", "solvers", "tracking"]
