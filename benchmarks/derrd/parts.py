"""Every part by name, in the order in which they are run: what takes minutes first."""

from benchmarks.command import Part
from benchmarks.derrd import citeulike, cost, terms

PARTS: dict[str, Part] = {"rrd": cost.rrd, "de": cost.de, **citeulike.PARTS, **terms.PARTS}
