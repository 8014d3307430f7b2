"""The masked stage sees both sides and learns; fine-tuning begins from it and is causal (test_models)."""

import numpy as np
import torch

from distilrec.core.batching import training_batches
from distilrec.core.bert4rec import BERT4Rec, MaskedScorer, mask
from distilrec.core.config import Masked, Training
from distilrec.core.dropout import Dropout
from distilrec.core.evaluation import mean_ndcg10, rank_users
from distilrec.core.fit import Fit, TrainingData
from distilrec.core.lessons import MaskedItems
from distilrec.core.recommender import ModelScorer
from distilrec.core.sequence_model import initialise
from tests.conftest import LENGTH, NUM_ITEMS, bert4rec, chain, generator, objective


def test_a_masked_place_sees_both_sides_and_no_padding(ids):
    model = bert4rec().eval()
    is_masked = torch.zeros(ids.shape, dtype=torch.bool)
    is_masked[:, 4] = True
    with torch.no_grad():
        before = model.fill_in(ids, is_masked)
        later, hidden, padded = ids.clone(), ids.clone(), ids.clone()
        later[:, 7] = (later[:, 7] + 1) % NUM_ITEMS
        hidden[:, 4] = (hidden[:, 4] + 1) % NUM_ITEMS
        padded[:, 8:] = NUM_ITEMS
        assert not torch.allclose(model.fill_in(later, is_masked)[:, 4], before[:, 4])
        torch.testing.assert_close(model.fill_in(hidden, is_masked), before, rtol=0, atol=0)
        short = model.fill_in(ids[:, :8], is_masked[:, :8])
        torch.testing.assert_close(model.fill_in(padded, is_masked)[:, :8], short)


def test_masks_cover_their_share_of_the_real_items_and_every_window():
    data = TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")
    random = generator()
    batches = list(training_batches(data.train, data.windows, 16, random))
    masked = [mask(batch, 0.3, random) for batch in batches]
    num_items = sum(len(batch.real) + len(batch.inputs_BL) for batch in batches)
    assert 0.25 < sum(len(one.guessed_N) for one in masked) / num_items < 0.4
    for batch, one in zip(batches, masked, strict=True):
        assert NUM_ITEMS not in one.targets_N
        rows = one.guessed_N // one.ids_BM.shape[1]
        assert set(rows.tolist()) == set(range(len(batch.inputs_BL)))


def test_the_masked_stage_learns_a_chain_and_fine_tuning_begins_from_it():
    sequences = chain(0.9, num_users=100, num_items=40, length=2 * LENGTH + 3)  # full windows
    data = TrainingData.leave_one_out(sequences, LENGTH, "kept")
    random = generator()
    model = BERT4Rec(40, 32, LENGTH, Dropout(0.0), num_blocks=1, num_heads=2, inner=4)
    initialise(model, random)
    knobs = Masked(learning_rate=0.01, batch_size=16, max_epochs=16, patience=16)
    masked = Fit(model, data, knobs, random, objective(40), MaskedItems(knobs.share))
    for _ in masked.records():
        pass
    assert masked.best > 0.3  # chance is 0.11: see test_fit
    tuned = Fit(model, data, Training(learning_rate=0.005, batch_size=16, max_epochs=4), random, objective(40))
    for _ in tuned.records():
        pass
    ranks = rank_users(ModelScorer(model), sequences.without_last(1), sequences.target(1))
    assert mean_ndcg10(ranks, "kept") > 0.6


def test_the_masked_scorer_guesses_after_a_full_history_too():
    model, sequences = bert4rec(), chain(0.9, num_users=5, length=LENGTH + 4)
    scores = MaskedScorer(model).score(sequences, np.arange(5))
    assert scores.shape == (5, NUM_ITEMS) and np.isfinite(scores).all()
    assert np.abs(scores[0] - scores[1]).max() > 0
