"""How fast training and evaluation are, beside the libraries a user would pick instead.

python -m benchmarks.throughput            everything that is not in measurements.json yet (about 75 minutes)
python -m benchmarks.throughput epoch ...  some parts, measured again
python -m benchmarks.throughput --quick    small versions in a temporary folder, compared with the results

"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.results import THREADS, Results, compare
from distilrec.io.jsons import read_json

HERE = Path(__file__).resolve().parent
QUICK = ("epoch", "ranking_metrics", "checkpoint", "padding")


def main() -> None:
    from benchmarks.throughput.parts import PARTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all that are missing")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if not arguments.quick:
        results = Results(HERE, "throughput")
        for name in arguments.parts or [part for part in PARTS if part not in results.done]:
            if name in results.done:
                results.done.remove(name)
                results.raw.pop(name, None)
            PARTS[name](results)
            results.keep("done", [*results.done, name])
        return
    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder), "throughput", is_quick=True)
        for name in arguments.parts or QUICK:
            PARTS[name](results)
        print()
        print(compare(read_json(HERE / "results.json")["figures"], results.figures()))


def as_the_runner_does() -> None:
    """The allocator's settings and the threads are the environment's, and are read at the start of a process."""
    from distilrec.runner import ALLOCATOR

    wanted = {**ALLOCATOR, "OMP_NUM_THREADS": str(THREADS)}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.throughput", *sys.argv[1:]])


if __name__ == "__main__":
    as_the_runner_does()
    main()
