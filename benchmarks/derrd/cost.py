"""What RRD and DE cost, against the plain way of writing them: seconds of an epoch, peak memory of a batch.

On CiteULike's pairs with the released settings; the teacher's vectors are random, which changes neither.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.derrd import plain
from benchmarks.derrd.protocol import MAX_EPOCHS
from benchmarks.derrd.recipes import NUM_LISTED, RECIPES, STUDENT, TEACHER
from benchmarks.derrd.split import citeulike
from benchmarks.results import Results, median_ratio
from distilrec.core.config import DistillationExperts, RelaxedRanking
from distilrec.core.experts import Experts, select
from distilrec.core.factors import BPR
from distilrec.core.listwise import minus_log_likelihood
from distilrec.core.ranked import Drawn, Law
from distilrec.core.terms import DE, Pair, scores_of
from distilrec.core.user_fit import Pairs, ranking_by
from distilrec.core.views import UserView, sizes_of_users

REPEATS = 5
BATCH = RECIPES["bpr"][STUDENT].training.batch_size
Likelihood = Callable[[Tensor, Tensor], Tensor]


def rrd(results: Results) -> None:
    """Sampling for all users and the loss with its gradient on all batches of an epoch, in turns A B A B."""
    pairs, teacher, student = _made()
    ranking, law = ranking_by(teacher, pairs, NUM_LISTED), _law()
    seen = [set(items.tolist()) for items in pairs.items_P.split(torch.bincount(pairs.users_P).tolist())]
    listed = ranking.ranked_NC.tolist()
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)

    def plainly_drawn() -> Drawn:
        counts = (law.num_interesting, law.num_uninteresting)
        drawn = plain.draw(listed, seen, student.num_items, counts, float(law.temperature or 0.0), random)
        interesting, uninteresting = (torch.tensor(ids) for ids in drawn)
        return Drawn(interesting, torch.zeros_like(interesting), uninteresting)

    ways: dict[str, tuple[Callable[[], Drawn], Likelihood]] = {
        "plain": (plainly_drawn, plain.minus_log_likelihood),
        "plain, losses batched": (plainly_drawn, plain.minus_log_likelihood_batched),
        "ours": (lambda: ranking.draw(law, generator), minus_log_likelihood),
    }
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, (draw, likelihood) in ways.items():
            taken[name].append(_epoch(draw, likelihood, pairs, student, generator))
    results.keep("rrd", taken)
    seconds = {name: [one["draw"] + one["loss"] for one in each] for name, each in taken.items()}
    ratio, limits = median_ratio(seconds["plain"], seconds["ours"])
    batched, _ = median_ratio(seconds["plain, losses batched"], seconds["ours"])
    parts = "; ".join(
        f"{name}: drawing {np.median([one['draw'] for one in each]):.2f} s, losses "
        f"{np.median([one['loss'] for one in each]):.2f} s"
        for name, each in taken.items()
    )
    note = f"drawing and losses, Python loops over users in both; with the loop in the drawing alone {batched:.2f}"
    results.put("rrd.epoch_speedup", ratio, "ratio", f"{note}; {parts}", interval=limits)


def de(results: Results) -> None:
    """Peak of what DE's loss and gradient allocate for one batch, its users and its items of both signs; parameters are
    there before, both ways."""
    pairs, teacher, student = _made()
    generator = torch.Generator().manual_seed(0)
    term = DE(DistillationExperts(), sizes_of_users(student, teacher.requires_grad_(False), MAX_EPOCHS), generator)
    rows = torch.randperm(len(pairs.users_P), generator=generator)[:BATCH]
    users = torch.unique(pairs.users_P[rows])
    signs = [torch.unique(ids) for ids in (pairs.items_P[rows], pairs.unseen.one_each(pairs.users_P[rows], generator))]
    items, nothing = torch.cat(signs), torch.empty(len(users), 0, dtype=torch.int64)

    def ours() -> Tensor:
        views = UserView(student, users), UserView(teacher, users)
        pair = Pair(*views, items, torch.full((len(items),), 0.5), 0, torch.Generator().manual_seed(1))
        return term(pair, Drawn(nothing, nothing, nothing))

    def plainly() -> Tensor:
        draws, total = torch.Generator().manual_seed(1), torch.zeros(())
        for kind, entities, weight in (("users", users, 1.0), *(("items", ids, 0.5) for ids in signs)):
            experts: Experts = (term.contexts if kind == "users" else term.items)[0]
            own, wise = (getattr(model, kind)(entities) for model in (student, teacher))
            selected = select(experts.selector(wise).log_softmax(dim=1), 1.0, draws)
            total = total + plain.distance(experts, own, wise, selected, torch.full((len(entities),), weight))
        return total

    trained = (student.users.weight, student.items.weight, *term.parameters())
    raw = {name: peak_bytes(way, trained) for name, way in (("plain", plainly), ("ours", ours))}
    results.keep("de", raw)
    plain_mb, ours_mb = raw["plain"] / 1e6, raw["ours"] / 1e6
    note = (
        f"plain {plain_mb:.1f} MB, ours {ours_mb:.1f} MB, of which the gradients of what is trained, both ways, "
        f"{sum(one.numel() for one in trained) * 4 / 1e6:.1f} MB; {len(users)} users and {len(items)} items of a batch"
    )
    results.put("de.memory_ratio", plain_mb / ours_mb, "ratio", note)


def _law() -> Law:
    knobs = RelaxedRanking()
    return Law(knobs.num_interesting, knobs.num_uninteresting, knobs.temperature)


def _made() -> tuple[Pairs, BPR, BPR]:
    train = citeulike().train
    models = [BPR(len(train), train.num_items, RECIPES["bpr"][name].width) for name in (TEACHER, STUDENT)]
    for seed, model in enumerate(models):
        model.initialise(torch.Generator().manual_seed(seed))
    return Pairs.of(train), *models


def _epoch(
    draw: Callable[[], Drawn], likelihood: Likelihood, pairs: Pairs, student: BPR, generator: torch.Generator
) -> dict[str, float]:
    """Seconds."""
    begun = time.perf_counter()
    drawn = draw()
    ready = time.perf_counter()
    num_interesting = drawn.interesting_NK.shape[1]
    for rows in torch.randperm(len(pairs.users_P), generator=generator).split(BATCH):
        users = torch.unique(pairs.users_P[rows])
        view, mine = UserView(student, users), drawn.of(users)
        scores = scores_of(view, torch.cat([mine.interesting_NK, mine.uninteresting_NL], dim=1), -torch.inf)
        student.zero_grad(set_to_none=True)
        likelihood(*scores.split([num_interesting, mine.uninteresting_NL.shape[1]], dim=1)).sum().backward()
    return {"draw": ready - begun, "loss": time.perf_counter() - ready}


def peak_bytes(loss: Callable[[], Tensor], trained: tuple[Tensor, ...]) -> int:
    """Bytes, by the allocator's own record."""
    torch.autograd.grad(loss(), trained, allow_unused=True)  # a first time, for what stays allocated
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        gradients = torch.autograd.grad(loss(), trained, allow_unused=True)
    del gradients
    events = [one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]"]
    sizes = np.cumsum([one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())])
    return int(sizes.max())
