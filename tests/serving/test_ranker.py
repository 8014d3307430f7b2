import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilrec.io.export import export_onnx
from distilrec.io.rankers import complete_ranker
from distilrec.serving import distilrec_ranker
from distilrec.serving.distilrec_ranker import MOST_USERS, Ranker, RankerError, top, verified
from tests.conftest import LENGTH, NUM_ITEMS, student

NAMES = [f"item {index}" for index in range(NUM_ITEMS)]
MODEL = student([0, 4, 6, 7, 8, 9]).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export_onnx(MODEL, folder)
    return folder


def _write(folder, exported, ids):
    counts = list(range(NUM_ITEMS))
    pq.write_table(pa.table({"item": ids, "title": NAMES, "num_events": counts}), folder / "items.parquet")
    shutil.copytree(exported, folder / "ranker")
    complete_ranker(folder / "ranker", folder / "items.parquet", "shop", exclude_seen=False)
    return folder / "ranker"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, exported):
    return _write(tmp_path_factory.mktemp("text"), exported, NAMES)


@pytest.fixture(scope="module")
def ranker(folder):
    return Ranker(folder)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, exported):
    return Ranker(_write(tmp_path_factory.mktemp("numbers"), exported, [100 + index for index in range(NUM_ITEMS)]))


def _eager(indices):
    newest = indices[-LENGTH:]
    with torch.inference_mode():
        return MODEL.score_next(torch.tensor([newest]), torch.tensor([len(newest)]))[0].numpy()


def test_it_ranks_as_the_model_does(ranker):
    histories = [[3], [1, 2, 3], list(range(NUM_ITEMS)) * 3]
    answers = ranker.recommend([[NAMES[index] for index in history] for history in histories], k=5)
    for history, answer in zip(histories, answers, strict=True):
        scores = _eager(history)
        assert answer.items == [NAMES[index] for index in np.argsort(-scores, kind="stable")[:5]]
        np.testing.assert_allclose(answer.scores, np.sort(scores)[::-1][:5], atol=1e-4)
        assert (answer.num_unknown, answer.is_fallback) == (0, False)


def test_unknown_ids_are_skipped_and_counted_and_the_unknown_user_gets_what_is_popular(ranker):
    skipped, empty, unknown = ranker.recommend([["?", NAMES[3], "!"], [], ["?"]], k=3)
    plain = ranker.recommend([[NAMES[3]]], k=3)[0]
    assert (skipped.items, skipped.num_unknown, skipped.is_fallback) == (plain.items, 2, False)
    for answer, num_unknown in ((empty, 0), (unknown, 1)):
        assert answer.items == NAMES[:-4:-1]
        assert answer.scores == [11.0, 10.0, 9.0]
        assert (answer.num_unknown, answer.is_fallback) == (num_unknown, True)


def test_what_is_excluded_or_not_allowed_leaves_before_the_best_are_taken(ranker):
    history = [NAMES[3], NAMES[5]]
    (everything,) = ranker.recommend([history], k=NUM_ITEMS)
    (unseen,) = ranker.recommend([history], k=NUM_ITEMS, exclude_seen=True)
    assert unseen.items == [item for item in everything.items if item not in history]
    best, second, third, *_ = everything.items
    (without,) = ranker.recommend([history], k=2, exclude=[best, "not ours"])
    assert without.items == [second, third]
    (only,) = ranker.recommend([history], k=5, allow=[third, best, "not ours"], exclude=[best])
    assert only.items == [third]
    assert ranker.recommend([history], k=5, allow=[])[0].items == []


def test_many_users_are_answered_in_parts_as_they_are_alone(ranker, monkeypatch):
    histories = [[NAMES[index % NUM_ITEMS]] for index in range(20)]
    together = ranker.recommend(histories, k=4)
    monkeypatch.setattr(distilrec_ranker, "MOST_SCORES", 3 * NUM_ITEMS)
    for one, other in zip(together, ranker.recommend(histories, k=4), strict=True):
        assert one.items == other.items
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)


def test_whole_numbers_stay_whole_numbers(numbered):
    (answer,) = numbered.recommend([[103, np.int64(105)]], k=2)
    assert all(type(item) is int for item in answer.items)
    with pytest.raises(RankerError, match="whole numbers"):
        numbered.recommend([["103"]])


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"histories": [[1]]}, "history of user 0 holds 1; the item ids of this scene are text"),
        ({"histories": [["a"], [None]]}, "history of user 1 holds None"),
        ({"histories": [[float("nan")]]}, "holds nan"),
        ({"histories": ["item 3"]}, "it is a list of item ids"),
        ({"histories": [None]}, "it is a list of item ids"),
        ({"histories": []}, f"0 users in one request; it takes 1 to {MOST_USERS}"),
        ({"histories": [[]] * 100_000}, "100000 users"),
        ({"histories": [[]], "k": -1}, "k is -1; it is a whole number from 1 to 12"),
        ({"histories": [[]], "k": 13}, "k is 13"),
        ({"histories": [[]], "k": 2.5}, "k is 2.5"),
        ({"histories": [[]], "k": True}, "k is True"),
        ({"histories": [[]], "exclude": [7]}, "exclude holds 7"),
        ({"histories": [[]], "allow": "item 3"}, "allow is 'item 3'"),
        ({"histories": [[]], "exclude": None}, "exclude is None"),
        ({"histories": None}, "histories is None; it is a list of histories"),
        ({"histories": [[]], "exclude_seen": "false"}, "exclude_seen is 'false'"),
    ],
)
def test_a_bad_request_is_one_sentence(ranker, request_, words):
    with pytest.raises(RankerError, match=words.replace(".", r"\.")):
        ranker.recommend(**request_)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=8,
)


