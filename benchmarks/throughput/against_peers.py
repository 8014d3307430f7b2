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
from distilrec.core.metrics import per_user, ranks_of, seen_above

HERE = Path(__file__).resolve().parent
LIBRARIES = ("hopwise", "recbole")
PEER_EPOCHS = 10
OUR_EPOCHS_A_TURN = 3
SEEDS = 3


def _peer(library: str, model: str) -> Peer:
    arguments = (library, ours.PEER_NAMES[model], str(ours.WIDTH), str(ours.LENGTH))
    return Peer(library, HERE / "peer.py", *arguments, threads=THREADS)


def epoch(results: Results) -> None:
    """Seconds of one epoch over the same targets; A B A C A B A C, medians."""
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        sequences = ours.ml100k(Path(folder))
    for model in ours.MODELS:
        raw[model] = _epochs_in_turns(sequences, model, results.is_quick)
        seconds = raw[model]["seconds"]
        fastest = min(LIBRARIES, key=lambda library: float(np.median(seconds[library])))
        raw[model]["fastest"] = fastest
        value, interval = median_ratio(seconds[fastest], seconds["ours"])
        medians = ", ".join(f"{name} {np.median(each):.3g} s" for name, each in seconds.items())
        sizes = {name: raw[model]["about"][name]["num_params"] for name in raw[model]["about"]}
        note = (
            f"MovieLens-100K, length 50, width 64, 97,171 targets; medians an epoch: {medians} (peers: from some of "
            f"an epoch's batches, in turns with our epochs); parameters {sizes}"
        )
        results.put(f"epoch.{model}_speedup", value, "ratio", note, interval=interval)
    results.keep("epoch", raw)


def _epochs_in_turns(sequences: Sequences, model: str, is_quick: bool) -> dict[str, Any]:
    config = ours.MODELS[model]
    seconds: dict[str, list[float]] = {"ours": [], **{library: [] for library in LIBRARIES}}
    validations: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    own = ours.fit(sequences, config, seed=0, epochs=100)
    ours.epoch_seconds(own)  # warm-up
    with ExitStack() as stack:
        peers = {library: stack.enter_context(_peer(library, model)) for library in LIBRARIES}
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
                seconds["ours"] += [ours.epoch_seconds(own)[0] for _ in range(OUR_EPOCHS_A_TURN)]
                seconds[library].append(peer.ask("train", 4 if is_quick else 8)["seconds"])
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
        with _peer(library, model) as peer:
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
    users, num_items, history = (1000 if results.is_quick else 6040), 3416, 160
    random = np.random.default_rng(0)
    popularity = np.log(1.0 / np.arange(1, num_items + 1))
    scores = (popularity + random.gumbel(size=(users, num_items))).astype(np.float32)
    past = Sequences.flat(
        np.argsort(scores + random.gumbel(size=scores.shape), axis=1)[:, -history:].ravel(),
        np.full(users, history),
        num_items,
    )
    targets = random.choice(num_items, size=users, p=np.exp(popularity) / np.exp(popularity).sum())
    rows, items = past.events(np.arange(users))
    fresh = items != targets[rows]  # the peers would remove a target that was seen; ours never does
    raw: dict[str, Any] = {"seconds": {"ours": []}, "metrics": {}}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        arrays = {"scores": scores, "rows": rows[fresh], "items": items[fresh], "targets": targets}
        for name, array in arrays.items():
            np.save(Path(folder) / f"{name}.npy", array)
        peers = {library: stack.enter_context(_peer(library, "sasrec")) for library in LIBRARIES}
        peers["rectools"] = stack.enter_context(Peer("rectools", HERE / "rectools_peer.py", threads=THREADS))
        for _ in range(1 if results.is_quick else 3):
            for name, peer in peers.items():
                raw["seconds"]["ours"] += [_rank(scores, past, targets)[0] for _ in range(5)]
                answer = peer.ask("rank", folder, "kept")
                raw["seconds"].setdefault(name, []).extend(answer["seconds"])
                raw["metrics"][name] = {"kept": answer["metrics"]}
        for name, peer in peers.items():
            raw["metrics"][name]["removed"] = peer.ask("rank", folder, "removed")["metrics"]
    own = _rank(scores, past, targets)[1]
    largest = max(
        abs(own[variant][metric] - value)
        for both in raw["metrics"].values()
        for variant, values in both.items()
        for metric, value in values.items()
    )
    assert largest < 1e-6, f"metrics differ by {largest}"
    fastest = min(peers, key=lambda name: float(np.median(raw["seconds"][name])))
    value, interval = median_ratio(raw["seconds"][fastest], raw["seconds"]["ours"])
    rates = ", ".join(f"{name} {users / np.median(each):,.0f}" for name, each in raw["seconds"].items())
    note = (
        f"{users} users x {num_items} items in batches of {MOST_USERS}; users a second: {rates}; ours ranks both with "
        f"seen items kept and removed, the peers with them kept; largest difference of any metric {largest:.1e}"
    )
    results.put("ranking_metrics.speedup", value, "ratio", note, interval=interval)
    results.keep("ranking_metrics", raw)


def _rank(scores: np.ndarray, past: Sequences, targets: np.ndarray) -> tuple[float, dict[str, dict[str, float]]]:
    """What `rank_users` does after the model's forward, and the means."""
    began = time.perf_counter()
    ranks: dict[str, list[np.ndarray]] = {"kept": [], "removed": []}
    for first in range(0, len(targets), MOST_USERS):
        users = np.arange(first, min(first + MOST_USERS, len(targets)))
        kept = ranks_of(scores[users[0] : users[-1] + 1], targets[users])
        ranks["kept"].append(kept)
        above = seen_above(scores[users[0] : users[-1] + 1], targets[users], *past.events(users))
        ranks["removed"].append(kept - above)
    means = {
        variant: {
            f"{theirs}@{k}": float(per_user(np.concatenate(parts), metric, k).mean())
            for metric, theirs in (("ndcg", "ndcg"), ("hr", "hit"), ("mrr", "mrr"))
            for k in (1, 5, 10, 20)
        }
        for variant, parts in ranks.items()
    }
    return time.perf_counter() - began, means
