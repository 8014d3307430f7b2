"""Bias and variance of the architecture's gradient on a toy whose exact gradient can be summed.

Two edges of three options: every option adds a vector, the loss is a squared distance. The exact gradient is that of
the expected loss over all nine choices.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.results import Results
from distilrec.core.decisions import draw, log_probability
from distilrec.core.search import leave_one_out

NUM_DRAWS = 20_000
SAMPLES = 4
TEMPERATURES = (1.0, 0.2)


def estimators(results: Results) -> None:
    """Relative bias |mean - exact| / |exact| and relative standard deviation of one step, by estimator."""
    generator = torch.Generator().manual_seed(0)
    values_EOD = torch.randn(2, 3, 4, generator=generator)
    goal_D = torch.randn(4, generator=generator)
    logits_EO = torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.5, -0.5]], requires_grad=True)

    def loss_of(mixture_EO: Tensor) -> Tensor:
        return ((torch.einsum("eo,eod->d", mixture_EO, values_EOD) - goal_D) ** 2).sum()

    exact_EO = _exact(logits_EO, loss_of)
    ways: dict[str, tuple[Callable[[], Tensor], int]] = {}
    for temperature in TEMPERATURES:
        ways[f"straight-through, all options, temperature {temperature}"] = (
            lambda t=temperature: _straight_through(logits_EO, loss_of, t, generator, is_whole=True),
            1,
        )
        ways[f"straight-through, sampled option only, temperature {temperature}"] = (
            lambda t=temperature: _straight_through(logits_EO, loss_of, t, generator, is_whole=False),
            1,
        )
    ways["score function without a baseline, 4 draws"] = (lambda: _score(logits_EO, loss_of, generator, False), 4)
    ways["score function, leave-one-out baseline, 4 draws"] = (lambda: _score(logits_EO, loss_of, generator, True), 4)
    raw = {}
    for name, (way, draws) in ways.items():
        seen = torch.stack([way() for _ in range(NUM_DRAWS // draws)])
        size = exact_EO.norm()
        bias = float((seen.mean(dim=0) - exact_EO).norm() / size)
        noise = float((seen.var(dim=0).sum() / len(seen)).sqrt() / size)
        spread = float(seen.var(dim=0).sum().sqrt() / size)
        raw[name] = {"relative_bias": bias, "bias_standard_error": noise, "relative_deviation": spread}
        print(f"{name}: bias {bias:.3f} +- {noise:.3f}, deviation {spread:.2f}", flush=True)
    results.keep("estimators", raw)


def _exact(logits_EO: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
    expected = torch.zeros(())
    for choice in itertools.product(range(3), repeat=2):
        one_hot = torch.nn.functional.one_hot(torch.tensor(choice), 3).float()
        expected = expected + log_probability({"o": logits_EO}, {"o": choice}).exp() * loss_of(one_hot)
    return torch.autograd.grad(expected, logits_EO)[0]


def _straight_through(
    logits_EO: Tensor,
    loss_of: Callable[[Tensor], Tensor],
    temperature: float,
    generator: torch.Generator,
    is_whole: bool,
) -> Tensor:
    drawn = draw({"o": logits_EO}, temperature, generator)
    assert drawn.mixture is not None
    mixture_EO = drawn.mixture["o"]
    if not is_whole:  # what is not drawn is not evaluated, so it has no gradient
        kept = torch.nn.functional.one_hot(torch.tensor(drawn.choice["o"]), 3).float()
        mixture_EO = mixture_EO * kept
    return torch.autograd.grad(loss_of(mixture_EO), logits_EO)[0]


def _score(
    logits_EO: Tensor, loss_of: Callable[[Tensor], Tensor], generator: torch.Generator, has_baseline: bool
) -> Tensor:
    with torch.no_grad():
        draws = [draw({"o": logits_EO}, 1.0, generator) for _ in range(SAMPLES)]
        losses = torch.stack([loss_of(one.mixture["o"]) for one in draws if one.mixture])
    log_p = torch.stack([log_probability({"o": logits_EO}, {"o": one.choice["o"]}) for one in draws])
    weights = leave_one_out(losses) if has_baseline else losses
    return torch.autograd.grad((weights * log_p).mean(), logits_EO)[0]
