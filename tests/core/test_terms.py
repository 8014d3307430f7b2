"""DE, RRD, RD and CD against their formulas, their laws and the plain way of writing them."""

from itertools import permutations

import numpy as np
import pytest
import torch
from benchmarks.derrd import plain
from benchmarks.derrd.cost import peak_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from distilrec.core.config import Collaborative, DistillationExperts, PointwiseRanking, RelaxedRanking, Terms
from distilrec.core.experts import Experts, select
from distilrec.core.listwise import minus_log_likelihood
from distilrec.core.ranked import NONE, Allowed, Drawn, Law, TeacherRanking, distinct, ranks_of
from distilrec.core.terms import TERMS, Pair, Sizes, drawn_for
from tests.conftest import generator

SETTINGS = {
    "de": DistillationExperts(num_experts=3),
    "rrd": RelaxedRanking(num_interesting=3, num_uninteresting=4),
    "rd": PointwiseRanking(num_positives=3, num_sampled=4, warm_up=0),
    "cd": Collaborative(num_sampled=3),
}


def test_the_likelihood_is_that_of_all_orders_counted_one_by_one():
    """Of five items: the chance that the first three come in this order, whatever the order of the other two."""
    scores = torch.tensor([0.3, -1.2, 2.0, 0.5, -0.4], dtype=torch.float64)
    weight = scores.exp()
    chance = 0.0
    for order in permutations(range(5)):
        if order[:3] == (0, 1, 2):
            chance += float(
                torch.stack([weight[item] / weight[list(order[k:])].sum() for k, item in enumerate(order)]).prod()
            )
    loss = minus_log_likelihood(scores[None, :3], scores[None, 3:])
    assert loss.item() == pytest.approx(-np.log(chance))
    assert plain.minus_log_likelihood(scores[None, :3], scores[None, 3:]).item() == pytest.approx(-np.log(chance))


def test_the_likelihoods_gradient_is_the_finite_difference_and_that_of_the_plain_way():
    x, y = (torch.randn(4, n, dtype=torch.float64, generator=generator(n), requires_grad=True) for n in (5, 3))
    assert torch.autograd.gradcheck(minus_log_likelihood, (x, y))
    loss, expected = minus_log_likelihood(x, y), plain.minus_log_likelihood(x, y)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(plain.minus_log_likelihood_batched(x, y), expected)
    ours, theirs = (torch.autograd.grad(one.sum(), (x, y)) for one in (loss, expected))
    torch.testing.assert_close(ours, theirs)


@settings(max_examples=200, deadline=None)
@given(
    scores=arrays(np.float32, (2, 7), elements=st.floats(-1, 1, width=32)),
    exponent=st.floats(-20, 36),
    missing=arrays(np.bool_, (2, 7)),
)
def test_the_likelihood_overflows_at_no_scale_whatever_is_missing(scores, exponent, missing):
    scaled = torch.tensor(scores * np.float32(10.0**exponent)).masked_fill(torch.tensor(missing), -torch.inf)
    x, y = (part.clone().requires_grad_() for part in scaled.split([4, 3], dim=1))
    loss = minus_log_likelihood(x, y)
    assert loss.isfinite().all() and (loss >= 0).all()
    for gradient in torch.autograd.grad(loss.sum(), (x, y)):
        assert gradient.isfinite().all() and gradient.abs().max() <= 4.0


def test_what_is_missing_counts_for_nothing():
    x, y = torch.randn(1, 3, generator=generator(1)), torch.randn(1, 2, generator=generator(2))
    gone = torch.full((1, 2), -torch.inf)
    padded = minus_log_likelihood(torch.cat([x, gone], dim=1), torch.cat([y, gone], dim=1))
    torch.testing.assert_close(padded, minus_log_likelihood(x, y))


def _ranking(num_rows: int, num_items: int = 12, num_listed: int = 5) -> TeacherRanking:
    """Of each row the first two items are observed, and the last ones listed."""
    rows = torch.arange(num_rows).repeat_interleave(2)
    listed = torch.arange(num_items - 1, num_items - 1 - num_listed, -1).expand(num_rows, -1)
    return TeacherRanking.of(listed, rows, torch.tensor([0, 1]).repeat(num_rows), num_items)


