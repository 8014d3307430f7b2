"""A supernet of one width and depth is the student derived from it; mixtures mix; costs are those of the students."""

from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from distilrec.core.budget import ImpossibleBudgetError, best_within, tilt
from distilrec.core.cost import MACS, PARAMS, count_params, model_cost
from distilrec.core.decisions import RELAXATIONS, Choice, Draw, draw, probabilities
from distilrec.core.dropout import Dropout
from distilrec.core.errors import ArtifactError
from distilrec.core.latency import JOULES, P50_MS, LatencyTable, Place, Prices
from distilrec.core.space import inherited
from distilrec.core.spaces import genotype_of
from distilrec.core.transformer import (
    DEPTH,
    WIDTH,
    Shape,
    TransformerGenotype,
    TransformerSpace,
    TransformerStudent,
    TransformerSupernet,
)
from distilrec.core.transformer_costs import TransformerCosts
from tests.conftest import LENGTH, NUM_ITEMS, far_from_linear, generator, require_padding_changes_no_score

WIDTHS, DEPTHS = (2, 4, 8), 4
TWELVE = [{WIDTH: (width,), DEPTH: (depth,)} for width in range(3) for depth in range(DEPTHS)]
MIXED = [{WIDTH: widths, DEPTH: (depth,)} for widths in ((0, 2, 1), (1, 0, 0), (2, 0, 1)) for depth in range(3)]


def transformers(max_depth: int = DEPTHS, attention: str = "linear", has_gates: bool = True, **knobs):
    return TransformerSpace(WIDTHS, max_depth, Shape(2, 2, LENGTH, attention, has_gates), **knobs)


def _supernet(space: TransformerSpace, dropout: float = 0.0) -> TransformerSupernet:
    supernet = far_from_linear(TransformerSupernet(NUM_ITEMS, Dropout(dropout), space), seed=1)
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(len(name))))
    return supernet


def _one_hot(space: TransformerSpace, choice: Choice) -> dict[str, torch.Tensor]:
    sizes = {name: options for name, (_, options) in space.decisions().items()}
    return {name: F.one_hot(torch.tensor(rows), sizes[name]).float() for name, rows in choice.items()}


def _student(space: TransformerSpace, choice: Choice, supernet: TransformerSupernet) -> TransformerStudent:
    student = TransformerStudent(NUM_ITEMS, Dropout(0.0), space.derive(choice))
    student.load_state_dict(inherited(student, supernet.state_dict()))
    return student.eval()


@pytest.mark.parametrize("options", [{}, {"has_gates": False}, {"attention": "softmax"}, {"attention": "as-released"}])
def test_all_twelve_students_are_the_supernet_with_a_hard_mask(options, ids):
    space = transformers(**options)
    supernet = _supernet(space).eval()
    for choice in TWELVE if options.get("attention") != "as-released" else TWELVE[1::3]:  # ten forwards each
        _require_equal(space, supernet, choice, ids)


def test_students_with_widths_of_their_own_are_the_supernet_too(ids):
    space = transformers(3, is_shared=False)
    supernet = _supernet(space).eval()
    for choice in MIXED:
        _require_equal(space, supernet, choice, ids)


def _require_equal(space, supernet, choice, ids):
    student = _student(space, choice, supernet)
    mixture = _one_hot(space, choice)
    with torch.no_grad():
        derived = student(ids)
        scores = student.score(derived.state_BLD)
        for drawn in (Draw(choice), Draw(choice, mixture), Draw(choice, mixture, is_hard=False)):
            got = supernet.select(drawn)(ids)
            assert all(torch.isfinite(hidden).all() for hidden in got.hidden)
            torch.testing.assert_close(supernet.score(got.state_BLD), scores, rtol=0, atol=2e-5)
            for one, other in zip(got.hidden, derived.hidden, strict=False):
                torch.testing.assert_close(one[..., : student.width], other, rtol=0, atol=2e-5)


