"""Whether the search earns its keep, on MovieLens-1M and on the demo's scene.

python -m benchmarks.adarec            everything that is not in measurements.json yet (hours: some twenty trainings)
python -m benchmarks.adarec demo ...   some parts, measured again

Each training resumes from its checkpoint under $DISTILREC_BENCH_RUNS (./runs/benchmarks); what is finished stays.
The teacher is the one that `python -m benchmarks.throughput ml1m` trains, and is trained if it is not there.
"""

from pathlib import Path

from benchmarks.command import as_the_runner_does, parser_of, run_parts


def main() -> None:
    from benchmarks.adarec.parts import PARTS

    run_parts(Path(__file__).resolve().parent, PARTS, parser_of(PARTS, __doc__).parse_args().parts)


if __name__ == "__main__":
    as_the_runner_does("adarec")
    main()
