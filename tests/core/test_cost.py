"""The analytic counter against torch's own, and the relaxed cost against the built student."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distilrec.core.cell import Student, derive
from distilrec.core.config import Teach
from distilrec.core.cost import count_params, expected_cost, model_cost, operation_costs, relative_costs
from distilrec.core.dropout import Dropout
from distilrec.core.operations import OPERATIONS
from distilrec.io.models import TeacherShape
from tests.conftest import LENGTH, NUM_EDGES, NUM_ITEMS, WIDTH, nextitnet, sasrec, student


class _BatchedAttention(nn.Module):
    """The same attention written as batched products, which torch's counter can see."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor, visible: None) -> torch.Tensor:
        block = self.block
        parts = block.query_key_value(x).unflatten(2, (3, block.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        scores = (query @ key.transpose(2, 3)).masked_fill(future, float("-inf")).softmax(dim=3)
        return block.attention_out((scores @ value).transpose(1, 2).flatten(2))


def _counted(model: nn.Module, *inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("index", range(len(OPERATIONS)))
def test_student_counts_what_torch_counts(index):
    model = student([index] * NUM_EDGES)
    ids = torch.zeros(1, LENGTH, dtype=torch.int64)
    assert model_cost(model).encoder_macs == _counted(model, ids)


def test_nextitnet_counts_what_torch_counts():
    model = nextitnet()
    cost = model_cost(model)
    assert cost.encoder_macs == _counted(model, torch.zeros(1, LENGTH, dtype=torch.int64))
    assert cost.encoder_params + cost.embedding_params == count_params(model)


def test_teacher_counts_what_torch_counts():
    model = sasrec()
    for block in model.layers:
        block._attend = _BatchedAttention(block).forward
    ids = torch.zeros(1, LENGTH, dtype=torch.int64)
    cost = model_cost(model)
    assert cost.encoder_macs == _counted(model, ids)
    assert cost.scoring_macs == NUM_ITEMS * WIDTH
    assert cost.encoder_params + cost.embedding_params == count_params(model)


def test_operation_costs_add_up_to_the_derived_student():
    choice = [0, 3, 4, 6, 8, 2]
    built = Student(NUM_ITEMS, Dropout(0.0), derive(choice, 3, 3, WIDTH, LENGTH))
    costs = list(operation_costs(WIDTH, LENGTH).values())
    assert model_cost(built).encoder_macs == 3 * sum(costs[index].macs for index in choice)


def test_expected_cost_is_in_the_unit_interval_and_falls_when_the_dear_become_unlikely():
    relative = relative_costs(operation_costs(WIDTH, LENGTH))
    names = list(OPERATIONS)
    dearest = torch.zeros(NUM_EDGES, len(names)).index_fill_(1, torch.tensor(names.index("conv5")), 1.0)
    free = torch.zeros(NUM_EDGES, len(names)).index_fill_(1, torch.tensor(names.index("identity")), 1.0)
    assert expected_cost(dearest, relative).item() == pytest.approx(1.0)
    assert expected_cost(free, relative).item() == 0.0
    logits = torch.zeros(NUM_EDGES, len(names), requires_grad=True)
    expected_cost(logits.softmax(dim=1), relative).backward()
    assert (logits.grad[:, names.index("conv5")] > 0).all()
    assert (logits.grad[:, names.index("zero")] < 0).all()


@pytest.mark.parametrize(
    ("knobs", "millions"),
    [
        ({"model": "nextitnet", "width": 256, "num_blocks": 8, "dilations": (1, 4)}, 6.316),
        ({"model": "bert4rec", "width": 128, "num_blocks": 8, "num_heads": 4}, 1.586),
    ],
)
def test_teachers_have_the_size_of_the_release(knobs, millions):
    """Parameters without embeddings, counted in the AdaRec code."""
    teacher = TeacherShape.of(Teach(**knobs), NUM_ITEMS, LENGTH).build()
    assert model_cost(teacher).encoder_params == pytest.approx(1e6 * millions, rel=0.001)
