import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilrec.core.errors import ArtifactError, ConfigError, RunError
from distilrec.core.evaluation import MISS
from distilrec.io.jsons import write_json
from distilrec.io.store import whole_folder
from distilrec.steps.compare import compare

WORTH = {1: 1.0, 3: 0.5, 15: 0.0, MISS: 0.0}
"""NDCG@10 of a rank."""


def _evaluated(folder, ranks, deciding="kept", data="of today"):
    """As `evaluate` writes it; with seen items in the other variant all are missed."""
    with whole_folder(folder) as made:
        write_json(made.path / "quality.json", {"deciding": deciding})
        other = "removed" if deciding == "kept" else "kept"
        columns = {f"student_{deciding}": ranks, f"student_{other}": [MISS] * len(ranks)}
        pq.write_table(pa.table({"user": [f"u{number}" for number in range(len(ranks))], **columns}),
                       made.path / "ranks.parquet")  # fmt: skip
        made.manifest.update({"step": "evaluate", "inputs": {"prepare": data}})
    return str(folder)


def test_methods_are_compared_user_by_user_each_over_its_runs(tmp_path):
    ranks = {"a0": [1, 3, 15, MISS], "a1": [1, 1, 15, 3], "b": [1, 3, 3, 1]}
    runs = {name: _evaluated(tmp_path / name, of_users) for name, of_users in ranks.items()}
    worth = {name: np.array([WORTH[rank] for rank in of_users]) for name, of_users in ranks.items()}
    first, second = compare([[runs["a0"], runs["a1"]], [runs["b"]]], "student")
    assert (first.by_run, first.beyond) == ((worth["a0"].mean(), worth["a1"].mean()), None)
    assert first.mean.value == pytest.approx(np.mean([worth["a0"], worth["a1"]]))
    apart = worth["b"] - (worth["a0"] + worth["a1"]) / 2
    assert second.beyond.value == pytest.approx(apart.mean())
    assert apart.min() <= second.beyond.low < second.beyond.value < second.beyond.high <= apart.max()


def test_a_run_is_named_by_its_folder_and_of_several_attempts_the_last_one_counts(tmp_path):
    for attempt, ranks in (("retrain-scene-1", [15, 15]), ("retrain-scene-2", [1, 3])):
        _evaluated(tmp_path / "run" / "shop" / "kfp" / attempt / "evaluate" / "quality", ranks)
    write_json(tmp_path / "run" / "run.json", {})
    (found,) = compare([[str(tmp_path / "run")]], "student")
    assert found.by_run == (0.75,)
    _evaluated(tmp_path / "run" / "cafe" / "kfp" / "retrain-scene-3" / "evaluate" / "quality", [1, 1])
    with pytest.raises(RunError, match=r"holds cafe, shop: name one, such as .*/run/cafe"):
        compare([[str(tmp_path / "run")]], "student")
    assert compare([[str(tmp_path / "run" / "shop")]], "student")[0].by_run == (0.75,)


def test_what_does_not_compare_is_refused(tmp_path):
    today = _evaluated(tmp_path / "today", [1, 3])
    with pytest.raises(ArtifactError, match=r"tomorrow was evaluated on other data than .*today"):
        compare([[today], [_evaluated(tmp_path / "tomorrow", [1, 3], data="of tomorrow")]], "student")
    with pytest.raises(ArtifactError, match=r"with seen items removed, .*today with seen items kept"):
        compare([[today], [_evaluated(tmp_path / "removed", [1, 3], deciding="removed")]], "student")
    with pytest.raises(ConfigError, match="today has no model 'champion', only student"):
        compare([[today]], "champion")
    for nothing in ("", str(tmp_path / "nowhere")):
        with pytest.raises(RunError, match="is no folder"):
            compare([[today], [nothing]], "student")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="empty holds no evaluation"):
        compare([[str(tmp_path / "empty")]], "student")
