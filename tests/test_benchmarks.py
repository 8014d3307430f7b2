"""Committed benchmark results have the form that they are compared in."""

import json
from pathlib import Path

import pytest
from benchmarks.latency import models

from distilrec.io.store import manifest_of
from distilrec.steps.inputs import require_made_from

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


def test_latency_is_measured_of_what_the_step_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "SCENE", models.SCENE.replace("num_blocks: 8, width: 128", "num_blocks: 1, width: 8"))
    models.write_models(tmp_path)
    teacher, student = manifest_of(tmp_path / "teacher", "teach"), manifest_of(tmp_path / "student", "retrain")
    require_made_from(tmp_path / "student", student, {"teach": teacher})