SOME_IDS = st.lists(st.sampled_from([*NAMES, "?"]), max_size=3)


@given(
    histories=st.lists(SOME_IDS, min_size=1, max_size=3) | st.lists(ANY, max_size=4) | ANY,
    k=st.integers(1, NUM_ITEMS) | ANY,
    exclude=SOME_IDS | ANY,
    allow=SOME_IDS | ANY,
    exclude_seen=st.none() | st.booleans() | ANY,
)
def test_any_request_is_answered_or_refused(ranker, histories, k, exclude, allow, exclude_seen):
    try:
        answers = ranker.recommend(histories, k, exclude_seen, exclude, allow)
    except RankerError:
        return
    assert len(answers) == len(histories)
    assert all(len(answer.items) <= (k or 10) for answer in answers)


def test_good_requests_are_among_the_drawn_ones(ranker):
    """Else the test above would prove nothing."""
    answered = []

    @given(histories=st.lists(SOME_IDS, min_size=1, max_size=3), k=st.integers(1, NUM_ITEMS), exclude=SOME_IDS)
    def ask(histories, k, exclude):
        answered.extend(ranker.recommend(histories, k, exclude=exclude))

    ask()
    assert {answer.is_fallback for answer in answered} == {True, False}


@given(scores=st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=12), k=st.integers(1, 12))
def test_the_top_is_the_sorted_beginning(scores, k):
    scores_V = np.array(scores, dtype=np.float32)
    wanted = [index for index in np.argsort(-scores_V, kind="stable")[:k] if np.isfinite(scores_V[index])]
    assert top(scores_V, min(k, len(scores))).tolist() == wanted


@pytest.mark.parametrize("name", ["encoder.onnx", "scorer.onnx", "items.arrow", "ranker.json"])
def test_a_folder_with_a_file_missing_or_altered_is_refused(folder, tmp_path, name):
    for case, alter in {
        "missing": lambda path: path.unlink(),
        "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
        "empty": lambda path: path.write_bytes(b""),
        "tampered": lambda path: path.write_bytes(path.read_bytes().replace(b"e", b"f", 1)),
        "turned": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"),
    }.items():
        broken = tmp_path / case
        shutil.copytree(folder, broken)
        alter(broken / name)
        with pytest.raises(RankerError, match=name.replace(".", r"\.")):
            Ranker(broken)


NESTED = st.recursive(ANY, lambda one: st.dictionaries(st.text(max_size=9), one))


@given(text=st.text(max_size=200) | NESTED.map(json.dumps))
def test_text_that_is_no_settings_is_refused(folder, tmp_path_factory, text):
    broken = tmp_path_factory.mktemp("any")
    (broken / "ranker.json").write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(RankerError):
        Ranker(broken)


@given(
    key=st.sampled_from(["schema_version", "files", "exclude_seen", "sha256"]),
    value=NESTED | st.dictionaries(st.text(max_size=300), st.text(max_size=64)),
    is_signed=st.booleans(),
)
def test_any_other_value_in_the_settings_is_refused(folder, tmp_path_factory, key, value, is_signed):
    """Also where whoever altered it has made the hash again."""
    settings = json.loads((folder / "ranker.json").read_text())
    altered = {**settings, key: value}
    if is_signed and key != "sha256":
        altered["sha256"] = distilrec_ranker._sha256_of_settings(altered)
    broken = tmp_path_factory.mktemp("altered")
    (broken / "ranker.json").write_text(json.dumps(altered))
    if altered == settings or (is_signed and key == "exclude_seen" and isinstance(value, bool)):
        return
    with pytest.raises(RankerError):
        verified(broken)


def test_a_newer_schema_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "newer")
    settings = json.loads((folder / "ranker.json").read_text())
    (tmp_path / "newer" / "ranker.json").write_text(json.dumps({**settings, "schema_version": 99}))
    with pytest.raises(RankerError, match="schema version 99; this ranker reads 1"):
        Ranker(tmp_path / "newer")


def test_it_serves_without_torch_and_without_distilrec(folder):
    program = f"""
import sys
sys.path.insert(0, {str(distilrec_ranker.__file__).rsplit("/", 1)[0]!r})
from pathlib import Path
from distilrec_ranker import Ranker
assert Ranker(Path({str(folder)!r})).recommend([["item 3"]], k=2)[0].items
assert not {{"torch", "distilrec", "mlflow"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
