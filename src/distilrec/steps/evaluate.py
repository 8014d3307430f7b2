"""evaluate: teacher, student, champion and floors on the same frozen test users, in the form that is served."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distilrec.core.candidates import PROTOCOLS, draw_negatives, ranks_among
from distilrec.core.config import SceneConfig
from distilrec.core.evaluation import MISS, Ranks, Scorer, mean_ndcg10, rank_asked, rank_users
from distilrec.core.events import Ints, Sequences, histories
from distilrec.core.floors import MarkovFloor, PopularityFloor
from distilrec.core.metrics import VARIANTS, Bootstrap, Interval, means, per_user, remove_seen
from distilrec.core.split import Questions
from distilrec.io.exported import ExportedScorer, open_exported
from distilrec.io.jsons import write_json
from distilrec.io.promotions import Entry, asked_by
from distilrec.io.rankers import open_ranker
from distilrec.io.store import manifest_of, whole_folder
from distilrec.io.tables import Dataset
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.inputs import OpenDataset, open_dataset, require_made_from

EXAMPLE_LENGTH = 5
MOST_OF_RECALL = 5000
"""Users whose exact answer is compared with the index's."""


def evaluate(config: SceneConfig, dataset: Path, student: Path, out: Path, adapters: Adapters) -> dict[str, Any]:
    """Whole-catalogue metrics of all models, intervals, per-user ranks, examples. Returns the manifest."""
    data = open_dataset(dataset)
    student_manifest = manifest_of(student, "retrain")
    require_made_from(student, student_manifest, {"prepare": data.manifest})
    train, questions = data.split.train, data.split.test
    rankers = student / "rankers"
    forms = {"teacher": "teacher_onnx", "student": "student_onnx", "student_int8": "student_int8"}
    scorers = {name: ExportedScorer(open_exported(rankers / form, config.threads)) for name, form in forms.items()}
    popularity = PopularityFloor(train)
    everyone: dict[str, Scorer] = {**scorers, "popularity": popularity, "markov": MarkovFloor(train)}
    negatives = {
        str(one): draw_negatives(PROTOCOLS[one], questions, popularity.score_V, config.seed)
        for one in config.evaluate.sampled
    }
    ranks: dict[str, Ranks] = {}
    among: dict[str, dict[str, Ints]] = {}
    for name, scorer in everyone.items():
        ranks[name] = rank_asked(scorer, questions)
        among[name] = ranks_among(scorer, questions, negatives)
        adapters.progress.say("epoch", epoch=len(ranks), num_epochs=len(everyone), model=name)
    asked = asked_by(adapters.tracking.origin.run, str(student_manifest["content"]))
    entry = adapters.registry.champion(config.scene, asked)
    champion = _evaluate_champion(entry, data, config, adapters) if entry else None
    if champion:
        ranks["champion"] = champion[0]
    ndcg10 = {name: per_user(one.variant(data.deciding), "ndcg", 10) for name, one in ranks.items()}
    compared = Bootstrap(ndcg10, config.seed, config.evaluate.bootstrap_repeats)
    with whole_folder(out) as folder:
        quality = {
            "num_test_users": len(questions.users),
            "deciding": data.deciding,
            "models": {name: one.metrics() for name, one in ranks.items()},
            "sampled": {one: {name: means(of[one]) for name, of in among.items()} for one in negatives},
            "ndcg10": {name: compared.mean(name).as_dict() for name in ranks},
            "student_over_teacher": compared.ratio(config.serve.evaluated, "teacher").as_dict(),
            "int8_loss": _int8_loss(data, scorers),
            "index_recall": _index_recall(rankers, data, config) if config.serve.variant == "indexed" else None,
            "champion": _champion_summary(entry, champion, compared, config),
        }
        write_json(folder.path / "quality.json", quality)
        write_json(folder.path / "examples.json", _examples(config, data, scorers))
        columns = {f"{name}_{variant}": one.variant(variant) for name, one in ranks.items() for variant in VARIANTS}
        pq.write_table(
            pa.table({"user": data.dataset.user_ids.take(pa.array(questions.users)), **columns}),
            folder.path / "ranks.parquet",
        )
        served = config.serve.model_dump(mode="json")
        content = content_of("evaluate", config, data.content, str(student_manifest["content"]), served)
        inputs = {"prepare": data.content, "retrain": student_manifest["content"]}
        folder.manifest.update(adapters.stamp("evaluate", content, inputs=inputs))
    return folder.manifest


def _int8_loss(data: OpenDataset, scorers: Mapping[str, Scorer]) -> float:
    """The share of its NDCG@10 that the student loses in int8, on the validation items: the test chooses nothing."""
    before, after = (
        mean_ndcg10(rank_asked(scorers[name], data.split.valid), data.deciding) for name in ("student", "student_int8")
    )
    return 1.0 - after / before if before else 0.0


