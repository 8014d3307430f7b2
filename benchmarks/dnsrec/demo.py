"""The demo's scene: every architecture of the space, what the search chose among them, and what each part is worth."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adarec import demo
from benchmarks.adarec.ml1m import by_seed, kept, mean_ndcg
from benchmarks.adarec.trained import Row, Workshop
from benchmarks.dnsrec.trained import found_by, timed, trained
from benchmarks.results import SAME_THREADS, Results
from distilrec import entry
from distilrec.core.cost import MACS
from distilrec.core.decisions import Choice, Draw
from distilrec.core.dropout import Dropout
from distilrec.core.evaluation import mean_ndcg10, rank_users
from distilrec.core.latency import P50_MS, LatencyTable
from distilrec.core.metrics import bootstrap_mean
from distilrec.core.recommender import ModelScorer
from distilrec.core.space import Genotype
from distilrec.core.spaces import space_of
from distilrec.core.transformer import DEPTH, WIDTH, TransformerSpace, TransformerSupernet
from distilrec.core.transformer_costs import TransformerCosts
from distilrec.io.jsons import read_json
from distilrec.io.models import load_weights
from distilrec.io.pictures import new_figure, svg_of
from distilrec.io.scenes import load_scene
from distilrec.steps.spaces import costs_of

SETTINGS = "search.space=transformer search.width=64 search.architecture_learning_rate=0.1"
"""The release's sizes: 64, 32 or 16 wide, one to four layers."""
BUDGETS = {"none": None, "half": 0.5, "quarter": 0.25}
"""Of the multiply-adds of the largest; none: cost has no price either."""
FREE = "search.cost_weight=0"
CELLS = "search.cells=per-depth search.depth=searched"
SEEDS = (0, 1, 2)
AS_RELEASED = (
    "search.transformer.relaxation=softmax search.temperature_end=0.01 search.architecture_data=training "
    "search.architecture_after=0 search.architecture_every=10 search.architecture_learning_rate=0.001 "
    "search.cost_weight=0.01 search.epochs=10"
)
"""As far as settings go. How the release mixes, masks and cools has none (docs/dnsrec.md)."""
ABLATIONS = {
    "half budget": ("", True),
    "without gates": ("search.transformer.gates=false", True),
    "softmax attention": ("search.transformer.attention=softmax", True),
    "widths per layer": ("search.transformer.widths=per-layer", True),
    "softmax relaxation": ("search.transformer.relaxation=softmax", True),
    "no budget": ("", False),
    "static cost": ("search.transformer.constraint=static", False),
    "softmax at a price": ("search.transformer.relaxation=softmax", False),
    "search as released": (AS_RELEASED, False),
}
"""What is changed, and whether within half of the largest's multiply-adds; the first of each kind is what the others
are compared with. The dynamic factor has no part in a budget."""
FRONT = Path(__file__).with_name("front.svg")


def _workshop() -> Workshop:
    folder = demo.begun()
    config = load_scene(demo.SCENE, f"{SAME_THREADS} {SETTINGS}")
    return Workshop(folder, config, folder / "dataset", folder / "teacher")


def _space(shop: Workshop) -> TransformerSpace:
    space = space_of(shop.config.search, shop.config.max_length)
    assert isinstance(space, TransformerSpace)
    return space


def _found(shop: Workshop, name: str, overrides: str) -> Genotype:
    inputs = (str(shop.folder / "dataset"), str(shop.folder / "teacher"))
    return found_by(demo.SCENE, f"{SETTINGS} {overrides}".strip(), inputs, shop.folder / f"transformer-{name}")


def _name(genotype: Any) -> str:
    return f"{len(genotype.widths)} x {genotype.width}"


