"""Every part by name, in the order in which they are run."""

from benchmarks.command import Part
from benchmarks.dnsrec import attention, demo, real

PARTS: dict[str, Part] = {
    "attention": attention.attention,
    "oracle": demo.oracle,
    "ablations": demo.ablations,
    "head_to_head": demo.head_to_head,
    "ml1m": real.ml1m,
    "beauty": real.beauty,
}
