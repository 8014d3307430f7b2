"""How fast training and evaluation are, beside the libraries a user would pick instead.

python -m benchmarks.throughput            everything that is not in measurements.json yet (about 75 minutes)
python -m benchmarks.throughput epoch ...  some parts, measured again
python -m benchmarks.throughput --quick    small versions in a temporary folder, compared with the results

"""

import tempfile
from pathlib import Path

from benchmarks.command import as_the_runner_does, parser_of, run_parts
from benchmarks.results import Results, compare
from distilrec.io.jsons import read_json

HERE = Path(__file__).resolve().parent
QUICK = ("epoch", "ranking_metrics", "checkpoint", "padding")


def main() -> None:
    from benchmarks.throughput.parts import PARTS

    parser = parser_of(PARTS, __doc__)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if not arguments.quick:
        run_parts(HERE, PARTS, arguments.parts)
        return
    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder), "throughput", is_quick=True)
        for name in arguments.parts or QUICK:
            PARTS[name](results)
        print()
        print(compare(read_json(HERE / "results.json")["figures"], results.figures()))


if __name__ == "__main__":
    as_the_runner_does("throughput")
    main()
