"""What a measurement was made on: a latency without it means nothing."""

import math
import os
import platform
import resource
from importlib.metadata import version
from pathlib import Path
from typing import Any

import distilrec

PACKAGES = ("torch", "onnxruntime", "numpy", "POT", "kfp", "pyarrow")


CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """Those that this process may run on, and a container's limit on processor time lets it fill; at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, _quota(cgroups))))


def _quota(cgroups: Path) -> float:
    """Cores' worth of time of this container, as version 2 or version 1 of control groups says; infinite without."""
    for quota, period in (("cpu.max", ""), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = [(cgroups / name).read_text(encoding="utf-8") for name in (quota, period) if name]
            given, per = (float(word.replace("max", "inf")) for word in " ".join(words).split())
        except (OSError, ValueError):
            continue
        return given / per if given > 0 else math.inf  # version 1 says -1
    return math.inf


def describe_machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "accelerator": _accelerator(),
        "system": platform.platform(),
    }


def used() -> dict[str, float]:
    """Processor seconds, and megabytes of memory at most, of this process and the children that it waited for."""
    usages = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 3),
        "peak_memory_mb": round(max(usage.ru_maxrss for usage in usages) / 1024, 1),
    }


def versions() -> dict[str, str]:
    """MLflow by its client's part, which is all that a step's image has."""
    ours = {"distilrec": distilrec.__version__, "python": platform.python_version(), "mlflow": version("mlflow-skinny")}
    return ours | {package: version(package) for package in PACKAGES}


def _accelerator(drivers: Path = Path("/proc/driver/nvidia/gpus")) -> str | None:
    """The first one, as NVIDIA's driver names it; asking it needs no torch."""
    lines = [line for file in sorted(drivers.glob("*/information")) for line in file.read_text("utf-8").splitlines()]
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return names[0] if names else None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