def oracle(results: Results) -> None:
    """All twelve from scratch, one recipe and seed; then where the choices rank among those within their budget. What
    is in the measurements is not trained again."""
    shop = _workshop()
    space = _space(shop)
    costs = TransformerCosts.of_space(space)
    choices: dict[str, Choice] = {_name(space.derive(choice)): choice for choice in space.choices()}
    rows: dict[str, dict[str, Any]] = results.raw.get("oracle", {})
    for name, choice in choices.items():
        if name not in rows:
            rows[name] = kept([trained(shop, "transformer", space.derive(choice), 0)])[0]
            results.keep("oracle", rows)
    quality = {name: float(rows[name]["ndcg10"]) for name in choices}
    chosen = {}
    for name in BUDGETS:
        limit = _limit_of(shop, name)
        limited = f"{limit:,.0f} multiply-adds" if np.isfinite(limit) else "no"
        chosen[name] = _name(_found_under(shop, name))
        within = [one for one in quality if costs.of(choices[one])[MACS] <= limit]
        ranked = sorted(within, key=lambda one: -quality[one])
        chances = _chances(shop.folder / f"transformer-{name}", choices)
        likeliest = max(within, key=lambda one: chances[one])
        note = (
            f"found {chosen[name]}, with the search a chance of {chances[chosen[name]]:.3f}, of {len(within)} within "
            f"{limited} limit; the likeliest of them {likeliest}, {chances[likeliest]:.3f}, rank "
            f"{ranked.index(likeliest) + 1}; by test NDCG@10, seen items {shop.data.deciding}, one seed: "
            + ", ".join(f"{one} {quality[one]:.4f}" for one in ranked)
        )
        results.put(f"oracle.rank_{name}", float(ranked.index(chosen[name]) + 1), "rank", note)
    shared = _supernet_quality(shop, choices)
    _put_correlation(results, shared, quality, {name: space.derive(choice).width for name, choice in choices.items()})
    results.keep("oracle_choices", chosen)
    FRONT.write_text(_front(rows, quality, chosen), encoding="utf-8")


def _limit_of(shop: Workshop, budget: str) -> float:
    share = BUDGETS[budget]
    return share * TransformerCosts.of_space(_space(shop)).largest(MACS) if share else np.inf


def _found_under(shop: Workshop, budget: str) -> Genotype:
    limit = _limit_of(shop, budget)
    return _found(shop, budget, f"search.budget.encoder_macs={int(limit)}" if np.isfinite(limit) else FREE)


def _chances(folder: Path, choices: dict[str, Choice]) -> dict[str, float]:
    """By name, in the last epoch of a search of shared widths."""
    last = read_json(folder / "search" / "history.json")[-1]["probability"]
    return {
        name: float(np.prod([last[decision][0][choice[decision][0]] for decision in (WIDTH, DEPTH)]))
        for name, choice in choices.items()
    }


def _put_correlation(
    results: Results, shared: dict[str, float], quality: dict[str, float], widths: dict[str, int]
) -> None:
    def over(names: list[str]) -> float:
        return _rank_correlation([shared[name] for name in names], [quality[name] for name in names])

    of_width = {width: over([name for name in widths if widths[name] == width]) for width in set(widths.values())}
    by_width = _rank_correlation(list(widths.values()), [quality[name] for name in widths])
    of_each = ", ".join(f"{width}: {of_width[width]:.2f}" for width in sorted(of_width))
    note = f"Spearman's; within one width {of_each}; of the width alone {by_width:.2f}; validation NDCG@10 of the "
    note += "supernet of the search without a budget, test NDCG@10 retrained: "
    note += ", ".join(f"{name} {shared[name]:.4f} {quality[name]:.4f}" for name in widths)
    results.put("oracle.rank_correlation", over(list(widths)), "correlation", note)


def _supernet_quality(shop: Workshop, choices: dict[str, Choice]) -> dict[str, float]:
    supernet = TransformerSupernet(shop.data.sequences.num_items, Dropout(0.0), _space(shop))
    supernet.load_state_dict(load_weights(shop.folder / "transformer-none" / "search"))
    past, targets = shop.data.sequences.without_last(2), shop.data.sequences.target(2)
    found = {}
    for name, choice in choices.items():
        ranks = rank_users(ModelScorer(supernet.select(Draw(choice))), past, targets)
        found[name] = mean_ndcg10(ranks, shop.data.deciding)
    return found