def test_a_narrow_student_has_fewer_heads_and_embeddings_of_its_width():
    space = transformers()
    supernet = _supernet(space)
    small = _student(space, {WIDTH: (0,), DEPTH: (1,)}, supernet)
    assert small.items.weight.shape == (NUM_ITEMS + 1, 2) and small.num_layers == 2
    assert space.shape.head_width == 2, "one head of the four"
    own = _student(transformers(3, is_shared=False), {WIDTH: (0, 1, 0), DEPTH: (2,)}, _supernet(transformers(3)))
    assert own.width == 4 and own.layers[0].query.weight.shape == (2, 2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("attention", ["linear", "softmax", "as-released"])
@pytest.mark.parametrize("has_gates", [True, False])
def test_every_configuration_is_blind_to_the_future(attention, has_gates, training, ids):
    changed, later = 6, ids.clone()
    later[:, changed:] = (later[:, changed:] + 1) % NUM_ITEMS
    shared = transformers(2, attention, has_gates)
    for space in (shared, replace(shared, is_shared=False)):
        supernet = _supernet(space, dropout=0.3)
        logits = {name: torch.zeros(shape) for name, shape in space.decisions().items()}
        draws = [RELAXATIONS[name].draw(logits, 1.0, generator(3)) for name in ("softmax", "gumbel")]
        student = far_from_linear(TransformerStudent(NUM_ITEMS, Dropout(0.3), space.derive(draws[1].choice)), seed=2)
        for model, drawn in [(supernet, one) for one in (*draws, draws[1].path)] + [(student, None)]:
            model.train(training)
            states = []
            for given in (ids, later):
                model.dropout.generator.manual_seed(5)  # the same masks
                states.append((model.select(drawn) if drawn else model)(given).state_BLD)
            torch.testing.assert_close(states[0][:, :changed], states[1][:, :changed], rtol=0, atol=1e-6)
            assert not torch.allclose(states[0][:, changed:], states[1][:, changed:])


@pytest.mark.parametrize("attention", ["linear", "softmax", "as-released"])
def test_padding_changes_no_score(attention, ids):
    space = transformers(2, attention)
    student = _student(space, {WIDTH: (2,), DEPTH: (1,)}, _supernet(space))
    require_padding_changes_no_score(student, ids)
    lengths = torch.tensor([4, 6, 2])
    by_position = student(ids).state_BLD[torch.arange(3), lengths - 1]
    torch.testing.assert_close(student.state_after(_cut(ids, lengths), lengths), by_position)


def _cut(ids, lengths):
    padded = ids.clone()
    padded[torch.arange(ids.shape[1]) >= lengths[:, None]] = NUM_ITEMS
    return padded


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_drawn_path_gives_the_weights_the_gradient_of_the_hard_mixture(is_shared, ids):
    space = transformers(3, is_shared=is_shared)
    supernet = _supernet(space)
    random, choice = generator(5), {WIDTH: (1,) if is_shared else (1, 2, 0), DEPTH: (1,)}
    goal = torch.randn(3, LENGTH, 8, generator=random)
    gradients = []
    for mixture in (None, _one_hot(space, choice)):
        if mixture:
            mixture = {name: rows.requires_grad_() for name, rows in mixture.items()}
        supernet.zero_grad(set_to_none=True)
        (supernet.select(Draw(choice, mixture))(ids).state_BLD * goal).sum().backward()
        gradients.append({name: p.grad for name, p in supernet.named_parameters() if p.grad is not None})
    assert all(rows.grad is not None and rows.grad.abs().sum() > 0 for rows in mixture.values())
    assert len(gradients[0]) > 20
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-4, atol=1e-5, msg=name)


def test_a_soft_mixture_weighs_the_scores_of_its_networks(ids):
    space = transformers(1)
    supernet = _supernet(space).eval()
    alpha = torch.tensor([[0.2, 0.5, 0.3]])
    with torch.no_grad():
        each = [supernet.select(Draw({WIDTH: (k,), DEPTH: (0,)}))(ids).state_BLD for k in range(3)]
        mixture = {WIDTH: alpha, DEPTH: torch.ones(1, 1)}
        mixed = supernet.select(Draw({WIDTH: (1,), DEPTH: (0,)}, mixture, is_hard=False))(ids).state_BLD
    torch.testing.assert_close(mixed, sum(share * state for share, state in zip(alpha[0], each, strict=True)))


