"""BPR and NeuMF: what they are by formula, that they learn, alone and from a teacher, and that nothing of the teaching
stays in the student."""

import numpy as np
import pytest
import torch

from distilrec.core import config, factors
from distilrec.core.config import (
    Collaborative,
    DistillationExperts,
    PointwiseRanking,
    RelaxedRanking,
    Teach,
    UserTraining,
)
from distilrec.core.cost import count_params
from distilrec.core.dots import dots
from distilrec.core.evaluation import rank_users
from distilrec.core.events import Sequences
from distilrec.core.factors import BPR, USER_MODELS, NeuMF
from distilrec.core.fit import DivergedError, Validation
from distilrec.core.metrics import per_user
from distilrec.core.ranked import NONE, Law, TeacherRanking
from distilrec.core.recommender import ModelScorer
from distilrec.core.snapshot import Snapshot
from distilrec.core.split import Questions
from distilrec.core.terms import TERMS, Pair, Sizes, drawn_for
from distilrec.core.user_fit import Pairs, UserFit, UserRun, UserTeaching, ranking_by
from distilrec.core.views import StateView, sizes_of_users
from tests.conftest import generator, sasrec

NUM_USERS, NUM_ITEMS, GROUPS, SEEN = 80, 40, 4, 6
QUICK = UserTraining(learning_rate=0.03, weight_decay=1e-4, batch_size=64)
SETTINGS = {
    "de": DistillationExperts(num_experts=3),
    "rrd": RelaxedRanking(num_interesting=4, num_uninteresting=4, temperature=3.0),
    "rd": PointwiseRanking(num_positives=4, num_sampled=10, warm_up=0.1),
    "cd": Collaborative(num_sampled=4),
}


def _made(name: str, width: int = 8, seed: int = 0):
    model = USER_MODELS[name](NUM_USERS, NUM_ITEMS, width)
    model.initialise(generator(seed))
    return model


def _groups(is_planted: bool = True) -> tuple[Sequences, np.ndarray]:
    """Every user has six of the ten items of its group, and a seventh as the target; or seven of all forty."""
    random = np.random.default_rng(0)
    of_group = NUM_ITEMS // GROUPS
    if is_planted:
        drawn = np.stack([random.permutation(of_group)[: SEEN + 1] + of_group * (u % GROUPS) for u in range(NUM_USERS)])
    else:
        drawn = np.stack([random.permutation(NUM_ITEMS)[: SEEN + 1] for _ in range(NUM_USERS)])
    return Sequences.flat(drawn[:, :SEEN].ravel(), np.full(NUM_USERS, SEEN), NUM_ITEMS), drawn[:, SEEN]


def _hit5(model, train: Sequences, targets: np.ndarray) -> float:
    return float(per_user(rank_users(ModelScorer(model), train, targets).removed, "hr", 5).mean())


def _trained(model, train: Sequences, epochs: int, teaching: UserTeaching | None = None, seed: int = 1) -> UserFit:
    fit = UserFit(model, Pairs.of(train), QUICK, generator(seed), teaching)
    for record in fit.epochs():
        if record.epoch == epochs:
            return fit
    raise AssertionError


def _teaching(teacher, student, train: Sequences, *names: str) -> UserTeaching:
    sizes = sizes_of_users(student, teacher, 20)
    terms = {name: TERMS[name](SETTINGS[name], sizes, generator(2)) for name in names}
    ranking = ranking_by(teacher, Pairs.of(train), 10)
    return UserTeaching(teacher, lambda: ranking, terms, dict.fromkeys(names, 0.3))


