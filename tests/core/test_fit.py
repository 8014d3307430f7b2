"""The loops learn what can be learnt, resume bit for bit, and stop when the loss is no number."""

import math

import pytest
import torch

from distilrec.core.config import Distillation, Training
from distilrec.core.distill import LayerDistillation
from distilrec.core.dropout import Dropout
from distilrec.core.evaluation import mean_ndcg10, rank_users
from distilrec.core.fit import BatchRecord, DivergedError, Fit, TrainingData
from distilrec.core.lessons import Distiller
from distilrec.core.recommender import ModelScorer
from distilrec.core.sasrec import SASRec
from distilrec.core.sequence_model import initialise
from distilrec.core.teaching import LiveTeacher
from tests.conftest import LENGTH, NUM_EDGES, NUM_ITEMS, chain, generator, objective, sasrec, student
from tests.core.searching import search_over

NUM_MANY = 40


def _fit(
    data: TrainingData, seed: int = 0, epochs: int = 8, num_items: int = NUM_ITEMS, rate: float = 0.01, **loss
) -> Fit:
    random = generator(seed)
    model = SASRec(num_items, 16, LENGTH, Dropout(0.1), num_blocks=1, num_heads=2)
    initialise(model, random)
    config = Training(learning_rate=rate, batch_size=16, max_epochs=epochs, patience=epochs)
    return Fit(model, data, config, random, objective(num_items, **loss))


def _test_ndcg(fit: Fit, sequences) -> float:
    fit.model.load_state_dict(fit.best_weights)
    ranks = rank_users(ModelScorer(fit.model), sequences.without_last(1), sequences.target(1))
    return mean_ndcg10(ranks, "kept")


@pytest.mark.parametrize(
    ("predictability", "low", "high", "kind", "epochs"),
    [
        (1.0, 0.95, 1.0, "softmax", 8),
        (0.0, 0.05, 0.17, "softmax", 8),
        (1.0, 0.95, 1.0, "sampled-softmax", 8),
        (1.0, 0.90, 1.0, "gbce", 30),  # binary losses first learn that everything is unlikely
    ],
)
def test_a_chain_is_learnt_and_noise_is_not(predictability, low, high, kind, epochs):
    # Chance over 40 items: the mean of 1/log2(rank + 1) for ranks 1..10, times 10/40, is 0.1136.
    sequences = chain(predictability, num_users=200, num_items=NUM_MANY, length=12)
    data = TrainingData.leave_one_out(sequences, LENGTH, "kept")
    fit = _fit(data, num_items=NUM_MANY, epochs=epochs, kind=kind, num_negatives=10, calibration=0.0)
    for _ in fit.records():
        pass
    assert low <= _test_ndcg(fit, sequences) <= high


def test_a_distilled_student_beats_the_same_student_without_a_teacher_over_seeds():
    sequences = chain(0.8, num_users=60, num_items=NUM_MANY, length=12)
    data = TrainingData.leave_one_out(sequences, LENGTH, "kept")
    rich = chain(0.8, num_users=600, num_items=NUM_MANY, length=12)
    teacher = _fit(TrainingData.leave_one_out(rich, LENGTH, "kept"), num_items=NUM_MANY, epochs=5)
    for _ in teacher.records():
        pass
    gains = []
    for seed in range(3):
        scores = {}
        for share in (0.0, 0.8):
            random = generator(seed)
            pupil = SASRec(NUM_MANY, 8, LENGTH, Dropout(0.1), num_blocks=1, num_heads=1)
            initialise(pupil, random)
            distiller = Distiller(
                LiveTeacher(teacher.model, 128),
                LayerDistillation(8, 16, 1, 1, Distillation()),
                Distillation(share=share),
            )
            config = Training(learning_rate=0.01, batch_size=16, max_epochs=8, patience=8)
            fit = Fit(pupil, data, config, random, objective(NUM_MANY), distiller)
            for _ in fit.records():
                pass
            scores[share] = _test_ndcg(fit, rich)
        gains.append(scores[0.8] - scores[0.0])
    assert sum(gains) / len(gains) > 0.02


RESUMABLE = {
    "softmax": lambda: _fit(TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")),
    "sampled": lambda: _fit(TrainingData.leave_one_out(chain(0.9), LENGTH, "kept"), kind="sampled-softmax"),
    "search": lambda: search_over(epochs=4),
    "search within a budget": lambda: search_over(epochs=4, depth="searched", budget={"encoder_macs": 4000}),
    "search by the score function": lambda: search_over(epochs=4, architecture_gradient="score-function"),
    "search as released": lambda: search_over(epochs=4, space="adarec-as-released"),
}


@pytest.mark.parametrize("make", RESUMABLE.values(), ids=RESUMABLE)
def test_a_resumed_training_ends_bit_for_bit_where_it_would_have(make):
    straight, broken = make(), make()
    for _ in straight.records():
        pass
    for record in broken.records():
        if not isinstance(record, BatchRecord) and record.epoch == 2:
            saved = broken.snapshot()
        if isinstance(record, BatchRecord) and record.epoch == 3 and record.batch == 2:
            break  # killed in the middle of an epoch
    resumed = make()
    resumed.restore(saved)
    for _ in resumed.records():
        pass
    one, other = straight.snapshot(), resumed.snapshot()
    assert one.values == other.values
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name


def test_a_loss_that_is_no_number_names_epoch_and_batch():
    fit = _fit(TrainingData.leave_one_out(chain(0.9), LENGTH, "kept"))
    with torch.no_grad():
        fit.model.norm.weight.fill_(math.nan)
    with pytest.raises(DivergedError, match="epoch 1, batch 1"):
        list(fit.records())


def test_early_stopping_keeps_the_best_epoch():
    fit = _fit(
        TrainingData.leave_one_out(chain(0.0, num_items=NUM_MANY), LENGTH, "kept"), epochs=40, num_items=NUM_MANY
    )
    fit.config = fit.config.model_copy(update={"patience": 3})
    epochs = [record for record in fit.records() if not isinstance(record, BatchRecord)]
    assert len(epochs) == fit.best_epoch + 3 < 40
    assert fit.best == max(record.valid["kept"] for record in epochs)


def test_a_student_can_be_trained_by_the_same_loop():
    data = TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")
    pupil = student([0] * NUM_EDGES, dropout=0.1)
    initialise(pupil, generator())
    distiller = Distiller(LiveTeacher(sasrec(), 128), LayerDistillation(8, 8, 2, 2, Distillation()), Distillation())
    config = Training(learning_rate=0.01, batch_size=32, max_epochs=2, patience=2)
    epochs = [
        record
        for record in Fit(pupil, data, config, generator(), objective(), distiller).records()
        if not isinstance(record, BatchRecord)
    ]
    assert epochs[1].losses.total < epochs[0].losses.total
    assert min(epochs[1].losses.soft, epochs[1].losses.hidden, epochs[1].losses.embedding) > 0
