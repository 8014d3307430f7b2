"""DE-RRD on CiteULike: the published table, and what the two terms cost.

python -m benchmarks.derrd                everything that is not in measurements.json yet (a day on two cores)
python -m benchmarks.derrd bpr.student.0  some parts again

Each training resumes from its checkpoint under $DISTILREC_BENCH_RUNS (./runs/benchmarks); one that is finished there,
by the same settings and the same revision of the code, is found again.
The data is the authors' split 0 in $DISTILREC_CITEULIKE (../shared/data/citeulike-derrd).
"""

from pathlib import Path

from benchmarks.command import as_the_runner_does, parser_of, run_parts


def main() -> None:
    from benchmarks.derrd.parts import PARTS

    run_parts(Path(__file__).resolve().parent, PARTS, parser_of(PARTS, __doc__).parse_args().parts)


if __name__ == "__main__":
    as_the_runner_does("derrd")
    main()
