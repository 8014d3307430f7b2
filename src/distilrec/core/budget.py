"""Meeting a budget: the weight on cost adapts during the search, and the choice is the most likely that keeps to it.

Shapes: O options.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from distilrec.core.decisions import Choice, probabilities
from distilrec.core.space import Costs

RATE = 0.02
"""Of the weight, at each architecture step, for an expected cost of twice the budget."""
BOUNDS = (-0.2, 1000.0)
"""Below zero a cost is a credit: operations with weights learn later than those without, and a search that does not
spend what it may have would never draw them. Bounded, because a budget may be larger than anything that helps."""
MOST_PRESSURE = 10.0
STRONGEST_TILT = 8.0  # there an operation has a 3,000th of the chance of a free one
SPENT = (0.95, 0.5, 0.0)
"""Of what the search expected its student to cost, the least that the choice costs: the first of these that some
student does. Where there are few, none may come near."""
SMALLEST = 1e-6  # of a limit, so that a budget of nothing can be divided by

Limits = dict[str, float]
"""By measure: the most that a student may cost."""


class ImpossibleBudgetError(ValueError):
    """No student of the space meets it. `smallest` is by measure, each on its own."""

    def __init__(self, limits: Limits, smallest: dict[str, float]) -> None:
        super().__init__(f"no student of the space costs at most {limits}; the smallest possible are {smallest}")
        self.limits, self.smallest = limits, smallest


@dataclass
class CostWeight:
    """On the expected cost in the architecture's loss: constant, or, with limits, a Lagrange multiplier, which rises
    while the expected cost is above the tightest limit and falls while it is below, and what it is above or below by
    (the augmented Lagrangian of Hestenes and Powell)."""

    value: float
    limits: Limits

    def pressure(self, expected: Mapping[str, Tensor], costs: Costs) -> Tensor:
        """The largest expected cost over its limit; what every student pays is left out of both."""
        rest = costs.rest
        parts = [(expected[m] - rest[m]) / max(limit - rest[m], SMALLEST) for m, limit in self.limits.items()]
        return torch.stack(parts).max()

    def under(self, pressure: float) -> float:
        """The weight of a step, and the multiplier moves."""
        excess = min(pressure - 1.0, MOST_PRESSURE)
        weight = _within_bounds(self.value + excess)
        self.value = _within_bounds(self.value + RATE * excess)
        return weight


def _within_bounds(weight: float) -> float:
    return min(max(weight, BOUNDS[0]), BOUNDS[1])


def tilt(costs: Costs, limits: Limits) -> dict[str, Tensor]:
    """What to add to each option's logit, by decision (O,), so that a search begins with students that cost what the
    budget allows: -strength * dearness; nothing without limits or where the even distribution is within them.

    Otherwise the weights learn in students many times as dear as the one that is wanted: on MovieLens-1M the choice
    ranks at .025 after two epochs so, and at .124 with the tilt (validation NDCG@10).
    """
    even = {name: torch.zeros(shape) for name, shape in costs.space.decisions().items()}
    dearness = costs.dearness(limits) if limits else {}
    weight = CostWeight(1.0, limits)

    def is_within(strength: float) -> bool:
        tilted = {**even, **{name: even[name] - strength * dear_O for name, dear_O in dearness.items()}}
        return float(weight.pressure(costs.expected(probabilities(tilted)), costs)) <= 1.0

    if not limits or is_within(0.0):
        return {}
    low, high = 0.0, STRONGEST_TILT
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if is_within(middle) else (middle, high)
    return {name: -high * dear_O for name, dear_O in dearness.items()}


def best_within(logits: Mapping[str, Tensor], costs: Costs, limits: Limits) -> Choice:
    """The most likely choice that costs at most `limits`, and as much as the search expected.

    The mode of the distributions may cost half of their mean, or twice; a student of half the budget was not asked for.

    Raises:
        ImpossibleBudgetError: there is none.
    """
    with torch.no_grad():
        expected = costs.expected(probabilities(logits))
    most = {measure: min(float(expected[measure]), limit) for measure, limit in limits.items()}
    for share in SPENT:
        found = costs.best_between(logits, limits, {measure: share * cost for measure, cost in most.items()})
        if found is not None:
            return found
    raise ImpossibleBudgetError(limits, {measure: costs.smallest(measure) for measure in limits})


def is_between(cost: Mapping[str, float], limits: Mapping[str, float], floors: Mapping[str, float]) -> bool:
    return all(cost[m] <= limit for m, limit in limits.items()) and all(cost[m] >= one for m, one in floors.items())
