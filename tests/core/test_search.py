"""The search moves what it should on the users it should, finds what was planted, and keeps to its budget."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distilrec.core.budget import BOUNDS, CostWeight, ImpossibleBudgetError
from distilrec.core.cell import DEPTH, OPERATION, Student
from distilrec.core.cell_costs import CellCosts
from distilrec.core.cost import MACS, PARAMS, model_cost
from distilrec.core.decisions import Draw, draw
from distilrec.core.dropout import Dropout
from distilrec.core.events import Sequences
from distilrec.core.operations import OPERATIONS
from distilrec.core.search import ArchitectureSearch, split_windows
from distilrec.core.space import inherited
from tests.conftest import LENGTH, NUM_EDGES, NUM_ITEMS, generator, space
from tests.core.searching import finished, search_over

NAMES = list(OPERATIONS)
PLANTED = {
    "num_cells": 1,
    "num_nodes": 1,
    "epochs": 10,
    "architecture_every": 1,
    "architecture_learning_rate": 0.1,
    "distillation": {"share": 0.0},
}
"""One edge, quickly decided, without a teacher."""


def _moved(search: ArchitectureSearch, step) -> tuple[bool, bool]:
    """Whether the weights, and whether the architecture logits, differ after a step."""
    weights = {name: tensor.clone() for name, tensor in search.trained.state_dict().items()}
    logits = {name: rows.detach().clone() for name, rows in search.logits.items()}
    step()
    weights_moved = any(not torch.equal(tensor, weights[name]) for name, tensor in search.trained.state_dict().items())
    logits_moved = [not torch.equal(rows.detach(), logits[name]) for name, rows in search.logits.items()]
    assert len(set(logits_moved)) == 1
    return weights_moved, logits_moved[0]


@pytest.mark.parametrize("gradient", ["straight-through", "score-function"])
def test_each_optimiser_moves_only_its_own_parameters(gradient):
    search = search_over(depth="searched", architecture_gradient=gradient)
    batch = next(search._batches(search.weight_windows))
    search.trained.train()
    assert _moved(search, lambda: search.weight_step(batch, 1.0)) == (True, False)
    assert _moved(search, lambda: search.architecture_step(batch, 1.0)) == (False, True)
    own = {id(parameter) for group in search.weight_optimiser.param_groups for parameter in group["params"]}
    logits = {id(rows) for rows in search.logits.values()}
    assert not own & logits
    assert logits == {id(p) for group in search.architecture_optimiser.param_groups for p in group["params"]}


def test_weights_and_architecture_learn_from_different_users_unless_asked_otherwise():
    search = search_over()
    weights, held_out = set(search.weight_windows.owners), set(search.architecture_windows.owners)
    assert not weights & held_out
    assert weights | held_out == set(search.data.windows.owners)
    assert len(held_out) == round(0.3 * (len(weights) + len(held_out)))
    for share in (0.001, 0.999):
        assert all(len(part) for part in split_windows(search.data.windows, share, generator()))
    one = search_over(architecture_data="training")
    assert set(one.weight_windows.owners) == set(one.architecture_windows.owners) == set(one.data.windows.owners)


def test_the_sampled_path_gives_the_weights_the_gradient_of_the_whole_mixture():
    search = search_over(depth="searched", cells="per-depth")
    batch = next(search._batches(search.weight_windows))
    search.trained.eval()
    with torch.no_grad():
        drawn = draw(search.logits, 1.0, generator(9))
    gradients = []
    for mixture in (None, drawn.mixture):
        search.trained.zero_grad(set_to_none=True)
        total, _ = search._loss(Draw(drawn.choice, mixture), batch)
        total.backward()
        gradients.append({name: p.grad for name, p in search.trained.named_parameters() if p.grad is not None})
    sampled, whole = gradients
    assert len(sampled) > 20
    for name in sampled.keys() | whole.keys():
        nothing = torch.zeros_like(search.trained.get_parameter(name))
        got, expected = whole.get(name, nothing), sampled.get(name, nothing)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_the_search_leaves_the_uniform_distribution_and_says_so():
    search = search_over(epochs=6)
    records = finished(search)
    assert records[0].architecture_losses is not None
    assert sum(records[-1].entropy[OPERATION]) < sum(records[0].entropy[OPERATION]) < NUM_EDGES
    assert records[-1].choice == search.choice()


def _far_copies(lag: int, num_users: int = 150, length: int = 24) -> Sequences:
    """Each item is the one `lag` before it: only an operation that reaches so far back can know it."""
    random = np.random.default_rng(0)
    begun = random.integers(NUM_ITEMS, size=(num_users, lag))
    repeated = np.tile(begun, (1, -(-length // lag)))[:, :length]
    return Sequences.flat(repeated.ravel(), np.full(num_users, length), NUM_ITEMS)


def test_a_planted_operation_is_found():
    """With lag 7 the item to come stands 6 back: of the operations only the dilated width-5 ones read it."""
    search = search_over(
        _far_copies(7),
        cost_weight=0.0,
        **PLANTED,
    )
    finished(search)
    assert NAMES[search.choice()[OPERATION][0]] in ("dilated_conv5", "causal_dilated_conv5")


def test_raising_one_operations_cost_drives_it_out():
    """The planted operations again, but dear: 100 times the next."""
    costs = CellCosts.of_space(space(1))
    one_node = replace(costs.space, num_nodes=1)
    dear = tuple(100.0 if "dilated_conv5" in name else 1.0 for name in NAMES)
    costs = replace(costs, space=one_node, per_operation={PARAMS: dear, MACS: dear})
    search = search_over(
        _far_copies(7),
        costs=costs,
        cost_weight=10.0,
        **PLANTED,
    )
    finished(search)
    assert "dilated_conv5" not in NAMES[search.choice()[OPERATION][0]]


@pytest.mark.parametrize("knobs", [{}, {"cells": "per-depth"}, {"depth": "searched", "cells": "per-depth"}])
def test_a_planted_budget_is_met_where_the_free_search_is_above_it(knobs):
    limit = 2 * 3 * 8 * 8 * LENGTH + 100  # two width-3 convolutions, a little over
    search = search_over(epochs=6, architecture_learning_rate=0.1, budget={"encoder_macs": limit}, **knobs)
    records = finished(search)
    free = finished(search_over(epochs=6, architecture_learning_rate=0.1, cost_weight=0.0, **knobs))
    built = Student(NUM_ITEMS, Dropout(0.0), search.supernet.space.derive(search.choice()))
    assert model_cost(built).encoder_macs <= search.costs.of(search.choice())[MACS] <= limit
    assert all(built.genotype.cells), "no dead cell"
    assert records[-1].expected_cost[MACS] < 1.3 * limit < free[-1].expected_cost[MACS]
    built.load_state_dict(inherited(built, search.supernet.state_dict()))


def test_the_weight_on_cost_rises_above_a_budget_and_falls_below():
    weight = CostWeight(0.1, {MACS: 100.0})
    assert weight.under(2.0) == pytest.approx(1.1)
    raised = weight.value
    assert weight.under(0.9) == pytest.approx(raised - 0.1)
    assert 0.1 < weight.value < raised
    weight.under(1e9)
    assert weight.value < 1.0, "one step is bounded"
    for _ in range(1000):
        assert weight.under(0.0) >= BOUNDS[0]
    assert weight.value == BOUNDS[0] < 0, "what may be spent and is not is a credit"


def test_the_choice_spends_what_the_search_expected_it_to():
    """Free operations are each edge's most likely, and yet the mean is two convolutions."""
    conv = 3 * 8 * 8 * LENGTH
    search = search_over(num_cells=2, cells="per-depth", budget={"encoder_macs": 2 * conv + 100})
    chance = 2 / (2 * NUM_EDGES)
    with torch.no_grad():
        rows = search.logits[OPERATION]
        rows.fill_(-20.0)
        rows[:, NAMES.index("identity")] = np.log(1 - chance)
        rows[:, NAMES.index("conv3")] = np.log(chance)
        rows[3, NAMES.index("conv3")] += 0.3
        rows[7, NAMES.index("conv3")] += 0.2
    chosen = search.choice()[OPERATION]
    assert {row: NAMES[option] for row, option in enumerate(chosen) if NAMES[option] != "identity"} == {
        3: "conv3",
        7: "conv3",
    }
    with torch.no_grad():
        search.logits[OPERATION][:, NAMES.index("conv3")] = -20.0
    assert {NAMES[option] for option in search.choice()[OPERATION]} == {"identity"}, "nothing was expected to be spent"


