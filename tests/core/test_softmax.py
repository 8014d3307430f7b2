import pytest
import torch
import torch.nn.functional as F

import distilrec.core.softmax as module
from distilrec.core.softmax import Teacher, softmax_loss
from tests.conftest import generator


def _case():
    def draw(*shape):
        return torch.randn(*shape, generator=generator(sum(shape)), dtype=torch.float64)

    return (
        draw(7, 4).requires_grad_(),
        draw(11, 4).requires_grad_(),
        torch.arange(7) % 11,
        Teacher(draw(7, 5), draw(11, 5)),
    )


@pytest.mark.parametrize("chunk_elements", [1, 40, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_value_and_gradient_are_those_of_torch(chunk_elements, share, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", chunk_elements)
    states, vectors, targets, teacher = _case()
    loss = softmax_loss(states, vectors, targets, teacher, share)
    logits = states @ vectors.T
    wanted = (teacher.states_NE @ teacher.vectors_VE.T).log_softmax(dim=1)
    task = F.cross_entropy(logits, targets)
    soft = F.kl_div(logits.log_softmax(dim=1), wanted, log_target=True, reduction="batchmean")
    assert loss.task == pytest.approx(task.item())
    if share:
        assert loss.soft == pytest.approx(soft.item())
    expected = (1 - share) * task + share * soft
    torch.testing.assert_close(loss.total, expected)
    got, wanted_grads = (torch.autograd.grad(2.0 * total, (states, vectors)) for total in (loss.total, expected))
    for one, other in zip(got, wanted_grads, strict=True):
        torch.testing.assert_close(one, other)


def test_gradient_against_finite_differences():
    states, vectors, targets, teacher = _case()

    def total(one, other):
        return softmax_loss(one, other, targets, teacher, 0.4).total

    assert torch.autograd.gradcheck(total, (states, vectors))
