"""Committed benchmark results have the form that they are compared in."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = sorted((ROOT / "benchmarks").glob("*/results.json"))


def test_there_are_results():
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
def test_every_figure_says_what_it_is_and_where_it_was_measured(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    assert results["name"] == path.parent.name
    assert results["commands"] and results["date"]
    assert {"cpu", "cores", "threads", "memory_gb", "accelerator"} <= results["machine"].keys()
    assert {"python", "torch", "distilrec"} <= results["versions"].keys()
    for name, figure in results["figures"].items():
        assert isinstance(figure["value"], float), name
        assert figure["unit"] and figure["note"], name
        if "interval" in figure:
            low, high = figure["interval"]
            assert low <= figure["value"] <= high, name
        assert figure.keys() <= {"value", "unit", "note", "seeds", "interval"}, name
