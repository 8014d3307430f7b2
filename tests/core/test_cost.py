"""The analytic counter against torch's own, and the relaxed cost against the built student."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distilrec.core.cell import DEPTH, OPERATION, CellSpace, Student
from distilrec.core.cell_costs import CellCosts
from distilrec.core.config import Teach
from distilrec.core.cost import MACS, PARAMS, count_params, model_cost
from distilrec.core.decisions import Choice, draw, log_probability, probabilities
from distilrec.core.dropout import Dropout
from distilrec.core.latency import P50_MS, LatencyTable, Place, fit_table
from distilrec.core.operations import OPERATIONS
from distilrec.core.space import normalised
from distilrec.io.models import TeacherShape
from tests.conftest import LENGTH, NUM_EDGES, NUM_ITEMS, WIDTH, generator, nextitnet, sasrec, space, student


class _BatchedAttention(nn.Module):
    """The same attention written as batched products, which torch's counter can see."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor, visible: None) -> torch.Tensor:
        block = self.block
        parts = block.query_key_value(x).unflatten(2, (3, block.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        scores = (query @ key.transpose(2, 3)).masked_fill(future, float("-inf")).softmax(dim=3)
        return block.attention_out((scores @ value).transpose(1, 2).flatten(2))


def _counted(model: nn.Module, *inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("index", range(len(OPERATIONS)))
def test_student_counts_what_torch_counts(index):
    model = student([index] * NUM_EDGES)
    ids = torch.zeros(1, LENGTH, dtype=torch.int64)
    assert model_cost(model).encoder_macs == _counted(model, ids)


def test_nextitnet_counts_what_torch_counts():
    model = nextitnet()
    cost = model_cost(model)
    assert cost.encoder_macs == _counted(model, torch.zeros(1, LENGTH, dtype=torch.int64))
    assert cost.encoder_params + cost.embedding_params == count_params(model)


def test_teacher_counts_what_torch_counts():
    model = sasrec()
    for block in model.layers:
        block._attend = _BatchedAttention(block).forward
    ids = torch.zeros(1, LENGTH, dtype=torch.int64)
    cost = model_cost(model)
    assert cost.encoder_macs == _counted(model, ids)
    assert cost.scoring_macs == NUM_ITEMS * WIDTH
    assert cost.encoder_params + cost.embedding_params == count_params(model)


@pytest.mark.parametrize("knobs", [{}, {"is_shared": False}, {"is_shared": False, "is_depth_searched": True}])
def test_predicted_costs_are_those_of_the_derived_student(knobs):
    searched = space(3, **knobs)
    costs = CellCosts.of_space(searched)
    rows, _ = searched.decisions()[OPERATION]
    choice: Choice = {OPERATION: tuple([0, 3, 4, 6, 8, 2, 1, 5, 7][row % 9] for row in range(rows))}
    if searched.is_depth_searched:
        choice[DEPTH] = (1,)
    built = model_cost(Student(NUM_ITEMS, Dropout(0.0), searched.derive(choice)))
    assert costs.of(choice) == {PARAMS: built.encoder_params, MACS: built.encoder_macs}


def test_expected_cost_is_the_mean_over_draws():
    searched = space(3, is_shared=False, is_depth_searched=True)
    random = generator(5)
    logits = {name: torch.randn(shape, generator=random) for name, shape in searched.decisions().items()}
    costs = CellCosts.of_space(searched)
    expected = costs.expected(probabilities(logits))
    drawn = [costs.of(draw(logits, 1.0, random).choice) for _ in range(600)]
    for measure in (PARAMS, MACS):
        mean = sum(one[measure] for one in drawn) / len(drawn)
        assert mean == pytest.approx(float(expected[measure]), rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_the_most_likely_cell_within_a_limit_is_that_of_trying_all(seed):
    """Also one below what a student costs, which is within the solver's tolerance, and at the least there is."""
    wide = CellSpace(2, 2, 64, 200)
    costs, random = CellCosts.of_space(wide), generator(seed)
    logits = {name: torch.randn(shape, generator=random) for name, shape in wide.decisions().items()}
    rows, options = wide.decisions()[OPERATION]
    every: list[Choice] = [{OPERATION: taken} for taken in product(range(options), repeat=rows)]
    cost = {choice[OPERATION]: costs.of(choice)[MACS] for choice in every if all(wide.derive(choice).cells)}
    for some in (0.0, *sorted(set(cost.values()))[1:4], max(cost.values())):
        for limit in {some, max(some - 1, 0.0)}:
            within = [choice for choice in every if cost.get(choice[OPERATION], np.inf) <= limit]
            best = max(within, key=lambda choice: float(log_probability(logits, choice)))
            assert costs.best_between(logits, {MACS: limit}, {}) == best, limit


def test_normalised_cost_is_in_the_unit_interval_and_falls_when_the_dear_become_unlikely():
    costs, names = CellCosts.of_space(space(2)), list(OPERATIONS)

    def certain(name: str) -> dict[str, torch.Tensor]:
        chosen = torch.full((NUM_EDGES,), names.index(name))
        return costs.expected({OPERATION: nn.functional.one_hot(chosen, len(names)).float()})

    def share(expected: dict[str, torch.Tensor], *measures: str) -> torch.Tensor:
        return normalised(expected, costs.rest, costs.largest, measures)

    assert share(certain("conv5"), PARAMS, MACS).item() == pytest.approx(1.0)
    assert share(certain("identity"), MACS).item() == 0.0
    logits = torch.zeros(NUM_EDGES, len(names), requires_grad=True)
    share(costs.expected(probabilities({OPERATION: logits})), PARAMS, MACS).backward()
    assert (logits.grad[:, names.index("conv5")] > 0).all()
    assert (logits.grad[:, names.index("zero")] < 0).all()


def test_a_latency_table_is_fitted_back_from_the_students_that_it_prices():
    place = Place("a cpu", "a runtime", 1, WIDTH, 3, LENGTH, NUM_ITEMS)
    each = {name: 0.01 * (index + 1) for index, name in enumerate(OPERATIONS)} | {"zero": 0.0}
    true = LatencyTable(place, rest_ms=0.2, cell_ms=0.05, operation_ms=each, error=0.0)
    random, cells, p50_ms = generator(6), [], []
    for index in range(40):
        searched = space(1 + index % 4, is_shared=False)
        rows, options = searched.decisions()[OPERATION]
        drawn = torch.randint(options - 1, (rows,), generator=random)  # without zero, nothing is pruned
        if index % 2:
            drawn[3::NUM_EDGES] = options - 1  # input to node 3, which the other nodes feed
        choice: Choice = {OPERATION: tuple(drawn.tolist())}
        cells.append(searched.derive(choice).cells)
        p50_ms.append(CellCosts.of_space(searched, true).of(choice)[P50_MS])
    fitted = fit_table(place, list(OPERATIONS), cells, np.array(p50_ms), num_checked=5)
    assert fitted.error < 1e-5
    assert fitted.operation_ms == pytest.approx(true.operation_ms, abs=1e-5)
    assert LatencyTable.from_json(fitted.to_json()) == fitted
    assert place.differences(replace(place, threads=2, max_length=99)) == [
        "threads 1, not 2",
        f"max_length {LENGTH}, not 99",
    ]


@pytest.mark.parametrize(
    ("knobs", "millions"),
    [
        ({"model": "nextitnet", "width": 256, "num_blocks": 8, "dilations": (1, 4)}, 6.316),
        ({"model": "bert4rec", "width": 128, "num_blocks": 8, "num_heads": 4}, 1.586),
    ],
)
def test_teachers_have_the_size_of_the_release(knobs, millions):
    """Parameters without embeddings, counted in the AdaRec code."""
    teacher = TeacherShape.of(Teach(**knobs), NUM_ITEMS, LENGTH).build()
    assert model_cost(teacher).encoder_params == pytest.approx(1e6 * millions, rel=0.001)