def test_a_gate_of_nothing_changes_nothing_and_it_can_be_left_out(ids):
    gated, plain = transformers(2), transformers(2, has_gates=False)
    supernet, choice = _supernet(gated), {WIDTH: (2,), DEPTH: (1,)}
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if "gate.second" in name:
                parameter.zero_()
    weights = supernet.state_dict()
    small = TransformerStudent(NUM_ITEMS, Dropout(0.0), plain.derive(choice)).eval()
    small.load_state_dict(inherited(small, weights))
    with torch.no_grad():
        torch.testing.assert_close(_student(gated, choice, supernet)(ids).state_BLD, small(ids).state_BLD)
    assert count_params(small) < count_params(_student(gated, choice, supernet))


def _costs(space: TransformerSpace) -> TransformerCosts:
    place = Place("a cpu", "a runtime", 1, 8, 0, LENGTH, NUM_ITEMS)
    part = {f"{name} {width}": 0.01 * width for name in ("layer", "stream") for width in WIDTHS}
    return TransformerCosts.of_space(space, LatencyTable(place, 0.1, 0.05, part, 0.0, Prices(1.0, 0.5, part)))


@pytest.mark.parametrize("attention", ["linear", "softmax"])
@pytest.mark.parametrize("has_gates", [True, False])
def test_costs_are_those_of_the_students(attention, has_gates):
    for space in (transformers(3, attention, has_gates), transformers(3, attention, has_gates, is_shared=False)):
        costs = _costs(space)
        for choice in space.choices():
            student = TransformerStudent(NUM_ITEMS, Dropout(0.0), space.derive(choice))
            built, predicted = model_cost(student), costs.of(choice)
            assert (predicted[PARAMS], predicted[MACS]) == (built.encoder_params, built.encoder_macs)
            widths = space.widths_of(choice)
            p50 = 0.1 + 0.01 * max(widths) + sum(0.05 + 0.01 * width for width in widths)
            assert predicted[P50_MS] == pytest.approx(p50)


@pytest.mark.parametrize("length", [LENGTH, 128])
def test_macs_are_what_torch_counts(length):
    """Linear attention alone: torch does not count the fused softmax."""
    genotype = TransformerGenotype((8, 2), Shape(2, 2, length))
    student = TransformerStudent(NUM_ITEMS, Dropout(0.0), genotype).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        student(torch.zeros(1, length, dtype=torch.int64))
    assert model_cost(student).encoder_macs == counter.get_total_flops() // 2


def test_expected_cost_is_the_mean_over_draws():
    space = transformers(3, is_shared=False)
    random = generator(5)
    logits = {name: torch.randn(shape, generator=random) for name, shape in space.decisions().items()}
    costs = _costs(space)
    expected = costs.expected(probabilities(logits))
    drawn = [costs.of(draw(logits, 1.0, random).choice) for _ in range(800)]
    for measure in (MACS, P50_MS, JOULES):
        assert sum(one[measure] for one in drawn) / len(drawn) == pytest.approx(float(expected[measure]), rel=0.05)


@pytest.mark.parametrize("is_shared", [True, False])
def test_the_dynamic_constraint_and_its_gradient(is_shared):
    space = transformers(is_shared=is_shared)
    costs, measures = _costs(space), (PARAMS, MACS, P50_MS, JOULES)
    random = generator(2)
    logits = [
        torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True)
        for shape in space.decisions().values()
    ]

    def penalty(*rows: torch.Tensor, given: TransformerCosts = costs) -> torch.Tensor:
        return given.penalty(probabilities(dict(zip(space.decisions(), rows, strict=True))), measures)

    assert torch.autograd.gradcheck(penalty, logits)
    static = replace(costs, space=replace(space, is_dynamic=False))
    likely = int(logits[1].argmax()) + 1
    torch.testing.assert_close(penalty(*logits), likely / DEPTHS * penalty(*logits, given=static))
    largest = {WIDTH: (2,) * space.decisions()[WIDTH][0], DEPTH: (DEPTHS - 1,)}
    assert costs.penalty(
        {k: v.double() for k, v in _one_hot(space, largest).items()}, measures
    ).item() == pytest.approx(1)


