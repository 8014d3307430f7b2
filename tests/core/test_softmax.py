"""The next-item losses: the whole catalogue in chunks, and sampled."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import distilrec.core.sampled as sampled
import distilrec.core.softmax as softmax
from distilrec.core.config import Loss
from distilrec.core.sampled import Sampling, sampled_loss
from distilrec.core.softmax import SoftTargets, softmax_loss
from tests.conftest import generator

NUM_ITEMS = 11


def _draw(*shape):
    return torch.randn(*shape, generator=generator(sum(shape)), dtype=torch.float64)


def _case(num_named: int = 4):
    top = (1.5 * _draw(7, NUM_ITEMS)).softmax(dim=1).topk(num_named, dim=1)
    targets = torch.arange(7) % NUM_ITEMS
    return _draw(7, 4).requires_grad_(), _draw(NUM_ITEMS, 4).requires_grad_(), targets, SoftTargets(*reversed(top))


def _plain(states, vectors, targets, teacher):
    """Task and soft loss as the formulas say, in torch; the soft one over the named items and the rest."""
    log_p = (states @ vectors.T).log_softmax(dim=1)
    named = log_p.gather(1, teacher.ids_NM)
    is_rest = torch.ones_like(log_p).scatter(1, teacher.ids_NM, 0.0)
    rest_p, rest_q = (log_p.exp() * is_rest).sum(dim=1), 1.0 - teacher.probability_NM.sum(dim=1)
    q = teacher.probability_NM
    soft = (q * (q.log() - named)).sum(dim=1)
    if teacher.ids_NM.shape[1] < NUM_ITEMS:
        soft = soft + rest_q * (rest_q.log() - rest_p.log())
    return F.nll_loss(log_p, targets), soft.mean()


@pytest.mark.parametrize("chunk_elements", [1, 40, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("num_named", [1, 4, NUM_ITEMS])
def test_value_and_gradient_are_those_of_the_formulas(chunk_elements, share, num_named, monkeypatch):
    monkeypatch.setattr(softmax, "FEWEST_ROWS", 1)
    monkeypatch.setattr(softmax, "CHUNK_ELEMENTS", chunk_elements)
    states, vectors, targets, teacher = _case(num_named)
    loss = softmax_loss(states, vectors, targets, teacher, share)
    task, soft = _plain(states, vectors, targets, teacher)
    assert loss.task == pytest.approx(task.item())
    if share:
        assert loss.soft == pytest.approx(soft.item())
    expected = (1 - share) * task + share * soft
    torch.testing.assert_close(loss.total, expected)
    got, wanted = (torch.autograd.grad(2.0 * total, (states, vectors)) for total in (loss.total, expected))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_with_every_item_named_the_soft_loss_is_the_divergence_over_the_catalogue():
    states, vectors, targets, teacher = _case(NUM_ITEMS)
    wanted = torch.zeros(7, NUM_ITEMS, dtype=torch.float64).scatter(1, teacher.ids_NM, teacher.probability_NM)
    divergence = F.kl_div((states @ vectors.T).log_softmax(dim=1), wanted, reduction="batchmean")
    assert softmax_loss(states, vectors, targets, teacher, 0.5).soft == pytest.approx(divergence.item())


def test_gradient_against_finite_differences():
    states, vectors, targets, teacher = _case()

    def total(one, other):
        return softmax_loss(one, other, targets, teacher, 0.4).total

    assert torch.autograd.gradcheck(total, (states, vectors))


@settings(max_examples=40, deadline=None)
@given(scale=st.sampled_from([1.0, 30.0, 300.0]), seed=st.integers(0, 20), probability=st.sampled_from([0.0, 0.5, 1.0]))
def test_a_student_or_teacher_that_is_sure_makes_no_infinity(scale, seed, probability):
    states = (scale * torch.randn(5, 4, generator=generator(seed))).requires_grad_()
    vectors = torch.randn(NUM_ITEMS, 4, generator=generator(seed + 1), requires_grad=True)
    ids = torch.randint(NUM_ITEMS, (5, 1), generator=generator(seed))
    teacher = SoftTargets(ids, torch.full((5, 1), probability))
    loss = softmax_loss(states, vectors, torch.zeros(5, dtype=torch.int64), teacher, 0.5)
    loss.total.backward()
    assert math.isfinite(loss.total.item())
    assert states.grad.isfinite().all()
    assert states.grad.abs().max() <= 2 * vectors.abs().max() / 5  # a difference of two distributions


# Sampled: with enough negatives the estimates are the exact losses.


def _negatives(number: int, calibration: float | None = None) -> Sampling:
    return Sampling(number, calibration, generator(3))


def test_sampled_softmax_approaches_the_full_one(monkeypatch):
    monkeypatch.setattr(sampled, "CHUNK", 3)
    states, vectors, targets, teacher = _case()
    exact = softmax_loss(states, vectors, targets, teacher, 0.4)
    estimate = sampled_loss(states, vectors, targets, _negatives(200_000), teacher, 0.4)
    assert (estimate.task, estimate.soft) == pytest.approx((exact.task, exact.soft), rel=0.01)
    for one, other in zip(
        torch.autograd.grad(estimate.total, (states, vectors)),
        torch.autograd.grad(exact.total, (states, vectors)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0.05, atol=2e-3)


@pytest.mark.parametrize("calibration", [None, 0.75])
def test_sampled_gradients_against_finite_differences(calibration):
    states, vectors, targets, teacher = _case()

    def total(one, other):
        return sampled_loss(one, other, targets, _negatives(5, calibration), teacher, 0.4).total

    assert torch.autograd.gradcheck(total, (states, vectors))


def test_gbce_by_hand():
    """One position, two negatives, t = 0.75: the positive's log sigmoid counts `power` times (eq. 8 of the paper)."""
    states, vectors = torch.tensor([[1.0]]), torch.tensor([[0.5], [-1.0], [2.0], [0.0], [0.0]])
    drawn = torch.randint(5, (2,), generator=generator(3)).tolist()
    assert 0 not in drawn, "else the target itself would be left out"
    rate = 2 / 4
    power = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
    negatives = sum(math.log(1 - 1 / (1 + math.exp(-vectors[item].item()))) for item in drawn)
    expected = -(power * math.log(1 / (1 + math.exp(-0.5))) + negatives) / 3
    assert sampled_loss(states, vectors, torch.tensor([0]), _negatives(2, 0.75)).task == pytest.approx(expected)


def test_calibration_zero_is_plain_binary_cross_entropy():
    states, vectors, targets, _ = _case()
    rate_free = sampled_loss(states, vectors, targets, _negatives(2, 0.0))
    drawn = torch.randint(NUM_ITEMS, (2,), generator=generator(3))
    logits = torch.cat([(states * vectors[targets]).sum(dim=1, keepdim=True), states @ vectors[drawn].T], dim=1)
    weight = torch.cat([torch.ones(7, 1), (drawn != targets[:, None]).double()], dim=1)
    labels = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand(7, 3)
    plain = F.binary_cross_entropy_with_logits(logits, labels, weight=weight, reduction="sum") / 3 / 7
    assert rate_free.task == pytest.approx(plain.item())


def test_the_catalogue_decides_where_the_config_leaves_it_open():
    config = Loss(softmax_up_to=1000)
    assert (config.kind_for(1000), config.kind_for(1001)) == ("softmax", "sampled-softmax")
    assert Loss(kind="gbce").kind_for(10) == "gbce"
