"""The command line that every benchmark has: its parts in order, each once, or some of them again."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.results import THREADS, Results

Part = Callable[[Results], None]


def parser_of(parts: dict[str, Part], description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="by default all that are missing")
    return parser


def run_parts(folder: Path, parts: dict[str, Part], asked: list[str]) -> None:
    """What is named is measured again; without names, what measurements.json does not have."""
    results = Results(folder, folder.name)
    for name in asked or [part for part in parts if part not in results.done]:
        results.begin(name)
        parts[name](results)
        results.finish(name)


def as_the_runner_does(benchmark: str) -> None:
    """The allocator's settings and the threads are the environment's, and are read at the start of a process."""
    from distilrec.runner import ALLOCATOR

    wanted = {**ALLOCATOR, "OMP_NUM_THREADS": str(THREADS)}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable, "-m", f"benchmarks.{benchmark}", *sys.argv[1:]])
