"""Tables of the documentation, in Markdown, each from its result files; see `benchmarks.report`."""

from benchmarks.tables import disturbed, maps, solvers, tracking
from benchmarks.tables.common import TABLES

__all__ = ["TABLES", "disturbed", "maps", "solvers", "tracking"]
