"""Every part by name, in the order in which they are run."""

from benchmarks.command import Part
from benchmarks.latency import index, load, request

PARTS: dict[str, Part] = {"request": request.request, "load": load.load, "index": index.index}
