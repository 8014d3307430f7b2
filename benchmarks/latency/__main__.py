"""How long a user's request takes, on the path that serves it.

python -m benchmarks.latency              everything that is not in measurements.json yet
python -m benchmarks.latency request ...  some parts, measured again
"""

from pathlib import Path

from benchmarks.command import as_the_runner_does, parser_of, run_parts


def main() -> None:
    from benchmarks.latency.parts import PARTS

    run_parts(Path(__file__).resolve().parent, PARTS, parser_of(PARTS, __doc__).parse_args().parts)


if __name__ == "__main__":
    as_the_runner_does("latency")
    main()