def test_a_term_is_told_the_epoch_and_each_user_and_item_of_the_batch_once():
    """Items of both signs count by half, as released. What the teacher scores is of the right users, also where they
    come in several parts."""
    seen = []

    class Listens(torch.nn.Module):
        law = Law(3, 2, None, is_scored=True)

        def forward(self, pair, drawn):
            seen.append((pair, drawn))
            return torch.zeros(())

    train, _ = _groups()
    student, teacher, pairs = _made("bpr", 4), _made("bpr"), Pairs.of(train)
    teaching = UserTeaching(teacher, lambda: ranking_by(teacher, pairs, 10), {"cd": Listens()}, {"cd": 1.0})
    fit = UserFit(student, pairs, UserTraining(batch_size=len(pairs.users_P)), generator(), teaching)
    list(fit.batches()), list(fit.batches())
    assert [pair.epochs_done for pair, _ in seen] == [0, 1]
    pair, drawn = seen[0]
    assert torch.equal(pair.student.contexts()[0], student.users(torch.arange(NUM_USERS)))
    assert len(drawn.interesting_NK) == NUM_USERS
    positives = pairs.items_P.unique()
    assert torch.equal(pair.items_I[: len(positives)], positives)
    assert (pair.items_I[len(positives) :].diff() > 0).all(), "the negatives, each once"
    assert (pair.item_weights_I == 0.5).all()
    several = UserTraining(batch_size=NUM_USERS // 3)
    list(UserFit(student, pairs, several, generator(), teaching).batches())
    for pair, drawn in seen:
        torch.testing.assert_close(drawn.scores_NK, pair.teacher.scores(drawn.interesting_NK))


@pytest.mark.parametrize("name", USER_MODELS)
def test_they_learn_what_is_there_and_nothing_where_nothing_is(name):
    for is_planted, low, high in ((True, 0.8, 1.0), (False, 0.0, 0.35)):
        train, targets = _groups(is_planted)
        model = _made(name)
        _trained(model, train, 10)
        assert low <= _hit5(model, train, targets) <= high


def test_the_settings_name_them_all():
    assert set(config.USER_MODELS) == set(USER_MODELS) < set(Teach.model_fields["model"].annotation.__args__)


def test_parameters_are_those_of_the_published_table():
    """DE-RRD's Table 3, CiteULike, phi = 1 and 0.1, millions: BPR 6.08 and .61, NeuMF 15.33 and 1.52."""
    for model, width, millions in ((BPR, 200, 6.08), (BPR, 20, 0.61), (NeuMF, 250, 15.33), (NeuMF, 25, 1.52)):
        with torch.device("meta"):
            made = model(5220, 25182, width)
        assert round(count_params(made) / 1e6, 2) == millions


@pytest.mark.parametrize("tile_elements", [1, 9, 10_000])
@pytest.mark.parametrize("name", USER_MODELS)
def test_scoring_all_equals_scoring_some(name, tile_elements, monkeypatch):
    monkeypatch.setattr(factors, "TILE_ELEMENTS", tile_elements)
    model = _made(name)
    states = model.states(torch.tensor([3, 0]))
    everything = torch.arange(NUM_ITEMS).expand(2, -1)
    expected = model.score(states)
    torch.testing.assert_close(model.score_of(states, everything), expected)
    with torch.no_grad():
        torch.testing.assert_close(model.score_of(states, everything), expected)


def test_neumf_by_its_formula():
    model = _made("neumf", width=3)
    user, item = model.users.weight[2], model.items.weight[5]
    hidden = model.hidden(torch.cat([user[3:], item[3:]])).relu()
    expected = model.out(torch.cat([user[:3] * item[:3], hidden]))
    torch.testing.assert_close(model.score_of(model.states(torch.tensor([2])), torch.tensor([[5]]))[0], expected)


def test_losses_by_hand():
    users, positives, negatives = torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4, 5])
    for name in USER_MODELS:
        model = _made(name)
        scores = model.score(model.states(users))
        up, down = scores[[0, 1], positives], scores[[0, 1], negatives]
        if name == "bpr":
            expected = -(up - down).sigmoid().log().sum()
        else:
            expected = -up.sigmoid().log().sum() - (1 - down.sigmoid()).log().sum()
        torch.testing.assert_close(model.loss(users, positives, negatives), expected)


def test_a_ranking_leaves_out_what_was_seen_and_users_without_a_pair_are_skipped():
    """User 1 has nothing, and user 2 has seen all but two."""
    train = Sequences.flat(np.array([0, 1, *range(2, NUM_ITEMS)]), np.array([2, 0, NUM_ITEMS - 2]), NUM_ITEMS)
    model = BPR(3, NUM_ITEMS, 4)
    model.initialise(generator())
    pairs = Pairs.of(train)
    ranked = ranking_by(model, pairs, 5).ranked_NC
    scores = model.score(model.states(torch.arange(3))).detach()
    scores[0, :2] = -torch.inf
    assert torch.equal(ranked[:2], scores[:2].topk(5).indices)
    assert sorted(ranked[2].tolist()) == [NONE, NONE, NONE, NONE, int(scores[2, 1] > scores[2, 0])], "the better half"
    assert 1 not in pairs.users_P
    negatives = pairs.unseen.one_each(pairs.users_P, generator())
    assert not {*zip(pairs.users_P.tolist(), negatives.tolist(), strict=True)} & {
        *zip(pairs.users_P.tolist(), pairs.items_P.tolist(), strict=True)
    }
    small = BPR(3, NUM_ITEMS, 2)
    small.initialise(generator(1))
    before = small.users.weight[1].clone()
    plain = UserTraining(weight_decay=0.0, batch_size=8)
    next(UserFit(small, pairs, plain, generator(), _teaching_of(model, small, pairs)).epochs())
    assert torch.equal(small.users.weight[1], before)
    assert all(parameter.isfinite().all() for parameter in small.parameters())


def _teaching_of(teacher, student, pairs: Pairs) -> UserTeaching:
    sizes = sizes_of_users(student, teacher, 20)
    terms = {name: TERMS[name](SETTINGS[name], sizes, generator(2)) for name in TERMS}
    ranking = ranking_by(teacher, pairs, 5)
    return UserTeaching(teacher, lambda: ranking, terms, dict.fromkeys(TERMS, 0.1))


