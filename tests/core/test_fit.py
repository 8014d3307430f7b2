"""The loops learn what can be learnt, resume bit for bit, and stop when the loss is no number."""

import math

import pytest
import torch

from distilrec.core.cell import Supernet
from distilrec.core.config import Distillation, Search, Training
from distilrec.core.cost import operation_costs, relative_costs
from distilrec.core.distill import LayerDistillation
from distilrec.core.dropout import Dropout
from distilrec.core.evaluation import mean_ndcg10, rank_users
from distilrec.core.fit import BatchRecord, DivergedError, Fit, TrainingData
from distilrec.core.lessons import Distiller
from distilrec.core.relaxation import entropies, most_likely, sample, temperature_at
from distilrec.core.sasrec import SASRec
from distilrec.core.search import ArchitectureSearch, split_windows
from distilrec.core.sequence_model import ModelScorer, initialise
from distilrec.core.teaching import LiveTeacher
from tests.conftest import LENGTH, NUM_EDGES, NUM_ITEMS, chain, generator, objective, sasrec, student

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
                LayerDistillation(8, 16, 1, 1, temperature=10.0),
                Distillation(share=share),
            )
            config = Training(learning_rate=0.01, batch_size=16, max_epochs=8, patience=8)
            fit = Fit(pupil, data, config, random, objective(NUM_MANY), distiller)
            for _ in fit.records():
                pass
            scores[share] = _test_ndcg(fit, rich)
        gains.append(scores[0.8] - scores[0.0])
    assert sum(gains) / len(gains) > 0.02


def _search(epochs: int = 3, after: int = 0) -> ArchitectureSearch:
    random = generator(4)
    supernet = Supernet(NUM_ITEMS, 8, LENGTH, Dropout(0.1), num_cells=2, num_nodes=3)
    initialise(supernet, random)
    layers = LayerDistillation(8, 8, 2, 2, temperature=10.0)
    initialise(layers, random)
    knobs = Search(width=8, num_cells=2, epochs=epochs, batch_size=32, learning_rate=0.01, architecture_after=after)
    data = TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")
    costs = relative_costs(operation_costs(8, LENGTH))
    distiller = Distiller(LiveTeacher(sasrec(), 128), layers, knobs.distillation)
    return ArchitectureSearch(supernet, distiller, data, knobs, costs, random, objective())


RESUMABLE = {
    "softmax": lambda: _fit(TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")),
    "sampled": lambda: _fit(TrainingData.leave_one_out(chain(0.9), LENGTH, "kept"), kind="sampled-softmax"),
    "search": lambda: _search(4),
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


# The search: who moves what.


def _moved(search: ArchitectureSearch, step) -> tuple[bool, bool]:
    """Whether the weights, and whether the architecture logits, differ after a step."""
    weights = {name: tensor.clone() for name, tensor in search.trained.state_dict().items()}
    logits = search.logits_EO.detach().clone()
    step()
    weights_moved = any(not torch.equal(tensor, weights[name]) for name, tensor in search.trained.state_dict().items())
    return weights_moved, not torch.equal(search.logits_EO.detach(), logits)


def test_each_optimiser_moves_only_its_own_parameters():
    search = _search()
    batch = next(search._batches(search.weight_windows))
    search.trained.train()
    assert _moved(search, lambda: search.weight_step(batch, 1.0)) == (True, False)
    assert _moved(search, lambda: search.architecture_step(batch, 1.0)) == (False, True)
    own = {id(parameter) for group in search.weight_optimiser.param_groups for parameter in group["params"]}
    assert id(search.logits_EO) not in own
    assert [id(search.logits_EO)] == [id(p) for g in search.architecture_optimiser.param_groups for p in g["params"]]


def test_weights_and_architecture_learn_from_different_users():
    search = _search()
    weights, held_out = set(search.weight_windows.owners), set(search.architecture_windows.owners)
    assert not weights & held_out
    assert weights | held_out == set(search.data.windows.owners)
    assert len(held_out) == round(0.3 * (len(weights) + len(held_out)))
    for share in (0.001, 0.999):
        assert all(len(part) for part in split_windows(search.data.windows, share, generator()))


def test_the_sampled_path_gives_the_weights_the_gradient_of_the_whole_mixture():
    search = _search()
    batch = next(search._batches(search.weight_windows))
    search.trained.eval()
    drawn = sample(search.logits_EO.detach(), 1.0, generator(9))
    gradients = []
    for mixture in (None, drawn.mixture_EO):
        search.trained.zero_grad(set_to_none=True)
        total, _ = search._loss(search.supernet.select(drawn.choice, mixture), batch)
        total.backward()
        gradients.append({name: p.grad for name, p in search.trained.named_parameters() if p.grad is not None})
    sampled, whole = gradients
    for name, gradient in whole.items():
        expected = sampled.get(name, torch.zeros_like(gradient))
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_the_search_leaves_the_uniform_distribution():
    search = _search(epochs=6)
    records = [record for record in search.records() if not isinstance(record, BatchRecord)]
    assert records[0].architecture_losses is not None
    assert sum(records[-1].entropy_E) < sum(records[0].entropy_E) < NUM_EDGES
    assert records[-1].choice == search.choice()


def test_a_dear_operation_is_driven_out_by_a_heavy_cost():
    search = _search(epochs=6)
    search.config = search.config.model_copy(update={"cost_weight": 100.0})
    for _ in search.records():
        pass
    assert (search.relative_costs_O[list(search.choice())] == 0).all()


def test_the_sample_is_one_hot_with_the_gradient_of_the_soft_one():
    logits = torch.randn(4, 5, generator=generator(), requires_grad=True)
    drawn = sample(logits, 0.7, generator(1))
    assert drawn.mixture_EO.detach().sum(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert drawn.mixture_EO.argmax(dim=1).tolist() == list(drawn.choice)
    drawn.mixture_EO[:, 0].sum().backward()
    assert logits.grad.abs().sum() > 0


def test_samples_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    random = generator(2)
    drawn = torch.tensor([sample(logits, 0.5, random).choice[0] for _ in range(4000)])
    frequency = torch.bincount(drawn, minlength=3) / 4000
    torch.testing.assert_close(frequency, logits[0].softmax(dim=0), rtol=0, atol=0.03)
    assert most_likely(logits) == (2,)


def test_temperature_reaches_its_floor_and_entropy_its_ends():
    assert [round(temperature_at(epoch, 3, 1.0, 0.25), 6) for epoch in range(3)] == [1.0, 0.5, 0.25]
    assert temperature_at(0, 1, 1.0, 0.25) == 1.0
    values = entropies(torch.tensor([[0.0, 0.0], [100.0, 0.0]])).tolist()
    assert values == pytest.approx([1.0, 0.0])


def test_a_student_can_be_trained_by_the_same_loop():
    data = TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")
    pupil = student([0] * NUM_EDGES, dropout=0.1)
    initialise(pupil, generator())
    distiller = Distiller(LiveTeacher(sasrec(), 128), LayerDistillation(8, 8, 2, 2, temperature=10.0), Distillation())
    config = Training(learning_rate=0.01, batch_size=32, max_epochs=2, patience=2)
    epochs = [
        record
        for record in Fit(pupil, data, config, generator(), objective(), distiller).records()
        if not isinstance(record, BatchRecord)
    ]
    assert epochs[1].losses.total < epochs[0].losses.total
    assert min(epochs[1].losses.soft, epochs[1].losses.hidden, epochs[1].losses.embedding) > 0
