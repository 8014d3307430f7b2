"""Draws follow their distribution, mixtures are one-hot with the soft gradient, estimators are what they claim."""

import itertools

import pytest
import torch

from distilrec.core.decisions import (
    draw,
    entropies,
    log_probability,
    mix_drawn,
    most_likely,
    temperature_at,
)
from distilrec.core.search import leave_one_out
from tests.conftest import generator


def test_the_mixture_is_one_hot_with_the_gradient_of_the_soft_sample():
    logits = torch.randn(4, 5, generator=generator(), requires_grad=True)
    drawn = draw({"operation": logits}, 0.7, generator(1))
    mixture = drawn.mixture["operation"]
    assert mixture.detach().sum(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert mixture.argmax(dim=1).tolist() == list(drawn.choice["operation"])
    mixture[:, 0].sum().backward()
    assert logits.grad.abs().sum() > 0


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    random = generator(2)
    drawn = torch.tensor([draw({"depth": logits}, 0.5, random).choice["depth"][0] for _ in range(4000)])
    frequency = torch.bincount(drawn, minlength=3) / 4000
    torch.testing.assert_close(frequency, logits[0].softmax(dim=0), rtol=0, atol=0.03)
    assert most_likely({"depth": logits}) == {"depth": (2,)}
    expected = logits[0].log_softmax(dim=0)[1]
    torch.testing.assert_close(log_probability({"depth": logits}, {"depth": (1,)}), expected)


def test_temperature_reaches_its_floor_and_entropy_its_ends():
    assert [round(temperature_at(epoch, 3, 1.0, 0.25), 6) for epoch in range(3)] == [1.0, 0.5, 0.25]
    assert temperature_at(0, 1, 1.0, 0.25) == 1.0
    values = entropies(torch.tensor([[0.0, 0.0], [100.0, 0.0]])).tolist()
    assert values == pytest.approx([1.0, 0.0])


def test_mixing_what_was_drawn_has_the_gradients_of_the_whole_sum():
    random = generator()
    values = [torch.randn(2, 3, generator=random, requires_grad=True) for _ in range(4)]
    mixture = torch.tensor([0.0, 0.0, 1.0, 0.0], requires_grad=True)
    weight = torch.randn(2, 3, generator=random)
    mixed = mix_drawn(mixture, 2, values)
    torch.testing.assert_close(mixed, values[2])
    got = torch.autograd.grad((mixed * weight).sum(), [mixture, *values], allow_unused=True)
    whole = sum(m * value for m, value in zip(mixture, values, strict=True))
    wanted = torch.autograd.grad((whole * weight).sum(), [mixture, *values])
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other)


def test_the_score_function_is_unbiased_and_its_baseline_lowers_the_variance():
    """Against the gradient of the expected loss, summed over every choice of two rows of three options."""
    logits = {"operation": torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.5, -0.5]], requires_grad=True)}

    def loss_of(choice: tuple[int, ...]) -> float:
        return 5.0 + (choice[0] - 1.0) ** 2 + 0.5 * choice[0] * choice[1]

    every = list(itertools.product(range(3), repeat=2))
    expected = sum(log_probability(logits, {"operation": c}).exp() * loss_of(c) for c in every)
    (exact,) = torch.autograd.grad(expected, [logits["operation"]])
    random = generator(3)
    estimates = {"with baseline": [], "without": []}
    for _ in range(1500):
        with torch.no_grad():
            choices = [draw(logits, 1.0, random).choice for _ in range(4)]
        losses = torch.tensor([loss_of(choice["operation"]) for choice in choices])
        log_p = torch.stack([log_probability(logits, choice) for choice in choices])
        for name, advantage in (("with baseline", leave_one_out(losses)), ("without", losses)):
            estimates[name] += torch.autograd.grad((advantage * log_p).mean(), [logits["operation"]], retain_graph=True)
    spread = {}
    for name, each in estimates.items():
        stacked = torch.stack(each)
        spread[name] = stacked.var(dim=0).sum().item()
        standard_error = (stacked.var(dim=0) / len(each)).sqrt()
        assert ((stacked.mean(dim=0) - exact).abs() < 4 * standard_error).all(), name
    assert spread["with baseline"] < 0.1 * spread["without"]
