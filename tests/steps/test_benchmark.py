"""Parts of the benchmark step; the step itself runs in tests/test_pipeline.py."""

from collections import Counter
from itertools import permutations

import pyarrow as pa
import pytest

from distilrec.core.latency import Limits, Percentiles
from distilrec.serving.distilrec_ranker import Ranker
from distilrec.steps import timing
from distilrec.steps.footprint import joules_per_1000, resident_mb
from distilrec.steps.timing import FEWEST_ROUNDS, PARTS, Pace, interleaved, requests
from tests.conftest import LENGTH, write_student_rankers


@pytest.fixture(scope="module")
def rankers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rankers")
    write_student_rankers(folder)
    return folder


def test_candidates_take_turns_and_the_parts_make_the_whole(rankers):
    candidates = {name: Ranker(rankers / name) for name in ("student_onnx", "student_int8")}
    asked = requests(candidates["student_onnx"], LENGTH, batch_size=3, seed=0)
    assert {len(user) for users, _ in asked for user in users} == {LENGTH}
    for pace, rounds in ((Pace(2, 15), 15), (Pace(2, 500, seconds=0.0), FEWEST_ROUNDS)):
        samples = interleaved(candidates, asked, pace)
        assert list(samples) == list(candidates)
        for parts in samples.values():
            assert set(parts) == {*PARTS, "whole"}
            assert all(len(values) == rounds and (values > 0).all() for values in parts.values())
            assert parts["whole"] == pytest.approx(sum(parts[part] for part in PARTS))


def test_everyone_comes_first_and_last_as_often(rankers, monkeypatch):
    """In one order of all rounds a model beside itself seemed 1.3 times as fast."""
    candidates = {name: Ranker(rankers / "student_onnx") for name in "abc"}
    asked = requests(candidates["a"], LENGTH, batch_size=1, seed=0)
    order = []
    monkeypatch.setattr(timing, "_timed", lambda ranker, _request: order.append(ranker) or [1.0] * len(PARTS))
    interleaved(candidates, asked, Pace(0, 600))
    rounds = [tuple(order[first : first + 3]) for first in range(0, len(order), 3)]
    assert all(set(one) == set(candidates.values()) for one in rounds)
    assert set(Counter(rounds)) == set(permutations(candidates.values())) and max(Counter(rounds).values()) < 150


def test_a_serving_process_is_small(rankers):
    assert 20 < resident_mb(rankers / "student_onnx") < 400


def test_the_floor_is_arithmetic_or_memory():
    limits = Limits(operations=100e9, bytes=10e9)
    assert limits.floor_ms(macs=5e9, num_bytes=1e6) == pytest.approx(100.0)
    assert limits.floor_ms(macs=5e3, num_bytes=1e9) == pytest.approx(100.0)


def test_a_99th_percentile_needs_a_hundred_rounds():
    assert Percentiles.of(pa.array(range(99)).to_numpy()).p99_ms is None
    assert Percentiles.of(pa.array(range(101)).to_numpy()).p99_ms == pytest.approx(99.0)


def test_energy_is_read_from_the_packages_counters(tmp_path, monkeypatch):
    """A fake tree in place of the kernel's: this machine has no counters."""
    value, why = joules_per_1000(lambda: None, tmp_path)
    assert value is None and "no energy counter" in why
    limit, spent = 10_000_000, 400_000
    for name, of in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "psys")):
        (tmp_path / name).mkdir()  # the core is a part of the package, and that of the system
        (tmp_path / name / "name").write_text(f"{of}\n")
        (tmp_path / name / "energy_uj").write_text(str(limit - 100_000))
        (tmp_path / name / "max_energy_range_uj").write_text(str(limit - 1))
    monkeypatch.setattr("distilrec.steps.footprint.SECONDS_OF_ENERGY", 0.0)
    counter = tmp_path / "intel-rapl:0" / "energy_uj"
    monkeypatch.setattr("distilrec.steps.footprint.time.monotonic", iter([0.0, -1.0, 1.0]).__next__)
    value, how = joules_per_1000(lambda: counter.write_text(str(spent - 100_000)), tmp_path)
    assert value == pytest.approx(spent / 1e6 * 1e3), "the counter wrapped"
    assert "powercap" in how
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("?")
    assert joules_per_1000(lambda: None, tmp_path)[0] is None