def test_interesting_ranks_follow_their_law():
    """Two of five, one after the other, p_k ~ exp(-k / 2): all ordered pairs by hand, joined to sets."""
    num_rows = 40_000
    ranks = ranks_of(torch.ones(num_rows, 5, dtype=torch.bool), Law(2, 0, 2.0), generator())
    p = np.exp(-np.arange(5) / 2.0)
    p /= p.sum()
    for i in range(5):
        for j in range(i + 1, 5):
            exact = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
            found = float(((ranks[:, 0] == i) & (ranks[:, 1] == j)).float().mean())
            assert found == pytest.approx(exact, abs=5 * np.sqrt(exact / num_rows)), (i, j)


def test_of_what_is_unseen_the_better_half_is_listed_at_most():
    """Were all of it listed, nothing would stand below: RD would weigh nothing, RRD would say nothing but the order."""
    drawn = _ranking(3, num_listed=10).draw(Law(10, 10, None), generator())
    assert drawn.interesting_NK.tolist() == [[11, 10, 9, 8, 7] + [NONE] * 5] * 3
    assert sorted(drawn.uninteresting_NL[0].tolist()) == [NONE] * 5 + [2, 3, 4, 5, 6]


def test_rankings_of_parts_join_to_that_of_all():
    whole, parts = _ranking(5), [_ranking(2), _ranking(3)]
    joined = TeacherRanking.joined(parts)
    for law in (Law(4, 3, 2.0), Law(3, 5, None)):
        ours, theirs = (one.draw(law, generator()) for one in (whole, joined))
        assert torch.equal(ours.interesting_NK, theirs.interesting_NK)
        assert torch.equal(ours.uninteresting_NL, theirs.uninteresting_NL)


def test_the_plain_way_draws_by_the_same_law():
    ranking, num_rows = _ranking(8000), 8000
    drawn = ranking.draw(Law(2, 3, 2.0), generator())
    listed = ranking.ranked_NC.tolist()
    theirs = plain.draw(listed, [{0, 1}] * num_rows, 12, (2, 3), 2.0, np.random.default_rng(0))
    for ours, others in zip((drawn.interesting_NK, drawn.uninteresting_NL), theirs, strict=True):
        shares = [np.bincount(np.ravel(ids), minlength=12) / num_rows for ids in (ours.numpy(), np.array(others))]
        np.testing.assert_allclose(*shares, atol=0.04)


def test_the_first_items_without_sampling():
    ranking = _ranking(2)
    assert torch.equal(ranking.draw(Law(3, 0, None), generator()).interesting_NK, ranking.ranked_NC[:, :3])


@settings(max_examples=50, deadline=None)
@given(temperature=st.floats(1e-6, 1e6), seed=st.integers(0, 1000))
def test_what_is_drawn_is_ordered_different_and_of_the_right_kind_at_any_temperature(temperature, seed):
    drawn = _ranking(3).draw(Law(4, 3, temperature), generator(seed))
    assert (drawn.ranks_NK.diff(dim=1) > 0).all()
    assert drawn.interesting_NK.min() >= 7
    for row in drawn.uninteresting_NL.tolist():
        assert len(set(row)) == 3 and set(row) <= {2, 3, 4, 5, 6}


def test_a_user_with_fewer_candidates_than_are_asked_for():
    """Eight items: row 0 has seen six and lists one of the other two, row 1 has seen none and lists three."""
    ranked = torch.tensor([[7, 6, NONE], [5, 0, 1]])
    ranking = TeacherRanking.of(ranked, torch.zeros(6, dtype=torch.int64), torch.arange(6), 8)
    drawn = ranking.draw(Law(40, 40, 10.0), generator())
    assert drawn.interesting_NK.tolist() == [[7, NONE, NONE], [5, 0, 1]]
    assert sorted(drawn.uninteresting_NL[0].tolist())[-2:] == [NONE, 6]
    assert sorted(drawn.uninteresting_NL[1].tolist())[-5:] == [2, 3, 4, 6, 7]
    assert (drawn.uninteresting_NL[1] == NONE).sum() == 35


