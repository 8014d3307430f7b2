"""DE, RRD, RD and CD for sequential students, beside the earth mover's distance."""

from types import SimpleNamespace

import torch

from distilrec.core.batching import training_batches
from distilrec.core.config import (
    Collaborative,
    Distillation,
    DistillationExperts,
    PointwiseRanking,
    RelaxedRanking,
    Terms,
    Training,
)
from distilrec.core.cost import count_params
from distilrec.core.distill import LayerDistillation
from distilrec.core.fit import BatchRecord, Fit, TrainingData
from distilrec.core.lessons import Distiller
from distilrec.core.ranked import Law
from distilrec.core.sequence_model import initialise
from distilrec.core.state_terms import StateTerms, sizes_of_states
from distilrec.core.teaching import LiveTeacher
from distilrec.core.terms import terms_of
from tests.conftest import LENGTH, NUM_EDGES, chain, generator, objective, sasrec, student

EVERYTHING = Terms(
    de=DistillationExperts(weight=0.5, num_experts=3),
    rrd=RelaxedRanking(weight=0.5, num_interesting=3, num_uninteresting=3),
    rd=PointwiseRanking(weight=0.5, num_positives=3, num_sampled=4, warm_up=0.25),
    cd=Collaborative(weight=0.5, num_sampled=3),
)
BATCH = 32


def _fit(data: TrainingData, asked: Terms = EVERYTHING) -> Fit:
    pupil, teacher = student([0] * NUM_EDGES, dropout=0.1), sasrec(width=16)
    random = generator()
    initialise(pupil, random)
    terms = terms_of(asked, sizes_of_states(pupil, teacher, 4), random)
    batches = -(-len(data.windows) // BATCH)
    state_terms = StateTerms(teacher, terms, asked.weights(), batches, most_positions=50)
    layers = LayerDistillation(pupil.width, teacher.width, pupil.num_layers, teacher.num_layers, Distillation())
    initialise(layers, random)
    distiller = Distiller(LiveTeacher(teacher, 6), layers, Distillation(), terms=state_terms)
    config = Training(learning_rate=0.01, batch_size=BATCH, max_epochs=4, patience=4)
    return Fit(pupil, data, config, random, objective(), distiller)


def test_all_terms_at_once_teach_and_none_of_them_stays_in_the_student():
    data = TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")
    fit = _fit(data)
    before = count_params(fit.model)
    epochs = [record for record in fit.records() if not isinstance(record, BatchRecord)]
    assert 0 < epochs[-1].losses.terms < epochs[0].losses.terms
    assert epochs[-1].valid["kept"] > epochs[0].valid["kept"]
    assert sum(tensor.numel() for tensor in fit.best_weights.values()) == before
    assert count_params(fit.trained) > before
    assert not any("query_key_value" in name for name in fit.trained.state_dict()), "the teacher is not among them"


def test_a_training_with_terms_resumes_bit_for_bit():
    data = TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")
    straight, broken, resumed = (_fit(data) for _ in range(3))
    for record in broken.records():
        if not isinstance(record, BatchRecord) and record.epoch == 2:
            break
    resumed.restore(broken.snapshot())
    for fit in (straight, resumed):
        list(fit.records())
    for name, tensor in straight.snapshot().tensors.items():
        assert torch.equal(tensor, resumed.snapshot().tensors[name]), name


def test_a_term_is_told_the_epoch_the_items_and_what_was_next():
    """Of every drawn position; what came next is never among the uninteresting."""
    seen = []

    class Listens(torch.nn.Module):
        law = Law(3, 9, None)

        def forward(self, pair, drawn):
            seen.append((pair, drawn))
            return torch.zeros(())

    teacher, batch = sasrec(width=16), torch.arange(40) % 10
    terms = StateTerms(teacher, {"cd": Listens()}, {"cd": 1.0}, batches_per_epoch=2, most_positions=15)
    hidden, named = torch.randn(1, 40, 16, generator=generator()), torch.arange(6).expand(40, -1)
    taught = SimpleNamespace(hidden_TNE=hidden, soft=SimpleNamespace(ids_NM=named))
    for _ in range(5):
        terms(torch.randn(40, 8), torch.randn(12, 8), batch, taught, generator())
    assert [pair.epochs_done for pair, _ in seen] == [0, 0, 1, 1, 2]
    pair, drawn = seen[0]
    targets = batch[torch.randperm(40, generator=generator())[:15]]
    assert torch.equal(pair.items_I, targets.unique())
    torch.testing.assert_close(pair.item_weights_I.sum(), torch.tensor(15.0))
    assert len(drawn.uninteresting_NL) == 15
    assert not (drawn.uninteresting_NL == targets[:, None]).any()


def test_the_total_has_the_terms_weighed():
    """The terms' own number, doubled weights double it, and it enters the total by the share."""
    data = TrainingData.leave_one_out(chain(0.9), LENGTH, "kept")
    batch = next(training_batches(data.train, data.windows, BATCH, generator()))
    parts = []
    for weight in (0.5, 1.0):
        fit = _fit(data, Terms(cd=Collaborative(weight=weight, num_sampled=3)))
        fit.trained.eval()
        fit.objective.generator.manual_seed(0)
        parts.append(fit.lesson.loss(fit.model, batch, fit.objective)[1])
    torch.testing.assert_close(parts[1].terms, 2 * parts[0].terms)
    share = Distillation().share
    both = torch.tensor([parts[1].total, parts[0].total + share * parts[0].terms])
    torch.testing.assert_close(both[0], both[1])  # in single precision, in which the totals are sums
