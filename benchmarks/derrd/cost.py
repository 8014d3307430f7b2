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
from benchmarks.derrd.recipes import NUM_LISTED, RECIPES, RRD, SETTINGS, STUDENT, TEACHER
from benchmarks.derrd.split import citeulike
from benchmarks.results import Results, median_ratio
from distilrec.core.experts import Experts, select
from distilrec.core.factors import BPR
from distilrec.core.listwise import minus_log_likelihood
from distilrec.core.ranked import Drawn, Law
from distilrec.core.terms import scores_of
from distilrec.core.user_fit import Pairs, ranking_by
from distilrec.core.views import UserView

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
    """Peak of what one batch's DE loss and gradient allocate; parameters and inputs are there before, both ways."""
    pairs, teacher, student = _made()
    experts = Experts(student.width, teacher.width, _num_experts(), torch.Generator().manual_seed(0))
    users = torch.unique(pairs.users_P[torch.randperm(len(pairs.users_P))[:BATCH]])
    weights = torch.ones(len(users))
    wise = teacher.states(users).detach()

    def ours() -> Tensor:
        return experts(student.users(users), wise, weights, 1.0, torch.Generator().manual_seed(1))

    def plainly() -> Tensor:
        log_weights = experts.selector(wise).log_softmax(dim=1)
        selected = select(log_weights, 1.0, torch.Generator().manual_seed(1))
        return plain.distance(experts, student.users(users), wise, selected, weights)

    trained = (student.users.weight, *experts.parameters())
    raw = {name: _peak(way, trained) for name, way in (("plain", plainly), ("ours", ours))}
    results.keep("de", raw)
    plain_mb, ours_mb = raw["plain"] / 1e6, raw["ours"] / 1e6
    note = f"plain {plain_mb:.1f} MB, ours {ours_mb:.1f} MB, of which gradients of parameters "
    note += f"{sum(one.numel() for one in trained) * 4 / 1e6:.1f} MB; {len(users)} users of a batch of {BATCH} pairs"
    results.put("de.memory_ratio", plain_mb / ours_mb, "ratio", note)


def _law() -> Law:
    knobs = SETTINGS[RRD]
    return Law(knobs.num_interesting, knobs.num_uninteresting, knobs.temperature)  # type: ignore[attr-defined]


def _num_experts() -> int:
    return int(SETTINGS["de"].num_experts)  # type: ignore[attr-defined]


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
    for rows in torch.randperm(len(pairs.users_P), generator=generator).split(BATCH):
        users = torch.unique(pairs.users_P[rows])
        view, mine = UserView(student, users), drawn.of(users)
        scores = [scores_of(view, ids, -torch.inf) for ids in (mine.interesting_NK, mine.uninteresting_NL)]
        student.zero_grad(set_to_none=True)
        likelihood(*scores).sum().backward()
    return {"draw": ready - begun, "loss": time.perf_counter() - ready}


def _peak(loss: Callable[[], Tensor], trained: tuple[Tensor, ...]) -> int:
    """Bytes, by the allocator's own record."""
    torch.autograd.grad(loss(), trained, allow_unused=True)  # a first time, for what stays allocated
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        gradients = torch.autograd.grad(loss(), trained, allow_unused=True)
    del gradients
    events = [one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]"]
    sizes = np.cumsum([one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())])
    return int(sizes.max())