def _rank_correlation(one: list[float], other: list[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def _front(rows: dict[str, dict[str, Any]], quality: dict[str, float], chosen: dict[str, str]) -> str:
    figure, (axes,) = new_figure(7, 4)
    for name, row in rows.items():
        place = (row["encoder_macs"], quality[name])
        axes.plot(*place, "o", color="#bbbbbb")
        axes.annotate(name, place, xytext=(4, 4), textcoords="offset points", fontsize=7)
    for (budget, name), marker in zip(chosen.items(), "soD", strict=True):
        look = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": "#0b6e4f", "linestyle": "none"}
        label = f"found within a {budget}" if BUDGETS[budget] else "found without a budget"
        axes.plot(rows[name]["encoder_macs"], quality[name], marker, label=label, **look)
    axes.legend(loc="lower right", fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.09)
    axes.set_xlabel("encoder multiply-adds of a sequence")
    axes.set_ylabel("test NDCG@10")
    axes.set_title("Layers x width", loc="left")
    return svg_of(figure)


def ablations(results: Results) -> None:
    """Search and training of each variant, seed by seed; the figures are of the seeds that are there."""
    shop = _workshop()
    limit = int(_limit_of(shop, "half"))
    rows: dict[str, list[Row]] = {}
    for seed in SEEDS:
        for name, (change, has_budget) in ABLATIONS.items():
            budget = f"search.budget.encoder_macs={limit}" if has_budget else ""
            genotype = _found(shop, f"{_slug(name)}-{seed}", f"seed={seed} {budget} {change}".strip())
            rows.setdefault(name, []).append(trained(shop, "transformer", genotype, seed))
            results.keep("ablations", {one: kept(each) for one, each in rows.items()})
            before = rows["half budget" if has_budget else "no budget"]
            if change:
                _put_ablation(results, name, before, rows[name])


def _put_ablation(results: Results, name: str, before: list[Row], after: list[Row]) -> None:
    interval = bootstrap_mean(mean_ndcg(before) - mean_ndcg(after), seed=0)
    macs = [[row.encoder_macs for row in rows] for rows in (before, after)]
    note = f"by seed {by_seed(before)} against {by_seed(after)}, multiply-adds {macs[0]} against {macs[1]}"
    if [row.ranks for row in before] == [row.ranks for row in after]:
        note = f"the very same students; {note}"
    limits = [interval.low, interval.high]
    figure = f"ablation.default_minus_{_slug(name)}.ndcg10"
    results.put(figure, interval.value, "NDCG@10", note, seeds=len(after), interval=limits)


def _slug(name: str) -> str:
    return name.lower().replace(" ", "_")


def head_to_head(results: Results) -> None:
    """The transformers of the oracle's three budgets, and for each the cells found within its measured p50, which they
    need not spend. The limits are kept: another hour's would be another search."""
    shop = _workshop()
    transformers = {name: _found_under(shop, name) for name in BUDGETS}
    limits = results.raw.get("head_to_head") or results.keep("head_to_head", _p50_of(shop, transformers))
    pairs = {
        name: {"transformer": one, "cells": _cells_within(shop, name, limits[name])}
        for name, one in transformers.items()
    }
    trainings = {
        name: {kind: trained(shop, kind, one, 0) for kind, one in pair.items()} for name, pair in pairs.items()
    }
    p50 = _p50_of(shop, {f"{kind} {name}": one for name, pair in pairs.items() for kind, one in pair.items()})
    for name, rows in trainings.items():
        interval = bootstrap_mean(rows["transformer"].ndcg() - rows["cells"].ndcg(), seed=0)
        note = "; ".join(
            f"{kind} {p50[f'{kind} {name}']:.2f} ms at the median, {row.encoder_macs:,} multiply-adds, test NDCG@10 "
            f"{mean_ndcg([row]).mean():.4f}"
            for kind, row in rows.items()
        )
        results.put(
            f"demo.transformer_{name}_minus_cells.ndcg10", interval.value, "NDCG@10", f"{note}; one seed", seeds=1,
            interval=[interval.low, interval.high],
        )  # fmt: skip


def _p50_of(shop: Workshop, genotypes: dict[str, Genotype]) -> dict[str, float]:
    """Milliseconds of requests of one user, taken in turns."""
    return {name: float(np.median(samples)) for name, samples in timed(genotypes, shop, 1).items()}


def _cells_within(shop: Workshop, name: str, p50_ms: float) -> Genotype:
    """By the cells' latency table; within the smallest possible p50 if less is asked for."""
    dataset, path = str(shop.folder / "dataset"), shop.folder / "latency-cells.json"
    if not path.is_file():
        entry.profile(demo.SCENE, f"{SAME_THREADS} {CELLS}", dataset, str(path))
    table = LatencyTable.from_json(read_json(path))
    overrides = f"{CELLS} search.latency_table={path}"
    least = costs_of(load_scene(demo.SCENE, overrides), table).smallest(P50_MS)
    overrides += f" search.budget.p50_ms={max(p50_ms, 1.01 * least):.4f}"
    return found_by(demo.SCENE, overrides, (dataset, str(shop.folder / "teacher")), shop.folder / f"cells-{name}")
