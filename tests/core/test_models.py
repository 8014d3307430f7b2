"""No operation, teacher or student sees the future, in train mode too; padding changes nothing."""

import pytest
import torch
from torch import nn

from distilrec.core.cell import Supernet
from distilrec.core.decisions import draw
from distilrec.core.dropout import Dropout
from distilrec.core.nextitnet import DilatedConv
from distilrec.core.operations import OPERATIONS, taps
from distilrec.core.sasrec import Block
from distilrec.core.sequence_model import SequenceModel, initialise
from tests.conftest import (
    LENGTH,
    NUM_EDGES,
    NUM_ITEMS,
    WIDTH,
    bert4rec,
    generator,
    nextitnet,
    require_padding_changes_no_score,
    sasrec,
    space,
    student,
)

CHANGED = 6


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_causal_and_map_zero_to_zero(name, training):
    operation = OPERATIONS[name](WIDTH).train(training)
    initialise(operation, generator())
    x = torch.rand(2, LENGTH, WIDTH, generator=generator(1))
    later = x.clone()
    later[:, CHANGED:] += 1.0
    before, after = operation(x), operation(later)
    assert before.shape == x.shape
    torch.testing.assert_close(before[:, :CHANGED], after[:, :CHANGED], rtol=0, atol=0)
    if name != "zero":
        assert not torch.equal(before[:, CHANGED:], after[:, CHANGED:])
    assert operation(torch.zeros_like(x)).abs().max() == 0


def _models() -> dict[str, SequenceModel]:
    supernet = Supernet(NUM_ITEMS, Dropout(0.3), space(2, is_depth_searched=True))
    initialise(supernet, generator())
    logits = {name: torch.zeros(shape) for name, shape in supernet.space.decisions().items()}
    students = {f"student-{name}": student([i] * NUM_EDGES, dropout=0.3) for i, name in enumerate(OPERATIONS)}
    teachers = {"sasrec": sasrec(dropout=0.3), "nextitnet": nextitnet(), "bert4rec": bert4rec(dropout=0.3)}
    return {**teachers, "supernet": supernet.select(draw(logits, 1.0, generator(3))), **students}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", _models())
def test_changing_a_later_item_changes_no_earlier_state(name, training, ids):
    model = _models()[name].train(training)
    later = ids.clone()
    later[:, CHANGED:] = (later[:, CHANGED:] + 1) % NUM_ITEMS
    outputs = []
    for given in (ids, later):
        model.dropout.generator.manual_seed(5)  # the same masks
        outputs.append(model(given))
    for before, after in zip(
        (*outputs[0].hidden, outputs[0].state_BLD), (*outputs[1].hidden, outputs[1].state_BLD), strict=True
    ):
        torch.testing.assert_close(before[:, :CHANGED], after[:, :CHANGED], rtol=0, atol=1e-6)
    assert not torch.allclose(outputs[0].state_BLD[:, CHANGED:], outputs[1].state_BLD[:, CHANGED:])


@pytest.mark.parametrize("name", _models())
def test_padding_changes_no_score(name, ids):
    model = _models()[name].eval()
    require_padding_changes_no_score(model, ids)


def test_attention_equals_torchs_own_with_the_weights_copied():
    block = Block(WIDTH, num_heads=2, inner=4, dropout=Dropout(0.0))
    reference = nn.MultiheadAttention(WIDTH, num_heads=2, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(block.query_key_value.weight)
        reference.in_proj_bias.copy_(block.query_key_value.bias)
        reference.out_proj.weight.copy_(block.attention_out.weight)
        reference.out_proj.bias.copy_(block.attention_out.bias)
    x = torch.randn(2, LENGTH, WIDTH, generator=generator())
    future = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    expected, _ = reference(x, x, x, attn_mask=future, need_weights=False)
    torch.testing.assert_close(block._attend(x, None), expected)


@pytest.mark.parametrize("dilation", [1, 4, LENGTH])
def test_the_gradient_of_taps_against_finite_differences(dilation):
    x = torch.rand(2, LENGTH, 2, generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: taps(given, 3, dilation), x)


def test_the_teachers_convolution_equals_torchs_own():
    conv = DilatedConv(WIDTH, dilation=4)
    x = torch.rand(2, LENGTH, WIDTH, generator=generator(1))
    weight = conv.linear.weight.unflatten(1, (3, WIDTH)).permute(0, 2, 1)
    padded = nn.functional.pad(x.transpose(1, 2), (8, 0))
    expected = nn.functional.conv1d(padded, weight, conv.linear.bias, dilation=4).transpose(1, 2)
    torch.testing.assert_close(conv(x), expected)


def test_convolution_equals_torchs_own():
    operation = OPERATIONS["dilated_conv5"](WIDTH)
    initialise(operation, generator())
    x = torch.rand(2, LENGTH, WIDTH, generator=generator(1))
    weight = operation.weight.unflatten(0, (5, WIDTH)).permute(2, 1, 0)
    padded = nn.functional.pad(x.transpose(1, 2), (8, 0))
    expected = operation.norm(nn.functional.conv1d(padded, weight, dilation=2).transpose(1, 2))
    torch.testing.assert_close(operation(x), expected)


def test_dropout_keeps_the_mean_and_rests_in_eval_mode():
    dropout = Dropout(0.25)
    x = torch.ones(200, 200)
    assert dropout.eval()(x) is x
    dropped = dropout.train()(x)
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert dropped.mean() == pytest.approx(1.0, abs=0.01)
