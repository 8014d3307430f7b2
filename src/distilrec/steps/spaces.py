"""What the students of a scene's search cost, and whether one meets the budget."""

import math

import torch

from distilrec.core.budget import ImpossibleBudgetError, best_within
from distilrec.core.config import SceneConfig
from distilrec.core.errors import ConfigError
from distilrec.core.latency import LatencyTable
from distilrec.core.space import Costs
from distilrec.core.spaces import family_of

BUDGET_KEYS = {"macs": "encoder_macs", "params": "encoder_params"}
"""Where they are not called like the measure."""


def costs_of(config: SceneConfig, measured: LatencyTable | None) -> Costs:
    """Raises ConfigError for a budget that no student of the space meets, or a table that lacks what is asked."""
    knobs = config.search
    family, limits = family_of(config), knobs.budget.limits()
    space = family.space(knobs, config.max_length)
    if measured:
        missing = sorted(set(space.parts) - set(measured.operation_ms))
        missing += sorted(({*knobs.cost_measures, *limits} & {"joules"}) - set(measured.prices))
        if missing:
            raise ConfigError("DR-CONF-007", f"search.latency_table {knobs.latency_table} lacks {missing}")
    costs: Costs = family.costs(space, measured)
    try:
        if limits:
            best_within({name: torch.zeros(shape) for name, shape in space.decisions().items()}, costs, limits)
    except ImpossibleBudgetError as error:
        parts = [
            f"search.budget.{BUDGET_KEYS.get(measure, measure)} = {limit:.10g}; the smallest possible is "
            f"{_rounded_up(error.smallest[measure])}"
            for measure, limit in limits.items()
        ]
        which = f"no student of the space {knobs.space}, {space.width} wide"
        raise ConfigError("DR-CONF-006", f"{which}, meets the budget: {'; '.join(parts)}") from None
    return costs


def _rounded_up(cost: float) -> str:
    """To four decimals; whole numbers as they are."""
    return f"{math.ceil(round(cost * 1e4, 4)) / 1e4:.10g}"