def test_an_impossible_budget_is_refused_with_the_smallest_value():
    with pytest.raises(ImpossibleBudgetError) as caught:
        search_over(budget={"encoder_params": 10, "encoder_macs": 10**9})
    assert caught.value.smallest[PARAMS] == 2 * (3 + 2 * 8)  # two cells' combinations of nodes
    assert search_over(budget={"encoder_params": 38}).choice()


def test_the_depth_that_a_budget_allows_is_chosen():
    search = search_over(num_cells=4, depth="searched", budget={"encoder_params": 3 * 19})
    with torch.no_grad():
        search.logits[DEPTH][0] = torch.tensor([0.0, 1.0, 2.0, 9.0])
    assert search.choice()[DEPTH] == (2,)


def test_a_search_is_determined_by_its_seed():
    one, other = (search_over(epochs=2, depth="searched") for _ in range(2))
    assert finished(one) == finished(other)


def test_a_search_within_a_budget_decides_among_students_that_cost_it():
    limit = 2 * 3 * 8 * 8 * LENGTH
    knobs = {"epochs": 2, "architecture_learning_rate": 1e-6}
    search = search_over(cells="per-depth", num_cells=4, budget={"encoder_macs": limit}, **knobs)
    for record in finished(search):
        assert record.expected_cost[MACS] == pytest.approx(limit, rel=0.05)
    ample = search_over(budget={"encoder_macs": 10**9}, **knobs)
    finished(ample)
    assert max(rows.detach().abs().max() for rows in ample.logits.values()) < 0.1
