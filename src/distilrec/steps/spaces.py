"""The space that a scene's search is over, what its students cost, and whether one meets the budget."""

import torch

from distilrec.core.budget import ImpossibleBudgetError, best_within
from distilrec.core.cell import CellSpace
from distilrec.core.config import SceneConfig
from distilrec.core.cost import CellCosts
from distilrec.core.errors import ConfigError
from distilrec.core.latency import LatencyTable

BUDGET_KEYS = {"macs": "encoder_macs", "params": "encoder_params", "p50_ms": "p50_ms"}


def space_of(config: SceneConfig) -> CellSpace:
    knobs = config.search
    return CellSpace(
        num_nodes=knobs.num_nodes,
        max_depth=knobs.num_cells,
        width=knobs.width,
        max_length=config.max_length,
        is_shared=knobs.cells == "shared",
        is_depth_searched=knobs.depth == "searched",
        table="as-released" if knobs.space == "adarec-as-released" else "causal",
    )


def costs_of(config: SceneConfig, measured: LatencyTable | None) -> CellCosts:
    """Raises ConfigError for a budget that no student of the space meets."""
    space = space_of(config)
    missing = set(space.operations) - set(measured.operation_ms) if measured else set()
    if missing:
        raise ConfigError("DR-CONF-007", f"search.latency_table {config.search.latency_table} lacks {sorted(missing)}")
    costs = CellCosts.of_space(space, measured)
    limits = config.search.budget.limits()
    try:
        if limits:
            best_within({name: torch.zeros(shape) for name, shape in space.decisions().items()}, costs, limits)
    except ImpossibleBudgetError as error:
        parts = [
            f"search.budget.{BUDGET_KEYS[measure]} = {limit:g}; the smallest possible is {error.smallest[measure]:g}"
            for measure, limit in limits.items()
        ]
        which = f"no student of {space.max_depth} cells, {space.width} wide"
        raise ConfigError("DR-CONF-006", f"{which}, meets the budget: {'; '.join(parts)}") from None
    return costs