def test_distinct_numbers_are_uniform_over_sets():
    chosen = distinct(torch.full((30_000,), 4), 2, generator())
    sets = np.bincount(chosen.max(dim=1).values.numpy() * 4 + chosen.min(dim=1).values.numpy())
    found = sets[sets > 0] / 30_000
    assert len(found) == 6
    np.testing.assert_allclose(found, 1 / 6, atol=0.012)


def test_the_allowed_items_are_those_not_excluded():
    allowed = Allowed.excluding(torch.tensor([0, 2, 0, 0, 2]), torch.tensor([3, 0, 0, 3, 4]), 3, 5)
    assert allowed.counts_N.tolist() == [3, 5, 3]
    for row, items in enumerate(([1, 2, 4], [0, 1, 2, 3, 4], [1, 2, 3])):
        places = torch.arange(len(items))
        assert allowed.nth(torch.full_like(places, row), places).tolist() == items


def test_selection_at_low_temperature_is_the_argmax_of_the_noisy_weights():
    log_weights = torch.randn(50, 4, generator=generator(3)).log_softmax(dim=1)
    warm, cold = (select(log_weights, temperature, generator(5)) for temperature in (1.0, 1e-10))
    torch.testing.assert_close(cold, torch.nn.functional.one_hot(warm.argmax(dim=1), 4).float())
    chosen = select(log_weights[:1].expand(20_000, -1), 1e-10, generator(6)).mean(dim=0)
    torch.testing.assert_close(chosen, log_weights[0].exp(), atol=0.02, rtol=0)


@pytest.mark.parametrize("temperature", [0.7, 0.02])
def test_experts_equal_the_plain_way_with_all_gradients(temperature):
    """At the lower one most experts are not asked for most entities."""
    num_entities = 40
    experts = Experts(3, 4, 5, generator(1)).double()
    student = torch.randn(num_entities, 3, dtype=torch.float64, generator=generator(2), requires_grad=True)
    teacher = torch.randn(num_entities, 4, dtype=torch.float64, generator=generator(3))
    weights = torch.rand(num_entities, dtype=torch.float64, generator=generator(4))
    ours = experts(student, teacher, weights, temperature, generator(5))
    selected = select(experts.selector(teacher).log_softmax(dim=1), temperature, generator(5))
    theirs = plain.distance(experts, student, teacher, selected, weights)
    torch.testing.assert_close(ours, theirs)
    leaves = (student, *experts.parameters())
    for one, other in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True):
        torch.testing.assert_close(one, other)


@settings(max_examples=100, deadline=None)
@given(exponent=st.floats(-10, 12), temperature=st.floats(1e-12, 1e3), seed=st.integers(0, 99))
def test_experts_stay_finite_at_any_scale_and_temperature(exponent, temperature, seed):
    experts = Experts(3, 4, 5, generator(seed))
    student = (torch.randn(6, 3, generator=generator(seed)) * 10.0**exponent).requires_grad_()
    teacher = torch.randn(6, 4, generator=generator(seed + 1)) * 10.0**exponent
    loss = experts(student, teacher, torch.ones(6), temperature, generator(seed))
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, (student, *experts.parameters())):
        assert gradient.isfinite().all()


class _Table:
    """A view of contexts and items as given vectors, scored by their product."""

    def __init__(self, width: int, seed: int, num_contexts: int = 4, num_items: int = 12) -> None:
        self.contexts_ND = torch.randn(num_contexts, width, generator=generator(seed), requires_grad=True)
        self.items_VD = torch.randn(num_items, width, generator=generator(seed + 1), requires_grad=True)

    def contexts(self):
        return (self.contexts_ND,)

    def items(self, ids):
        return (self.items_VD[ids],)

    def scores(self, ids):
        return (self.contexts_ND[:, None] * self.items_VD[ids]).sum(dim=2)