@pytest.mark.parametrize("is_shared", [True, False])
def test_the_most_likely_within_a_budget_is_found(is_shared):
    space = transformers(3, is_shared=is_shared)
    costs, random = _costs(space), generator(4)
    logits = {name: torch.randn(shape, generator=random) for name, shape in space.decisions().items()}
    logits[DEPTH][0, 2] = 5.0
    assert best_within(logits, costs, {}) == {name: tuple(rows.argmax(dim=1).tolist()) for name, rows in logits.items()}
    every = {name: torch.zeros_like(rows) for name, rows in logits.items()}
    middle = sorted(costs.of(choice)[MACS] for choice in space.choices())[len(list(space.choices())) // 3]
    found = best_within(logits, costs, {MACS: middle})
    assert costs.of(found)[MACS] <= middle
    tilted = {name: rows + tilt(costs, {MACS: middle}).get(name, 0.0) for name, rows in every.items()}
    assert float(costs.expected(probabilities(tilted))[MACS]) == pytest.approx(middle, rel=0.01)
    with pytest.raises(ImpossibleBudgetError) as caught:
        best_within(logits, costs, {PARAMS: 1.0})
    assert caught.value.smallest[PARAMS] == min(costs.of(choice)[PARAMS] for choice in space.choices())


def test_a_search_that_ends_above_its_budget_loses_no_more_than_it_must():
    """Not to the next likely one of any cost, nor to an unlikely one that costs a little more."""
    costs = _costs(transformers())
    four = {WIDTH: torch.tensor([[0.0, 2.0, 5.0]]), DEPTH: torch.tensor([[0.0, 0.0, 1.0, 7.0]])}
    limit = 0.9 * costs.of({WIDTH: (2,), DEPTH: (3,)})[MACS]
    assert best_within(four, costs, {MACS: limit}) == {WIDTH: (2,), DEPTH: (2,)}, "not four narrow layers"
    two = {WIDTH: torch.tensor([[1.0, 1.0, 5.0]]), DEPTH: torch.tensor([[1.0, 7.0, 1.0, 1.0]])}
    limit = 0.95 * costs.of({WIDTH: (2,), DEPTH: (1,)})[MACS]
    one_broad, four_narrow = {WIDTH: (2,), DEPTH: (0,)}, {WIDTH: (1,), DEPTH: (3,)}
    assert costs.of(one_broad)[MACS] < costs.of(four_narrow)[MACS] < limit
    assert best_within(two, costs, {MACS: limit}) == one_broad


def test_a_shallow_student_is_not_likelier_for_having_fewer_layers_to_choose():
    """Within a limit as without one: what is ruled out here is the likeliest alone."""
    space = transformers(4, is_shared=False)
    costs = _costs(space)
    logits = {WIDTH: torch.tensor([[0.3, 0.3, 0.4]] * 4).log(), DEPTH: torch.tensor([[0.25, 0.15, 0.15, 0.45]]).log()}
    likeliest = best_within(logits, costs, {})
    assert likeliest == {WIDTH: (2, 2, 2, 2), DEPTH: (3,)}
    found = costs.best_between(logits, {MACS: costs.of(likeliest)[MACS] - 1}, {})
    assert found[DEPTH] == (3,) and sorted(found[WIDTH])[1:] == [2, 2, 2]


def test_streams_are_as_wide_as_their_widest_layer():
    space = transformers(3, is_shared=False)
    random = generator(6)
    width_RK, depth_S = (torch.rand(3, 3, generator=random).softmax(dim=1), torch.rand(3, generator=random).softmax(0))
    expected = torch.zeros(3)
    for depth in range(3):
        for taken in product(range(3), repeat=depth + 1):
            chance = torch.stack([width_RK[row, option] for row, option in enumerate(taken)]).prod()
            expected[max(taken)] += depth_S[depth] * chance
    torch.testing.assert_close(space.stream(width_RK, depth_S), expected)


def test_a_genotype_survives_json_and_names_its_space():
    genotype = transformers(3, is_shared=False).derive(MIXED[0])
    assert genotype_of(genotype.to_json()) == genotype
    data = genotype.to_json()
    wrong = [
        ({"schema_version": 99}, "schema_version is 99"),
        ({"space": "cubes"}, "space 'cubes' is none of"),
        ({"attention": "none"}, "attention 'none'"),
        ({"layers": [{"width": 3}]}, "not multiples of 2"),
    ]
    for change, words in wrong:
        with pytest.raises(ArtifactError, match=words):
            genotype_of(data | change)
