"""A ranker with an index against the same one without."""

import shutil
from copy import copy

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from distilrec.core.dropout import Dropout
from distilrec.core.sasrec import SASRec
from distilrec.core.sequence_model import initialise
from distilrec.io.export import export_onnx
from distilrec.io.rankers import complete_ranker, equally_long, write_indexed
from distilrec.serving.distilrec_ranker import Ranker, RankerError, write_settings
from tests.conftest import generator

NUM_ITEMS, WIDTH, LENGTH = 3000, 8, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`exact` and `indexed`, of one model whose item vectors differ in length."""
    folder = tmp_path_factory.mktemp("rankers")
    model = SASRec(NUM_ITEMS, WIDTH, LENGTH, Dropout(0.0), num_blocks=1, num_heads=1)
    initialise(model, generator())
    model.items.weight.data[:-1] *= 1 + 0.3 * torch.rand(NUM_ITEMS, 1, generator=generator(1))
    export_onnx(model, folder / "exact")
    ids, counts = [f"item {index}" for index in range(NUM_ITEMS)], list(range(NUM_ITEMS))
    pq.write_table(pa.table({"item": ids, "title": ids, "num_events": counts}), folder / "items.parquet")
    complete_ranker(folder / "exact", folder / "items.parquet", "shop", exclude_seen=True)
    vectors_VD = model.item_vectors().detach().numpy()
    write_indexed(folder / "exact", folder / "indexed", vectors_VD, effort=64, threads=1)
    return folder


@pytest.fixture(scope="module")
def exact(folder):
    return Ranker(folder / "exact")


@pytest.fixture(scope="module")
def indexed(folder):
    return Ranker(folder / "indexed")


def _histories(count):
    drawn = np.random.default_rng(1).integers(NUM_ITEMS, size=(count, LENGTH))
    return [[f"item {index}" for index in row] for row in drawn]


def test_equally_long_vectors_keep_their_products():
    vectors_VD = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    longer_VE = equally_long(vectors_VD)
    np.testing.assert_allclose(np.linalg.norm(longer_VE, axis=1), np.linalg.norm(vectors_VD, axis=1).max(), rtol=1e-5)
    np.testing.assert_array_equal(longer_VE[:, :4], vectors_VD)
    assert longer_VE.shape == (50, 8) and not longer_VE[:, 5:].any()


def test_it_finds_nearly_all_and_with_scores_of_half_precision(exact, indexed):
    histories = _histories(200)
    pairs = list(zip(exact.recommend(histories), indexed.recommend(histories), strict=True))
    assert np.mean([len({*a.items} & {*b.items}) / 10 for a, b in pairs]) > 0.95
    for one, other in pairs:
        scores = dict(zip(one.items, one.scores, strict=True))
        assert len(other.items) == 10 and other.scores == sorted(other.scores, reverse=True)
        both = [item for item in other.items if item in scores]
        found = dict(zip(other.items, other.scores, strict=True))
        np.testing.assert_allclose(
            [found[i] for i in both], [scores[i] for i in both], rtol=0, atol=2e-3 * one.scores[0]
        )


def test_what_is_seen_or_excluded_is_left_out_and_k_remain(exact, indexed):
    (history,) = _histories(1)
    best = exact.recommend([history], k=30)[0].items
    answer = indexed.recommend([history], k=10, exclude=best[:20])[0]
    assert len(answer.items) == 10 and not {*answer.items} & {*history, *best[:20]}
    assert len({*answer.items} & {*best[20:]}) >= 9
    kept = indexed.recommend([history], k=10, exclude_seen=False)[0]
    assert kept.items[0] == exact.recommend([history], k=10, exclude_seen=False)[0].items[0]


@pytest.mark.parametrize("options", [{"allow": ["item 3", "item 77", "item 9"], "k": 3}, {"k": NUM_ITEMS}])
def test_where_an_index_would_not_pay_the_answer_is_exact(exact, indexed, options):
    assert indexed.recommend(_histories(2), **options) == exact.recommend(_histories(2), **options)


def test_where_too_few_are_found_the_answer_is_exact(exact, indexed):
    narrow = copy(indexed)
    narrow.index = copy(indexed.index)
    narrow.index.effort = 1
    histories = _histories(5)
    assert narrow.recommend(histories, k=250) == exact.recommend(histories, k=250)
    assert narrow.recommend(histories, k=1) != exact.recommend(histories, k=1)


def test_a_user_of_whom_nothing_is_known_gets_what_is_popular(exact, indexed):
    asked = [["?"], *_histories(1), []]
    unknown, known, empty = indexed.recommend(asked, k=3, exclude=["item 2998"])
    assert unknown.items == empty.items == ["item 2999", "item 2997", "item 2996"]
    assert (unknown.is_fallback, known.is_fallback) == (True, False)


def test_an_index_that_is_none_is_refused(folder, tmp_path):
    shutil.copytree(folder / "indexed", tmp_path / "broken")
    (tmp_path / "broken" / "index.faiss").write_bytes(b"no index")
    with pytest.raises(RankerError, match=r"index\.faiss is not what was written"):
        Ranker(tmp_path / "broken")
    write_settings(tmp_path / "broken", {"scene": "shop", "exclude_seen": True, "index_effort": 64})
    with pytest.raises(RankerError, match=r"index\.faiss cannot be read as an index"):
        Ranker(tmp_path / "broken")
    faiss.write_index(faiss.IndexFlatIP(WIDTH), str(tmp_path / "broken" / "index.faiss"))
    write_settings(tmp_path / "broken", {"scene": "shop", "exclude_seen": True, "index_effort": 64})
    with pytest.raises(RankerError, match="an index of another kind"):
        Ranker(tmp_path / "broken")
    (tmp_path / "broken" / "index.faiss").unlink()
    write_settings(tmp_path / "broken", {"scene": "shop", "exclude_seen": True, "index_effort": 64})
    with pytest.raises(RankerError, match=r"does not list index\.faiss"):
        Ranker(tmp_path / "broken")