@pytest.mark.parametrize("name", USER_MODELS)
def test_a_teacher_helps_a_small_student_early(name):
    """RRD and DE with RRD, over three seeds, after as few epochs as leave the untaught student behind."""
    train, targets = _groups()
    teacher = _made(name, width=16)
    _trained(teacher, train, 30)
    hits = {"none": 0.0, "rrd": 0.0, "de rrd": 0.0}
    for seed in range(3):
        for terms in hits:
            student = _made(name, width=4, seed=seed)
            names = () if terms == "none" else tuple(terms.split())
            teaching = _teaching(teacher, student, train, *names) if names else None
            _trained(student, train, 2, teaching, seed)
            hits[terms] += _hit5(student, train, targets) / 3
    assert hits["rrd"] > hits["none"] + 0.1
    assert hits["de rrd"] > hits["none"]


@pytest.mark.parametrize("name", USER_MODELS)
def test_nothing_that_only_training_needs_stays_in_the_student(name):
    train, _ = _groups()
    student, teacher = _made(name, width=4), _made(name, width=16)
    before = count_params(student)
    teaching = _teaching(teacher, student, train, *TERMS)
    fit = _trained(student, train, 1, teaching)
    assert count_params(student) == before == sum(tensor.numel() for tensor in student.state_dict().values())
    inner = (4 + 16) // 2
    experts = 3 * (4 * inner + inner + inner * 16 + 16) + 16 * 3 + 3
    num_kinds = 2 * student.num_parts
    assert count_params(fit.trained) == before + num_kinds * experts


def test_the_released_experts_have_the_published_number_of_parameters():
    """DE-RRD's log at phi = 0.1: 1,470,600 in experts and 12,060 in selectors."""
    sizes = Sizes(((20, 200),), ((20, 200),), 25182, 1000)
    with torch.device("meta"):
        de = TERMS["de"](DistillationExperts(), sizes, None)
    selectors = sum(count_params(one.selector) for one in (*de.contexts, *de.items))
    assert (count_params(de) - selectors, selectors) == (1_470_600, 12_060)


def test_a_training_resumes_bit_for_bit():
    train, _ = _groups()
    fits = []
    for _ in range(2):
        student, teacher = _made("bpr", width=4), _made("bpr", width=16, seed=5)
        teaching = _teaching(teacher, student, train, "de", "rrd")
        fits.append(UserFit(student, Pairs.of(train), QUICK, generator(3), teaching))
    whole, halves = fits
    running = whole.epochs()
    next(running)
    saved = whole.snapshot()
    next(running)
    halves.restore(Snapshot(saved.tensors, saved.values))
    next(halves.epochs())
    for one, other in zip(whole.trained.parameters(), halves.trained.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_is_no_number_ends_the_training():
    train, targets = _groups()
    model = _made("bpr")
    with torch.no_grad():
        model.items.weight[3] = torch.nan
    fit = UserFit(model, Pairs.of(train), QUICK, generator())
    run = UserRun(fit, Validation(Questions(train, targets), "removed"), Teach())
    with pytest.raises(DivergedError, match=r"epoch 1, batch \d"):
        list(run.records())


@pytest.mark.parametrize("name", TERMS)
def test_terms_teach_sequential_students_too(name):
    """States of two positions of a SASRec, and its item vectors: the gradient reaches all of it."""
    student, teacher = sasrec(width=8, seed=1), sasrec(width=16, seed=2)
    ids = torch.randint(12, (2, 6), generator=generator(3))
    states, wise = (model(ids).state_BLD[:, -1] for model in (student, teacher))
    views = StateView(states, student.item_vectors()), StateView(wise.detach(), teacher.item_vectors().detach())
    ranked = teacher.score(wise).topk(5, dim=1).indices
    ranking = TeacherRanking.of(ranked, torch.tensor([0, 1]), ids[:, -1], 12)
    term = TERMS[name](SETTINGS[name], Sizes(((8, 16),), ((8, 16),), 12, 9), generator())
    loss = term(
        Pair(*views, torch.arange(4), torch.ones(4), epochs_done=0, generator=generator()),
        drawn_for(term.law, ranking, views[1].scores, generator()),
    )
    loss.backward()
    for parameter in (student.items.weight, student.layers[0].feed_in.weight):
        assert parameter.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_scores_of_some_items_have_the_gradient_of_their_products():
    states = torch.randn(3, 4, dtype=torch.float64, generator=generator(), requires_grad=True)
    vectors = torch.randn(5, 4, dtype=torch.float64, generator=generator(1), requires_grad=True)
    ids = torch.tensor([[0, 0, 1], [4, 0, 2], [2, 2, 2]])
    torch.testing.assert_close(dots(states, vectors, ids), (states[:, None] * vectors[ids]).sum(dim=2))
    assert torch.autograd.gradcheck(lambda one, other: dots(one, other, ids), (states, vectors))
