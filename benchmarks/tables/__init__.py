"""Tables of the documentation, in Markdown, each from its result files; see `benchmarks.report`."""

from benchmarks.tables import control, disturbed, harmonic, maps, solvers, tracking
from benchmarks.tables.common import TABLES

__all__ = ["TABLES", "control", "disturbed", "harmonic", "maps", "solvers", "tracking"]
