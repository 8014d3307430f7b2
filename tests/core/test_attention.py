"""Linear attention is its quadratic form, causal, without NaN, and blind to padding."""

import pytest
import torch
import torch.nn.functional as F

from distilrec.core import attention
from distilrec.core.attention import ATTENTIONS, features, linear_attention, linear_macs
from tests.conftest import generator

HEADS, FEATURES = 2, 3


def _inputs(length: int, kind=torch.float64) -> list[torch.Tensor]:
    random = generator(1)
    return [torch.randn(2, HEADS, length, FEATURES, generator=random, dtype=kind) for _ in range(3)]


def _quadratic(query, key, value, real) -> torch.Tensor:
    """Every pair, written out."""
    one, other = (F.elu(x) / (F.elu(x).square().sum(dim=3, keepdim=True) + 1e-6).sqrt() for x in (query, key))
    mixed = torch.zeros_like(value)
    for now in range(query.shape[2]):
        for before in range(now + 1):
            weight = (one[:, :, now] * other[:, :, before]).sum(dim=2, keepdim=True)
            mixed[:, :, now] += weight * value[:, :, before] * real[:, None, before, None]
        mixed[:, :, now] /= real[:, : now + 1].sum(dim=1).clamp_min(1)[:, None, None]
    return mixed


@pytest.mark.parametrize(("length", "chunk"), [(1, 64), (7, 64), (7, 3), (12, 4), (5, 1)])
def test_chunks_are_the_quadratic_form(length, chunk, monkeypatch):
    monkeypatch.setattr(attention, "MOST_CHUNK", chunk)
    inputs = _inputs(length)
    real = torch.arange(length) < torch.tensor([[length], [max(1, length - 2)]])
    torch.testing.assert_close(linear_attention(*inputs, real), _quadratic(*inputs, real.double()))


def test_its_gradient_against_finite_differences(monkeypatch):
    monkeypatch.setattr(attention, "MOST_CHUNK", 2)
    inputs = [x.requires_grad_() for x in _inputs(5)]
    real = torch.ones(2, 5, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda *given: linear_attention(*given, real), inputs)


def test_the_released_form_sees_both_ways_and_no_padding():
    query, key, value = _inputs(4)
    real = torch.tensor([[True] * 3 + [False], [True] * 4])
    got = ATTENTIONS["as-released"][0](query, key, value, real)
    one, other = features(query), features(key)
    for now in range(4):
        pairs = [(one[0, :, now] * other[0, :, at]).sum(dim=1, keepdim=True) * value[0, :, at] for at in range(3)]
        torch.testing.assert_close(got[0, :, now], torch.stack(pairs).sum(dim=0) / FEATURES**0.5)


@pytest.mark.parametrize("name", ["linear", "as-released"])
def test_zeros_stay_zero_and_have_gradients(name):
    zeros = [torch.zeros(1, 1, 3, 2, requires_grad=True) for _ in range(3)]
    mixed = ATTENTIONS[name][0](*zeros, torch.ones(1, 3, dtype=torch.bool))
    mixed.sum().backward()
    assert mixed.abs().max() == 0
    assert all(torch.isfinite(x.grad).all() for x in zeros)


def test_its_cost_grows_with_the_length_and_not_faster():
    long, longer = (length * linear_macs(64, 16, length) for length in (1000, 2000))
    assert longer / long == pytest.approx(2.0, rel=0.05)
    assert linear_macs(64, 16, 2000) < ATTENTIONS["softmax"][1](64, 16, 2000) / 20