def _index_recall(rankers: Path, data: OpenDataset, config: SceneConfig) -> float:
    """The share of the best items, over validation histories as a request would send them, that the index finds."""
    asked_users = data.split.valid.users
    wanted = min(MOST_OF_RECALL, len(asked_users))
    users = np.sort(np.random.default_rng(config.seed).choice(asked_users, size=wanted, replace=False))
    ids, lengths = histories(data.split.valid.past, users, config.max_length)
    names = data.dataset.item_ids.to_pylist()
    asked = [[names[item] for item in row[:length]] for row, length in zip(ids.tolist(), lengths, strict=True)]
    opened = [open_ranker(rankers / form, config.threads) for form in ("student_onnx", "student_indexed")]
    who = data.dataset.user_ids.take(pa.array(users)).to_pylist() if opened[0].users else None
    exact, found = (ranker.recommend(asked, users=who) for ranker in opened)
    shares = [len({*a.items} & {*b.items}) / len(a.items) for a, b in zip(exact, found, strict=True) if a.items]
    return float(np.mean(shares))


def _evaluate_champion(entry: Entry, data: OpenDataset, config: SceneConfig, adapters: Adapters) -> tuple[Ranks, int]:
    """Its ranks on its own catalogue, and the number of test users whose target it lacks."""
    with tempfile.TemporaryDirectory() as fetched:
        ranker = open_ranker(adapters.registry.ranker_folder(entry, Path(fetched)), config.threads)
    own_users = ranker.users.ids if ranker.users else None
    return rank_on_own_catalogue(ExportedScorer(ranker.model), ranker.ids, data.dataset, data.split.test, own_users)


def rank_on_own_catalogue(
    scorer: Scorer,
    own_ids: Sequence[str | int],
    dataset: Dataset,
    questions: Questions,
    own_users: Sequence[str | int] | None = None,
) -> tuple[Ranks, int]:
    """Rank with a model of another catalogue: ids are matched, unknown history items skipped, unknown targets missed.
    `own_users`: of a model that is asked with users, which are matched too, and missed if it does not know them."""
    past = questions.past
    own_of = _matched(dataset.item_ids, own_ids)
    own_target = np.full(len(past), -1, dtype=np.int64)
    own_target[questions.answerable] = own_of[questions.targets_U[questions.answerable]]
    user_of, items = past.events(np.arange(len(past)))
    known = own_of[items] >= 0
    stops = np.cumsum(np.bincount(user_of[known], minlength=len(past)), dtype=np.int64)
    starts = np.concatenate([[0], stops[:-1]])
    if own_users is None:
        places, num_places = np.where(stops > starts, np.arange(len(past)), -1), len(past)
    else:
        places, num_places = _matched(dataset.user_ids, own_users), len(own_users)
    usable = (places >= 0) & (own_target >= 0)
    spread = {variant: np.full(len(past), MISS, dtype=np.int64) for variant in VARIANTS}
    if usable.any():
        asked = places[usable]
        own_starts, own_stops, own_targets = np.zeros((3, num_places), dtype=np.int64)
        own_starts[asked], own_stops[asked], own_targets[asked] = starts[usable], stops[usable], own_target[usable]
        mine = Sequences(own_of[items[known]], own_starts, own_stops, len(own_ids))
        found = rank_users(scorer, mine, own_targets, asked)
        for variant, ranks in spread.items():
            ranks[usable] = found.variant(variant)
    ranks_of_asked = {variant: ranks[questions.users] for variant, ranks in spread.items()}
    return Ranks(**ranks_of_asked), int((own_target[questions.answerable] < 0).sum())


def _matched(ids: pa.Array, own: Sequence[str | int]) -> Ints:
    """The place of each id among the own ones, as text; -1 for those that are not there."""
    place = {str(name): index for index, name in enumerate(own)}
    return np.array([place.get(str(name), -1) for name in ids.to_pylist()], dtype=np.int64)


def _champion_summary(
    entry: Entry | None, champion: tuple[Ranks, int] | None, compared: Bootstrap, config: SceneConfig
) -> dict[str, Any] | None:
    if entry is None or champion is None:
        return None
    ratio = compared.ratio(config.serve.evaluated, "champion")
    change = Interval(ratio.value - 1, ratio.low - 1, ratio.high - 1)
    return {
        "version": entry.champion,
        "as_of": entry.champion_as_of,
        "num_missing_targets": champion[1],
        "change": change.as_dict(),
    }


def _examples(config: SceneConfig, data: OpenDataset, scorers: Mapping[str, Scorer]) -> list[dict[str, Any]]:
    """Some test users whose target the catalogue has, drawn by the seed: their newest items, the target, and both top
    lists as titles. Not who they are: a report is read by many."""
    past, targets, drawn_from = data.split.test.past, data.split.test.targets_U, data.split.test.answerable
    wanted = min(config.evaluate.num_examples, len(drawn_from))
    users: Ints = np.sort(np.random.default_rng(config.seed).choice(drawn_from, size=wanted, replace=False))
    if not wanted:
        return []
    titles = data.dataset.titles
    top: dict[str, list[list[int]]] = {}
    for name in ("teacher", "student"):
        scores = scorers[name].score(past, users)
        if data.deciding == "removed":
            scores = remove_seen(scores, targets[users], *past.events(users))
        top[name] = np.argsort(-scores, axis=1, kind="stable")[:, :EXAMPLE_LENGTH].tolist()
    ids, lengths = histories(past, users, EXAMPLE_LENGTH)
    return [
        {
            "history": [titles[item] for item in ids[row, : lengths[row]].tolist()],
            "target": titles[targets[user]],
            **{name: [titles[item] for item in lists[row]] for name, lists in top.items()},
        }
        for row, user in enumerate(users)
    ]
