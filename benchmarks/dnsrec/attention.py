"""Time and memory of one attention layer by length: linear, softmax as torch fuses it, softmax written out.

Each is measured in a process of its own, whose peak of memory is then its own; the time is the processor's, which other
work on the machine disturbs less.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.results import Results
from distilrec.core.attention import ATTENTIONS

LENGTHS = (50, 100, 200, 500, 1000, 2000)
KINDS = ("linear", "softmax", "written-out")
BATCH, HEADS, FEATURES = 8, 4, 16
ROUNDS = 5


def attention(results: Results) -> None:
    raw: dict[str, dict[str, dict[str, float]]] = results.raw.get("attention", {})
    for kind in KINDS:
        for length in LENGTHS:
            if str(length) not in raw.setdefault(kind, {}):
                raw[kind][str(length)] = _measured(kind, length)
                results.keep("attention", raw)
    size = f"forward and backward, batch {BATCH}, {HEADS} heads of {FEATURES}, one thread; median of {ROUNDS}"
    for what, unit in (("seconds", "ms of the processor"), ("peak_mb", "MB above the process")):
        factor = 1e3 if what == "seconds" else 1.0
        rows = {
            kind: ", ".join(f"{length}: {factor * raw[kind][str(length)][what]:.3g}" for length in LENGTHS)
            for kind in KINDS
        }
        note = f"{size}; {unit} by length: " + "; ".join(f"{kind} {row}" for kind, row in rows.items())
        name = "time" if what == "seconds" else "memory"
        for kind in ("softmax", "written-out"):
            ratio = raw[kind]["2000"][what] / raw["linear"]["2000"][what]
            results.put(f"attention.{kind}_over_linear.{name}_2000", ratio, "ratio", note)
        growth = raw["linear"]["2000"][what] / raw["linear"]["500"][what]
        results.put(f"attention.linear.{name}_2000_over_500", growth, "ratio", f"4 is linear; {note}")


def _measured(kind: str, length: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.dnsrec.attention", kind, str(length)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    print(f"{kind}, length {length}: {found}", flush=True)
    return found


def _written_out(query: Tensor, key: Tensor, value: Tensor, _real: Tensor) -> Tensor:
    future = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).triu(1)
    scores = (query @ key.transpose(2, 3) / query.shape[3] ** 0.5).masked_fill(future, float("-inf"))
    return scores.softmax(dim=3) @ value


def _status(field: str) -> float:
    """Megabytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _main(kind: str, length: int) -> None:
    torch.set_num_threads(1)
    function = _written_out if kind == "written-out" else ATTENTIONS[kind][0]
    random = torch.Generator().manual_seed(0)
    given = [torch.randn(BATCH, HEADS, length, FEATURES, generator=random).requires_grad_() for _ in range(3)]
    real = torch.ones(BATCH, length, dtype=torch.bool)
    warm = [x.detach()[:, :, :8].requires_grad_() for x in given]
    function(*warm, real[:, :8]).sum().backward()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is counted from here
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        function(*given, real).sum().backward()
        seconds.append(time.process_time() - began)
    print(json.dumps({"seconds": sorted(seconds)[ROUNDS // 2], "peak_mb": max(_status("VmHWM") - before, 0.01)}))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
