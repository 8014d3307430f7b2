"""The parts that are measured beside other libraries, one after the other in turns."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import ENVIRONMENTS, Peer
from benchmarks.results import THREADS, Results, median_ratio
from benchmarks.throughput import ours
from distilrec.core.evaluation import MOST_USERS
from distilrec.core.events import Sequences
from distilrec.core.metrics import VARIANTS, means, ranks_of

HERE = Path(__file__).resolve().parent
LIBRARIES = ("hopwise", "recbole")
PEER_EPOCHS = 10
OUR_EPOCHS_A_TURN = 3
SEEDS = 3
RANKING_REPEATS = 15


def _peer(library: str, model: str, is_tuned: bool = False) -> Peer:
    arguments = (library, ours.PEER_NAMES[model], str(ours.WIDTH), str(ours.LENGTH))
    return Peer(library, HERE / "peer.py", *arguments, threads=THREADS, is_tuned=is_tuned)


def epoch(results: Results) -> None:
    """Seconds of one epoch over the same targets, peers as installed; A B A C A B A C, medians."""
    _epoch(results, "epoch", is_tuned=False)


def epoch_tuned(results: Results) -> None:
    """The same, the peers given what we know about this kind of machine."""
    _epoch(results, "epoch_tuned", is_tuned=True)


def _epoch(results: Results, part: str, is_tuned: bool) -> None:
    raw = results.raw.setdefault(part, {})
    with tempfile.TemporaryDirectory() as folder:
        sequences = ours.ml100k(Path(folder))
    for model in ours.MODELS:
        raw[model] = _epochs_in_turns(sequences, model, results.is_quick, is_tuned)
        seconds = raw[model]["seconds"]
        fastest = min(LIBRARIES, key=lambda library: float(np.median(seconds[library])))
        raw[model]["fastest"] = fastest
        results.keep(part, raw)
        value, interval = median_ratio(seconds[fastest], seconds["ours"])
        medians = ", ".join(f"{name} {np.median(each):.3g} s" for name, each in seconds.items())
        sizes = {name: raw[model]["about"][name]["num_params"] for name in raw[model]["about"]}
        note = (
            f"MovieLens-100K, length 50, width 64, 97,171 targets; medians an epoch: {medians} (peers: from some of "
            f"an epoch's batches, in turns with our epochs); parameters {sizes}; peers "
            + ("without anomaly detection, with our allocator's settings" if is_tuned else "as installed")
        )
        results.put(f"{part.replace('epoch', f'epoch.{model}')}_speedup", value, "ratio", note, interval=interval)


def _epochs_in_turns(sequences: Sequences, model: str, is_quick: bool, is_tuned: bool) -> dict[str, Any]:
    config = ours.MODELS[model]
    seconds: dict[str, list[float]] = {"ours": [], **{library: [] for library in LIBRARIES}}
    validations: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    own = ours.fit(sequences, config, seed=0, epochs=100)
    ours.epoch_seconds(own)  # warm-up
    with ExitStack() as stack:
        peers = {library: stack.enter_context(_peer(library, model, is_tuned)) for library in LIBRARIES}
        about = {
            "ours": ours.describe(sequences, config),
            **{name: peer.ask("describe") for name, peer in peers.items()},
        }
        for library in LIBRARIES:
            assert about[library]["num_targets"] == about["ours"]["num_targets"], about
        for peer in peers.values():
            peer.ask("train", 1)  # warm-up
        for _ in range(1 if is_quick else 3):
            for library, peer in peers.items():
                seconds["ours"] += [ours.epoch_seconds(own) for _ in range(OUR_EPOCHS_A_TURN)]
                seconds[library].append(peer.ask("train", 3 if is_quick else 6)["seconds"])
                validations[library].append(peer.ask("validate")["seconds"])
                print(f"{model}: ours {seconds['ours'][-1]:.2f} s, {library} {seconds[library][-1]:.1f} s", flush=True)
    return {"seconds": seconds, "validations": validations, "about": about}


def peer_quality(results: Results) -> None:
    """The validation NDCG@10 that the faster peer reaches in 10 epochs; resumes after its last whole epoch."""
    raw = results.raw.setdefault("peer_quality", {})
    for model in ours.MODELS:
        library = results.raw["epoch"][model]["fastest"]
        curve = raw.setdefault(model, [])
        saved = ENVIRONMENTS / f"{library}-{model}.checkpoint"
        with _peer(library, model, is_tuned=True) as peer:
            if not saved.is_file():
                curve.clear()
            if curve:
                assert peer.ask("resume", saved)["epoch"] == len(curve), f"{saved} is of another epoch"
            while len(curve) < PEER_EPOCHS:
                trained = peer.ask("train", "all")["seconds"]
                curve.append({"train_seconds": trained, **peer.ask("validate")})
                peer.ask("save", saved)
                results.keep("peer_quality", raw)
                print(f"{library} {model}: epoch {len(curve)}, {curve[-1]}", flush=True)


def train_to_quality(results: Results) -> None:
    """Seconds until validation NDCG@10 is what the faster peer has after 10 epochs; ours over seeds.

    The peer's time is ten of the epochs and validations that the part `epoch` timed in turns with ours.
    """
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        sequences = ours.ml100k(Path(folder))
    for model, config in ours.MODELS.items():
        timed, library = results.raw["epoch"][model], results.raw["epoch"][model]["fastest"]
        curve = results.raw["peer_quality"].get(model, [])
        if len(curve) < PEER_EPOCHS:
            print(f"{model}: the part peer_quality is not complete")
            continue
        goal = curve[-1]["ndcg10"]
        trained, validated = timed["seconds"][library], timed["validations"][library]
        peer_seconds = [PEER_EPOCHS * (one + other) for one, other in zip(trained, validated, strict=True)]
        runs = [ours.seconds_to(ours.fit(sequences, config, seed), goal) for seed in range(SEEDS)]
        raw[model] = {"goal": goal, "peer_seconds": peer_seconds, "ours": runs}
        results.keep("train_to_quality", raw)
        if not all(run.reached for run in runs):
            print(f"{model}: validation NDCG@10 {goal:.4f} was not reached by every seed: {runs}")
            continue
        seconds = [run.seconds for run in runs]
        value, interval = median_ratio(peer_seconds, seconds)
        note = (
            f"to validation NDCG@10 {goal:.4f}, seen kept, which {library} with its default learning rate has after "
            f"{PEER_EPOCHS} epochs, {np.median(peer_seconds):.0f} s; ours, learning rate {config.learning_rate}, in "
            f"{np.median(seconds):.1f} s, validations included, {[run.epoch for run in runs]} epochs"
        )
        results.put(f"train_to_quality.{model}_speedup", value, "ratio", note, interval=interval, seeds=SEEDS)


def ranking_metrics(results: Results) -> None:
    """From the same score batches to HR, NDCG and MRR at four cut-offs; ours gives both variants at once."""
    with tempfile.TemporaryDirectory() as folder:
        sequences = ours.ml100k(Path(folder))
    cases = {"MovieLens-100K": (sequences.without_last(1), sequences.target(1))}
    if not results.is_quick:
        cases["as large as MovieLens-1M"] = _drawn(6040, 3416, 160)
    raw = {name: _ranked_in_turns(past, targets, results.is_quick) for name, (past, targets) in cases.items()}
    results.keep("ranking_metrics", raw)
    ratios, notes = {}, []
    for name, one in raw.items():
        fastest = min(one["metrics"], key=lambda library: float(np.median(one["seconds"][library])))
        ratios[name] = median_ratio(one["seconds"][fastest], one["seconds"]["ours"])
        num_users = len(cases[name][1])
        rates = ", ".join(f"{who} {num_users / np.median(each):,.0f}" for who, each in one["seconds"].items())
        notes.append(f"{name}: {ratios[name][0]:.1f} x, users a second {rates}")
    value, interval = ratios["MovieLens-100K"]
    largest = max(one["largest"] for one in raw.values())
    note = (
        f"{'; '.join(notes)}; batches of {MOST_USERS} users; ours ranks with seen items kept and removed, the peers "
        f"with them kept; largest difference of any metric of either variant {largest:.1e}"
    )
    results.put("ranking_metrics.speedup", value, "ratio", note, interval=interval)


def _drawn(num_users: int, num_items: int, length: int) -> tuple[Sequences, np.ndarray]:
    random = np.random.default_rng(0)
    popularity = 1.0 / np.arange(1, num_items + 1)
    order = np.argsort(np.log(popularity) + random.gumbel(size=(num_users, num_items)), axis=1)[:, ::-1]
    past = Sequences.flat(order[:, :length].ravel(), np.full(num_users, length), num_items)
    return past, order[:, length].copy()


def _ranked_in_turns(past: Sequences, targets: np.ndarray, is_quick: bool) -> dict[str, Any]:
    random = np.random.default_rng(1)
    scores = random.normal(size=(len(past), past.num_items)).astype(np.float32)
    rows, items = past.distinct().events(np.arange(len(past)))
    raw: dict[str, Any] = {"seconds": {"ours": []}, "metrics": {}}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for name, array in {"scores": scores, "rows": rows, "items": items, "targets": targets}.items():
            np.save(Path(folder) / f"{name}.npy", array)
        peers = {library: stack.enter_context(_peer(library, "sasrec")) for library in LIBRARIES}
        peers["rectools"] = stack.enter_context(Peer("rectools", HERE / "rectools_peer.py", threads=THREADS))
        for _ in range(1 if is_quick else 3):
            for name, peer in peers.items():
                repeats = [_rank(scores, rows, items, targets)[0] for _ in range(RANKING_REPEATS + 1)]
                raw["seconds"]["ours"] += repeats[1:]  # the first warms up, theirs too
                answer = peer.ask("rank", folder, "kept")
                raw["seconds"].setdefault(name, []).extend(answer["seconds"])
                raw["metrics"][name] = {"kept": answer["metrics"]}
        for name, peer in peers.items():
            raw["metrics"][name]["removed"] = peer.ask("rank", folder, "removed")["metrics"]
    own = _rank(scores, rows, items, targets)[1]
    differences = [
        abs(own[variant][metric] - value)
        for both in raw["metrics"].values()
        for variant, values in both.items()
        for metric, value in values.items()
    ]
    raw["largest"] = max(differences)
    assert raw["largest"] < 1e-6, f"metrics differ by {raw['largest']}"
    return raw


def _rank(
    scores: np.ndarray, rows: np.ndarray, items: np.ndarray, targets: np.ndarray
) -> tuple[float, dict[str, dict[str, float]]]:
    """What `rank_users` does after the model's forward, and the means."""
    bounds = list(range(0, len(targets), MOST_USERS))
    cuts = np.searchsorted(rows, [*bounds, len(targets)])
    batches = []  # as the peers are given theirs
    for first, start, stop in zip(bounds, cuts[:-1], cuts[1:], strict=True):
        users = slice(first, first + MOST_USERS)
        batches.append((scores[users], targets[users], rows[start:stop] - first, items[start:stop]))
    began = time.perf_counter()
    ranked = [ranks_of(*batch) for batch in batches]
    found = {
        variant: {name.replace("hr@", "hit@"): value for name, value in means(np.concatenate(ranks)).items()}
        for variant, ranks in zip(VARIANTS, zip(*ranked, strict=True), strict=True)
    }
    return time.perf_counter() - began, found
