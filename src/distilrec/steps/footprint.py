"""What a ranker needs beside time: memory, bytes on disk, energy."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from distilrec.core.errors import ArtifactError

POWERCAP = Path("/sys/class/powercap")
SECONDS_OF_ENERGY = 1.0

LOADED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from distilrec_ranker import Ranker
ranker = Ranker(Path(sys.argv[2]))
ranker.recommend([ranker.ids[:1] * ranker.max_length], users=ranker.users and ranker.users.ids[:1])
print(Path("/proc/self/statm").read_text().split()[1])
"""
"""A process that does nothing but serve."""


def resident_mb(folder: Path) -> float | None:
    """Of a fresh process that has loaded the ranker and answered once: no torch, no distilrec. None if not Linux."""
    import resource

    from distilrec.serving import distilrec_ranker

    if not Path("/proc/self/statm").exists():
        return None
    code = str(Path(distilrec_ranker.__file__).parent)
    done = subprocess.run([sys.executable, "-c", LOADED, code, str(folder)], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ArtifactError("DR-ART-001", f"{folder} cannot be served: {last}")
    return int(done.stdout) * resource.getpagesize() / 2**20


def file_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _is_package(zone: Path) -> bool:
    """Not a part of one, such as its cores, and not `psys`, the whole machine with its packages."""
    name = zone / "name"
    return name.is_file() and name.read_text(encoding="utf-8").startswith("package")


def joules_per_1000(answer: Callable[[], object], root: Path = POWERCAP) -> tuple[float | None, str]:
    """Of the processor packages while one request follows the other, and how it was measured or why not."""
    counters = [path for path in sorted(root.glob("intel-rapl:*/energy_uj")) if _is_package(path.parent)]
    if not counters:
        return None, f"no energy counter under {root}"
    try:
        before = [int(path.read_text()) for path in counters]
        began, num_requests = time.monotonic(), 0
        while time.monotonic() - began < SECONDS_OF_ENERGY:
            answer()
            num_requests += 1
        after = [int(path.read_text()) for path in counters]
        ranges = [int((path.parent / "max_energy_range_uj").read_text()) for path in counters]
    except (OSError, ValueError) as error:
        return None, f"the energy counters under {root} cannot be read: {error}"
    spent = sum((late - early) % (limit + 1) for early, late, limit in zip(before, after, ranges, strict=True))
    return spent / 1e6 / num_requests * 1e3, "processor packages, all that runs on them included (powercap)"