@pytest.mark.parametrize("name", TERMS)
def test_every_term_of_the_table_teaches_the_student_alone(name):
    student, teacher = _Table(3, 1), _Table(5, 2)
    teacher.contexts_ND.requires_grad_(False), teacher.items_VD.requires_grad_(False)
    term = TERMS[name](SETTINGS[name], Sizes(((3, 5),), ((3, 5),), 12, 9), generator())
    drawn = drawn_for(term.law, _ranking(4), teacher.scores, generator())
    pair = Pair(student, teacher, torch.arange(5), torch.ones(5), epochs_done=0, generator=generator())
    before = term(pair, drawn).item()
    optimiser = torch.optim.Adam([student.contexts_ND, student.items_VD, *term.parameters()], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        loss = term(pair, drawn)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.8 * before


@pytest.mark.parametrize("name", TERMS)
def test_what_a_term_draws_from_the_list_is_told_to_whoever_makes_it(name):
    term = TERMS[name](SETTINGS[name], Sizes(((3, 5),), ((3, 5),), 12, 9), generator())
    assert Terms(**{name: SETTINGS[name]}).drawn().get(name, 0) == term.law.num_interesting


@settings(max_examples=100, deadline=None)
@given(exponent=st.floats(-10, 12), name=st.sampled_from(list(TERMS)), seed=st.integers(0, 99))
def test_no_term_is_infinite_or_no_number_at_any_scale(exponent, name, seed):
    student, teacher = _Table(3, seed), _Table(5, seed + 2)
    for view in (student, teacher):
        view.contexts_ND = (view.contexts_ND * 10.0**exponent).detach().requires_grad_()
    term = TERMS[name](SETTINGS[name], Sizes(((3, 5),), ((3, 5),), 12, 9), generator())
    drawn = drawn_for(term.law, _ranking(4), teacher.scores, generator(seed))
    loss = term(Pair(student, teacher, torch.arange(5), torch.ones(5), 0, generator()), drawn)
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, (student.contexts_ND, student.items_VD)):
        assert gradient.isfinite().all()


def test_the_experts_need_a_fifth_of_the_plain_ways_memory_or_less():
    """As released: 30 experts, 20 wide to 200 wide, and as many users as a batch has."""
    experts = Experts(20, 200, 30, generator())
    student, teacher = torch.randn(800, 20, requires_grad=True), torch.randn(800, 200)
    weights, trained = torch.ones(800), (student, *experts.parameters())

    def plainly() -> torch.Tensor:
        selected = select(experts.selector(teacher).log_softmax(dim=1), 1.0, generator())
        return plain.distance(experts, student, teacher, selected, weights)

    ours = peak_bytes(lambda: experts(student, teacher, weights, 1.0, generator()), trained)
    assert 5 * ours <= peak_bytes(plainly, trained)


@pytest.mark.parametrize("name", ["rrd", "rd", "cd"])
def test_terms_skip_items_that_are_not_there(name):
    student, teacher = _Table(3, 1), _Table(5, 2)
    term = TERMS[name](SETTINGS[name], Sizes(((3, 5),), ((3, 5),), 12, 9), generator())
    short = torch.tensor([[4, 2], [3, 1], [5, 6], [7, 8]])
    ranks, others = torch.arange(2).expand(4, -1), torch.tensor([[9], [10], [9], [0]])
    gone = torch.full((4, 1), NONE)
    pair = Pair(student, teacher, torch.arange(0), torch.ones(0), epochs_done=0, generator=generator())
    bare = term(pair, Drawn(short, ranks, others, teacher.scores(short)))
    longer = torch.cat([short, gone], dim=1)
    more = Drawn(longer, torch.arange(3).expand(4, -1), others, teacher.scores(longer.clamp_min(0)))
    torch.testing.assert_close(term(pair, more), bare)


