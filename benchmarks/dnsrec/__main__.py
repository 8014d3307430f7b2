"""The transformer space (DNS-Rec): its attention, its oracle, its ablations, MovieLens-1M and Beauty.

python -m benchmarks.dnsrec            everything that is not in measurements.json yet (hours: some forty trainings)
python -m benchmarks.dnsrec oracle     some parts, measured again

Each training resumes from its checkpoint under $DISTILREC_BENCH_RUNS (./runs/benchmarks); what is finished stays.
Datasets and teachers are those of benchmarks/adarec, and are made if they are not there.
"""

from pathlib import Path

from benchmarks.command import as_the_runner_does, parser_of, run_parts


def main() -> None:
    from benchmarks.dnsrec.parts import PARTS

    run_parts(Path(__file__).resolve().parent, PARTS, parser_of(PARTS, __doc__).parse_args().parts)


if __name__ == "__main__":
    as_the_runner_does("dnsrec")
    main()
