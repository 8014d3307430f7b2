"""The named option does what AdaRec's public code does, its faults included."""

import pytest
import torch

from distilrec.core.cell import OPERATION
from distilrec.core.dropout import Dropout
from distilrec.core.genotype import Genotype
from distilrec.core.released import COSTS, ReleasedStudent, _reverse_divergence
from distilrec.core.released_operations import RELEASED_OPERATIONS
from tests.conftest import LENGTH, NUM_ITEMS, WIDTH, far_from_linear, generator, require_padding_changes_no_score
from tests.core.searching import finished, search_over

CHANGED = 6
SEES_THE_FUTURE = {"conv3", "dilated_conv3", "conv5", "dilated_conv5", "max_pool3", "average_pool3"}


@pytest.mark.parametrize("name", RELEASED_OPERATIONS)
def test_six_of_ten_operations_see_the_next_position(name):
    operation = RELEASED_OPERATIONS[name](WIDTH).eval()
    x = torch.rand(2, LENGTH, WIDTH, generator=generator(1))
    later = x.clone()
    later[:, CHANGED:] += 1.0
    leaks = not torch.allclose(operation(x)[:, :CHANGED], operation(later)[:, :CHANGED])
    assert leaks == (name in SEES_THE_FUTURE)


def test_windows_are_padded_on_the_left_and_answers_come_back(ids):
    cell = {(0, 1): "conv3", (1, 2): "causal_dilated_conv5", (0, 3): "max_pool3"}
    genotype = Genotype((cell, cell), 3, WIDTH, LENGTH, "as-released")
    model = far_from_linear(ReleasedStudent(NUM_ITEMS, Dropout(0.0), genotype), 0).eval()
    require_padding_changes_no_score(model, ids)


def test_the_divergence_has_its_arguments_swapped_and_counts_positions():
    random = generator()
    student, teacher = (torch.randn(3, 5, 4, generator=random).log_softmax(dim=2) for _ in range(2))
    by_hand = (student.exp() * (student - teacher)).sum() / 3
    torch.testing.assert_close(_reverse_divergence(student, teacher), by_hand)


def test_weights_and_architecture_move_together_on_one_batch():
    search = search_over(space="adarec-as-released")
    search.trained.train()
    before = {name: tensor.clone() for name, tensor in search.trained.state_dict().items()}
    logits = search.logits[OPERATION].detach().clone()
    search.weight_step(next(search._batches(search.weight_windows)), 1.0)
    moved = [name for name, tensor in search.trained.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any("edges" in name for name in moved)
    assert not torch.equal(search.logits[OPERATION].detach(), logits)


def test_the_distributions_hardly_move():
    records = finished(search_over(space="adarec-as-released", epochs=4))
    probability = torch.tensor(records[-1].probability[OPERATION])
    assert (probability - 0.1).abs().max() < 0.01
    assert records[-1].architecture_losses is None
    assert len(COSTS) == len(RELEASED_OPERATIONS)


def test_validation_asks_another_noisy_draw_each_time():
    search = search_over(space="adarec-as-released")
    asked = set()
    for _ in range(4):
        search.validated()
        asked.add(search.supernet.drawn.choice[OPERATION])
    assert len(asked) == 4