def test_cd_by_hand():
    """Cross-entropy towards sigmoid(teacher / calibration)."""
    student, teacher = (_Table(1, 1, num_contexts=1) for _ in range(2))
    for view, slope in ((student, 0.5), (teacher, 2.0)):
        view.contexts_ND, view.items_VD = torch.full((1, 1), slope), torch.arange(12.0)[:, None]
    ids, ranks, nothing = torch.tensor([[2, 1, NONE]]), torch.tensor([[0, 1, 2]]), torch.empty(1, 0, dtype=torch.int64)
    drawn = Drawn(ids, ranks, nothing, teacher.scores(ids.clamp_min(0)))
    pair = Pair(student, teacher, torch.arange(0), torch.ones(0), epochs_done=0, generator=generator())
    cd = TERMS["cd"](Collaborative(num_sampled=3, calibration=4.0), Sizes(((1, 1),), ((1, 1),), 12, 9), generator())
    wanted, given = (1 / (1 + np.exp(-np.array(logits))) for logits in ([1.0, 0.5], [1.0, 0.5]))
    expected = -(wanted * np.log(given) + (1 - wanted) * np.log(1 - given)).sum()
    assert cd(pair, drawn).item() == pytest.approx(float(expected))
    other = TERMS["cd"](Collaborative(num_sampled=3, calibration=1.0), Sizes(((1, 1),), ((1, 1),), 12, 9), generator())
    wanted = 1 / (1 + np.exp([-4.0, -2.0]))
    expected = -(wanted * np.log(given) + (1 - wanted) * np.log(1 - given)).sum()
    assert other(pair, drawn).item() == pytest.approx(float(expected))


def test_the_experts_selection_hardens_from_epoch_to_epoch(monkeypatch):
    """Geometrically from the first to the last, where it stays."""
    asked = []
    monkeypatch.setattr(Experts, "forward", lambda *given: asked.append(given[4]) or torch.zeros(()))
    knobs = DistillationExperts(num_experts=2, temperature_start=1.0, temperature_end=1e-4)
    term = TERMS["de"](knobs, Sizes(((3, 5),), ((3, 5),), 12, 3), generator())
    nothing = torch.empty(4, 0, dtype=torch.int64)
    for epoch in range(4):
        pair = Pair(_Table(3, 1), _Table(5, 2), torch.arange(5), torch.ones(5), epoch, generator())
        term(pair, Drawn(nothing, nothing, nothing))
    assert asked[::2] == asked[1::2] == pytest.approx([1.0, 1e-2, 1e-4, 1e-4])


def test_rd_by_hand():
    """One context whose scores are known: ranks 0 and 1, weights exp(-rank / T), normalised; then by the ranks too."""
    view = _Table(1, 1, num_contexts=1)
    view.contexts_ND = torch.ones(1, 1)
    view.items_VD = torch.arange(12.0)[:, None]
    drawn = Drawn(torch.tensor([[2, 1]]), torch.tensor([[0, 1]]), torch.tensor([[5, 0]]))
    pair = Pair(view, view, torch.arange(0), torch.ones(0), epochs_done=0, generator=generator())
    sizes = Sizes(((1, 1),), ((1, 1),), 12, 9)
    weights = np.exp([0.0, -0.1])
    losses = np.log1p(np.exp([-2.0, -1.0]))
    cold = TERMS["rd"](PointwiseRanking(num_positives=2), sizes, generator())
    assert cold(pair, drawn).item() == pytest.approx(float(weights @ losses / weights.sum()))
    weights = weights * np.tanh(0.1 * np.array([12 * 0.5 - 0, 12 * 0.5 - 1]))
    warm = TERMS["rd"](PointwiseRanking(num_positives=2, warm_up=0), sizes, generator())
    assert warm(pair, drawn).item() == pytest.approx(float(weights @ losses / weights.sum()))


def test_rd_counts_the_teachers_other_items_above_a_positive_too():
    """The student has the first of five listed items below the other four and above all that are not listed."""
    student = _Table(1, 1, num_contexts=1)
    student.contexts_ND = torch.ones(1, 1)
    student.items_VD = torch.tensor([9.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 4.0, 3.0, 2.0, 1.0])[:, None]
    rd = TERMS["rd"](PointwiseRanking(num_positives=1, num_sampled=10, warm_up=0), Sizes((), (), 12, 9), generator())
    drawn = _ranking(1).draw(rd.law, generator())
    assert sorted(drawn.uninteresting_NL[0].tolist()) == list(range(2, 12))
    pair = Pair(student, student, torch.arange(0), torch.ones(0), epochs_done=0, generator=generator())
    assert rd(pair, drawn).item() == pytest.approx(np.log1p(np.exp(-1.0)))
