"""BPR and NeuMF through the eight steps, on a scene without order, and what answers in the end."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import jsonschema
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from distilrec.core.cost import count_params
from distilrec.core.errors import ArtifactError, ConfigError, DataError
from distilrec.core.evaluation import MISS, rank_users
from distilrec.core.parallel import Processes
from distilrec.core.recommender import ModelScorer
from distilrec.core.split import Questions
from distilrec.core.user_fit import Pairs
from distilrec.io.exported import ExportedScorer
from distilrec.io.jsons import read_json, write_json
from distilrec.io.mlflow_server import MlflowServer
from distilrec.io.models import load_student, load_teacher, load_weights
from distilrec.io.progress import Progress
from distilrec.io.rankers import open_ranker
from distilrec.io.registry import Registry
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.io.tracking import Origin, Tracking
from distilrec.serving.distilrec_ranker import RankerError, write_settings
from distilrec.steps.adapters import Adapters
from distilrec.steps.benchmark import benchmark
from distilrec.steps.content import content_of
from distilrec.steps.derive import derive
from distilrec.steps.evaluate import evaluate, rank_on_own_catalogue
from distilrec.steps.inputs import open_dataset
from distilrec.steps.plan import plan
from distilrec.steps.prepare import prepare
from distilrec.steps.profile import profile
from distilrec.steps.promote import Inputs, promote
from distilrec.steps.recommend import recommend
from distilrec.steps.retrain import retrain, write_rankers
from distilrec.steps.search import search
from distilrec.steps.teach import teach
from tests.conftest import NUM_ITEMS, ROOT, student, write_student_rankers

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow, pandas and pydantic warn of one another
NUM_USERS, WIDTH, PHI = 60, 8, 4
FACTORS = "{batch_size: 64, learning_rate: 0.02}"
SCENE = f"""
scene: shop
data: {{source: synthetic, num_users: {NUM_USERS}, num_items: 20, events_per_user: 12}}
prepare: {{order: none}}
max_length: 10
threads: 1
teach: {{model: bpr, width: {WIDTH}, max_epochs: 3, factors: {FACTORS}}}
search: {{space: fixed, width: {PHI}}}
retrain: {{max_epochs: 2, factors: {FACTORS}, terms: {{de: {{num_experts: 3}}, rrd: {{}}, rd: {{}}, cd: {{}}}}}}
benchmark: {{repeats: 100, warmup: 1, batch_sizes: [1, 2], seconds: 0.05}}
serve: {{min_index_recall: 0}}
gate: {{min_student_over_teacher: 0, min_student_over_teacher_low: 0, min_speedup_low: 0, above_floors: false}}
"""
SERVED = {"bpr": "indexed", "neumf": "float32"}


def _adapters(folder) -> Adapters:
    store, server = LocalStore(folder / "store"), MlflowServer(f"sqlite:///{folder}/mlflow.db", folder / "mlartifacts")
    return Adapters(store, Progress(folder, "shop"), Registry(server, store), Tracking(server, store, Origin("")), 0.0)


@pytest.fixture(scope="module", params=["bpr", "neumf"])
def shop(request, tmp_path_factory):
    """Every step's folder, its registry, the summary."""
    folder = tmp_path_factory.mktemp(request.param)
    overrides = f"teach.model={request.param} serve.variant={SERVED[request.param]}"
    config, adapters = load_scene(SCENE, overrides), _adapters(folder)
    names = ("dataset", "teacher", "search", "genotype", "student", "quality", "latency")
    inputs = Inputs(*(folder / name for name in names))
    prepare(config, "", inputs.dataset, adapters)
    teach(config, inputs.dataset, inputs.teacher, adapters)
    search(config, inputs.dataset, inputs.teacher, inputs.search, adapters)
    derive(config, inputs.search, inputs.genotype, adapters)
    retrain(config, inputs.dataset, inputs.teacher, inputs.genotype, inputs.student, adapters)
    evaluate(config, inputs.dataset, inputs.student, inputs.quality, adapters)
    benchmark(config, inputs.teacher, inputs.student, inputs.latency, adapters)
    summary = promote(config, inputs, folder / "outcome", adapters)
    return SimpleNamespace(
        config=config,
        adapters=adapters,
        folder=folder,
        inputs=inputs,
        summary=summary,
        data=open_dataset(inputs.dataset),
        ranker=open_ranker(inputs.student / "rankers" / config.serve.timed),
    )


def _users(shop, *numbers):
    return [shop.data.dataset.user_ids[number].as_py() for number in numbers]


def test_the_report_says_what_it_is_and_the_teacher_has_learnt(shop):
    summary = shop.summary
    assert summary["verdict"]["promote"] and summary["genotype"]["space"] == shop.config.teach.model
    assert summary["models"]["teacher"]["kept"]["ndcg@10"] > summary["models"]["popularity"]["kept"]["ndcg@10"]
    schema = read_json(ROOT / "docs" / "summary.schema.json")
    jsonschema.validate(summary, schema["properties"]["scenes"]["additionalProperties"])
    assert read_json(shop.inputs.student / "history.json")[0]["losses"]["terms"] > 0
    section = (shop.folder / "outcome" / "section.html").read_text()
    assert "and not searched" in section and "How the search decided" not in section


def test_what_only_training_needs_is_in_no_saved_student(shop):
    """By hand: users and items, of NeuMF two vectors each, a hidden layer and an output."""
    pairs = NUM_USERS + shop.data.sequences.num_items
    layers = (2 * PHI * PHI + PHI) + (2 * PHI + 1)
    expected = {"bpr": pairs * PHI, "neumf": 2 * pairs * PHI + layers}[shop.config.teach.model]
    model, _ = load_student(shop.inputs.student)
    saved = load_weights(shop.inputs.student)
    assert sum(tensor.numel() for tensor in saved.values()) == expected == count_params(model)
    cost = read_json(shop.inputs.genotype / "cost.json")
    assert cost["predicted"]["params"] == cost["measured"]["encoder_params"]
    assert load_teacher(shop.inputs.teacher)[0].width == WIDTH


def test_it_answers_by_user_as_the_model_does(shop):
    model, _ = load_student(shop.inputs.student)
    with torch.inference_mode():
        expected = model.score(model.states(torch.tensor([3, 41]))).numpy()
    answers = shop.ranker.recommend(users=_users(shop, 3, 41), k=20, exclude_seen=False)
    for scores, answer in zip(expected, answers, strict=True):
        assert answer.items == [shop.ranker.ids[index] for index in np.argsort(-scores, kind="stable")]
        np.testing.assert_allclose(answer.scores, np.sort(scores)[::-1], atol=1e-4)
        assert not answer.is_fallback
    assert read_json(shop.inputs.student / "export.json")["student"]["num_same_top10"] == NUM_USERS


def test_what_was_seen_is_left_out_and_who_is_unknown_gets_what_is_popular(shop):
    (user,) = _users(shop, 5)
    first, second, *_ = shop.ranker.recommend(users=[user])[0].items
    seen = shop.ranker.recommend([[first, "?" if isinstance(first, str) else -1]], users=[user], exclude_seen=True)[0]
    assert seen.items[0] == second and first not in seen.items and seen.num_unknown == 1
    stranger = shop.ranker.recommend([[first]], users=["nobody" if isinstance(user, str) else -1], k=3)[0]
    by_count = np.argsort(-shop.ranker.popularity, kind="stable")
    popular = [shop.ranker.ids[index] for index in by_count if shop.ranker.ids[index] != first]
    assert stranger.is_fallback and stranger.items == popular[:3]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"histories": [[]]}, "asked with users, and there are none"),
        ({"users": [None]}, "users holds None; the user ids of this scene are"),
        ({"users": "ann"}, "users is 'ann'; it is a list of user ids"),
        ({"users": []}, "0 users in one request"),
        ({"histories": [[], []], "users": [1]}, "2 histories for 1 users"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(shop, asked, words):
    with pytest.raises(RankerError, match=words):
        shop.ranker.recommend(**asked)


def test_a_ranker_of_histories_knows_no_users(tmp_path):
    write_student_rankers(tmp_path)
    with pytest.raises(RankerError, match="knows no users"):
        open_ranker(tmp_path / "student_onnx").recommend([[3]], users=["ann"])


def test_a_ranker_without_its_users_is_refused(shop, tmp_path):
    folder = shutil.copytree(shop.inputs.student / "rankers" / "student_onnx", tmp_path / "ranker")
    (folder / "users.arrow").unlink()
    with pytest.raises(ArtifactError, match=r"users\.arrow is missing"):
        open_ranker(folder)
    write_settings(folder, {"scene": "shop", "exclude_seen": True})
    with pytest.raises(ArtifactError, match=r"does not list users\.arrow"):
        open_ranker(folder)


def test_the_registered_model_and_the_terminal_answer_by_user(shop):
    server = shop.adapters.registry.server.mlflow()
    model = server.pyfunc.load_model("models:/ranker-shop/1")
    users = _users(shop, 0, 7)
    expected = [answer.items for answer in shop.ranker.recommend(users=users, k=4)]
    alone = model.predict(pd.DataFrame({"user": users}), params={"k": 4})
    assert [list(items) for items in alone["items"]] == expected
    with_history = model.predict(pd.DataFrame({"user": users, "history": [[], []]}), params={"k": 4})
    assert [list(items) for items in with_history["items"]] == expected
    with pytest.raises(mlflow.exceptions.MlflowException, match="user"):
        model.predict(pd.DataFrame({"history": [[], []]}))
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"holds 5\.5; the user ids of this scene are"):
        model.predict(pd.DataFrame({"user": [5.5]}))
    answer = recommend("shop", [], 4, None, [], [], str(users[1]), shop.adapters.registry)
    assert answer.recommendation.items == expected[1]
    with pytest.raises(ConfigError, match="there are none in the request"):
        recommend("shop", [], 4, None, [], [], None, shop.adapters.registry)


def test_a_champion_is_asked_with_its_own_users_or_with_histories(shop, tmp_path):
    """Itself; after users have moved and one has come; and a ranker of histories, whose item ids are others."""
    evaluate(shop.config, shop.inputs.dataset, shop.inputs.student, tmp_path / "itself", shop.adapters)
    itself = read_json(tmp_path / "itself" / "quality.json")
    assert itself["champion"]["change"]["value"] == 0.0
    assert itself["models"]["champion"] == itself["models"]["student"]
    ids = shop.ranker.ids[:NUM_ITEMS]
    table = {"item": ids, "title": list(map(str, ids)), "num_events": list(range(NUM_ITEMS))}
    pq.write_table(pa.table(table), tmp_path / "items.parquet")
    write_rankers(tmp_path, "student", student([0, 4, 6, 7, 8, 9]), tmp_path, "shop", exclude_seen=True)
    registry = SimpleNamespace(
        champion=shop.adapters.registry.champion, ranker_folder=lambda *_: tmp_path / "student_onnx"
    )
    adapters = replace(shop.adapters, registry=registry)
    evaluate(shop.config, shop.inputs.dataset, shop.inputs.student, tmp_path / "histories", adapters)
    histories = read_json(tmp_path / "histories" / "quality.json")
    assert 0 < histories["champion"]["num_missing_targets"] < NUM_USERS
    assert 0 < histories["models"]["champion"]["kept"]["hr@10"] < 1


def test_a_champion_knows_a_user_wherever_it_stands_and_misses_a_new_one(shop):
    dataset, sequences = shop.data.dataset, shop.data.sequences
    order = np.random.default_rng(0).permutation(NUM_USERS)
    known = _users(shop, *order[1:])
    past, targets = sequences.without_last(1), sequences.target(1)
    scorer = ExportedScorer(shop.ranker.model)
    model, _ = load_student(shop.inputs.student)
    moved = _Renumbered(scorer, order[1:])
    ranks, _ = rank_on_own_catalogue(moved, shop.ranker.ids, dataset, Questions(past, targets), known)
    whole = rank_users(ModelScorer(model), past, targets)
    assert ranks.removed[order[0]] == MISS
    np.testing.assert_array_equal(ranks.removed[order[1:]], whole.removed[order[1:]])


class _Renumbered:
    """Stands for a champion whose users have other numbers."""

    def __init__(self, scorer, numbers):
        self.scorer, self.numbers = scorer, numbers

    def score(self, sequences, users):
        return self.scorer.score(sequences, self.numbers[users])


class _Stopping(Progress):
    """Stands for whoever stops a training after its second epoch."""

    def say(self, kind, **values):
        super().say(kind, **values)
        if kind == "epoch" and values["epoch"] == 2:
            raise KeyboardInterrupt


def test_a_teaching_that_was_stopped_ends_where_it_would_have_ended(shop, tmp_path):
    stopped = replace(_adapters(tmp_path), progress=_Stopping(tmp_path, "teach"))
    with pytest.raises(KeyboardInterrupt):
        teach(shop.config, shop.inputs.dataset, tmp_path / "teacher", stopped)
    teach(shop.config, shop.inputs.dataset, tmp_path / "teacher", _adapters(tmp_path))
    assert '"resumed"' in (tmp_path / "progress.jsonl").read_text()
    whole, halves = (load_weights(folder) for folder in (shop.inputs.teacher, tmp_path / "teacher"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_another_schedule_of_the_factors_is_another_training_and_of_no_other_model():
    def content(overrides: str) -> str:
        return content_of("teach", load_scene(SCENE, overrides), "data")

    assert content("teach.factors.learning_rate=0.1") != content("")
    sasrec = "teach.model=sasrec search.space=cell"
    assert content(f"{sasrec} teach.factors.learning_rate=0.1") == content(sasrec)


def test_a_plan_predicts_more_for_a_wider_teacher(tmp_path):
    narrow, wide = (
        plan(load_scene(SCENE, f"teach.width={width}"), "", LocalStore(tmp_path)).predicted_seconds["teach"]
        for width in (8, 4096)
    )
    assert narrow < wide


def test_a_split_of_ones_own(tmp_path):
    """0 is training, 1 validation, 2 test."""
    rows = [f"{user},{item},{0 if place < 6 else place - 5}" for user in range(50) for place, item in _eight(user)]
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows[::-1]) + "\n")
    text = SCENE.replace("prepare: {order: none}\n", "")
    start, rest = text.split("data:", 1)
    config = load_scene(f"{start}data: {{source: file, path: {tmp_path}/events.csv}}\n{rest.split(chr(10), 1)[1]}")
    adapters = _adapters(tmp_path)
    prepare(config, "", tmp_path / "dataset", adapters)
    data = open_dataset(tmp_path / "dataset")
    names = data.dataset.item_ids.to_pylist()
    chosen = {
        int(user): int(names[item])
        for user, item in zip(data.dataset.user_ids.to_pylist(), data.sequences.target(1), strict=True)
    }
    assert chosen == {user: _eight(user)[7][1] for user in range(50)}
    teach(config, tmp_path / "dataset", tmp_path / "teacher", adapters)
    assert load_teacher(tmp_path / "teacher")[0].num_users == 50


def _eight(user):
    """Each with its place."""
    return list(enumerate((user + 3 * place) % 25 for place in range(8)))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("search.space=cell", "model bpr needs search.space fixed, which is cell"),
        ("teach.model=neumf search.space=transformer", "model neumf needs search.space fixed, which is transformer"),
        ("teach.model=neumf serve.variant=indexed", "indexed finds inner products, and neumf's scores are none"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_scene(SCENE, overrides)
    assert caught.value.code == "DR-CONF-005"


def test_there_is_nothing_to_profile(shop, tmp_path):
    with pytest.raises(ConfigError, match="has one student, and no part to profile"):
        profile(shop.config, shop.inputs.dataset, tmp_path / "table.json", shop.adapters)


def test_several_processes_are_refused(shop, tmp_path):
    several = replace(_adapters(tmp_path), processes=Processes(0, 2, lambda _: None))
    with pytest.raises(ConfigError, match="in one process, not by torchrun"):
        teach(shop.config, shop.inputs.dataset, tmp_path / "teacher", several)
    with pytest.raises(ConfigError, match="in one process, not by torchrun"):
        retrain(shop.config, *_retrained_from(shop), tmp_path / "student", several)


def test_a_scene_whose_models_took_users_is_not_given_one_that_takes_histories(shop, tmp_path):
    """Refused before it is trained, and nothing is written."""
    with pytest.raises(ArtifactError, match="ranker-shop in ") as refused:
        prepare(load_scene(SCENE, "teach.model=sasrec"), "", tmp_path / "dataset", shop.adapters)
    assert refused.value.code == "DR-REG-006"
    assert not (tmp_path / "dataset").exists()


def test_an_attempt_meets_the_champion_and_takes_the_decision_of_the_one_before(shop, tmp_path):
    """Of a run without a name, and of one with a name that evaluates again too."""
    again = promote(shop.config, shop.inputs, tmp_path / "unnamed", shop.adapters)
    assert again["verdict"] == shop.summary["verdict"]
    tracking = Tracking(shop.adapters.registry.server, shop.adapters.store, Origin("shop-run"))
    named, summaries = replace(shop.adapters, tracking=tracking), []
    for attempt in (tmp_path / "first", tmp_path / "second"):
        inputs = replace(shop.inputs, quality=attempt / "quality")
        evaluate(shop.config, inputs.dataset, inputs.student, inputs.quality, named)
        summaries.append(promote(shop.config, inputs, attempt / "outcome", named))
    first, second = summaries
    assert (first["verdict"]["version"], first["champion"]["version"]) == ("2", "1")
    assert (second["verdict"], second["champion"]) == (first["verdict"], first["champion"])
    versions = shop.adapters.registry.server.client().search_model_versions("name = 'ranker-shop'")
    assert [one.tags["verdict"] for one in versions] == ["promoted", "promoted"]


def test_what_was_not_made_from_one_another_is_neither_compared_nor_promoted(shop, tmp_path):
    config, inputs, adapters = shop.config, shop.inputs, shop.adapters

    def another(folder):
        """The same files as another run may have written them."""
        made = shutil.copytree(folder, tmp_path / folder.name, dirs_exist_ok=True)
        write_json(made / "manifest.json", {**read_json(made / "manifest.json"), "content": "another"})
        return made

    last, out = adapters.registry.log("shop").latest(), tmp_path / "out"
    refused = {
        "of prepare": lambda: evaluate(config, another(inputs.dataset), inputs.student, out, adapters),
        "of teach": lambda: benchmark(config, another(inputs.teacher), inputs.student, out, adapters),
        "of search": lambda: promote(config, replace(inputs, search=another(inputs.search)), out, adapters),
        "of retrain": lambda: promote(config, replace(inputs, student=another(inputs.student)), out, adapters),
        "was written by 'evaluate', not by 'benchmark'": lambda: promote(
            config, replace(inputs, latency=inputs.quality), out, adapters
        ),
    }
    for words, act in refused.items():
        with pytest.raises(ArtifactError, match=words):
            act()
    assert not out.exists() and adapters.registry.log("shop").latest() == last


def test_a_teacher_or_student_of_another_scene_is_refused(shop, tmp_path):
    """Another model, another kind of model, other users: one sentence, and nothing is written."""
    model, other = shop.config.teach.model, {"bpr": "neumf", "neumf": "bpr"}[shop.config.teach.model]
    more = load_scene(SCENE, f"teach.model={model} data.num_users={NUM_USERS + 1}")
    prepare(more, "", tmp_path / "more", shop.adapters)
    cases = [
        (
            load_scene(SCENE, f"teach.model={other}"),
            shop.inputs.dataset,
            f"holds a teacher {model}, the scene's is {other}",
        ),
        (
            load_scene(SCENE, "teach.model=sasrec"),
            shop.inputs.dataset,
            f"holds a teacher {model}, the scene's is sasrec",
        ),
        (more, tmp_path / "more", "made from another output of prepare"),
    ]
    for config, dataset, words in cases:
        with pytest.raises(ArtifactError, match=words):
            search(config, dataset, shop.inputs.teacher, tmp_path / "search", shop.adapters)
        with pytest.raises(ArtifactError, match=words):
            retrain(config, dataset, shop.inputs.teacher, shop.inputs.genotype, tmp_path / "student", shop.adapters)
    assert not (tmp_path / "search").exists() and not (tmp_path / "student").exists()


def test_targets_that_never_occur_in_training_are_counted(tmp_path):
    sparse = load_scene(SCENE, "data.num_items=400 prepare.min_item_events=1")
    prepare(sparse, "", tmp_path / "dataset", _adapters(tmp_path))
    sequences = open_dataset(tmp_path / "dataset").sequences
    known = set(Pairs.of(sequences.without_last(2)).items_P.tolist())
    num_cold = sum(target not in known for target in sequences.target(1).tolist())
    asked = read_json(tmp_path / "dataset" / "manifest.json")["asked"]["test"]
    assert 0 < asked["num_unseen_targets"] == num_cold < NUM_USERS


def test_a_user_who_has_everything_is_in_no_batch_and_a_scene_of_them_is_refused(tmp_path):
    few = "prepare.order=time data.num_items=5 data.predictability=0.1 prepare.min_items=5 data.events_per_user"
    some, none = (load_scene(SCENE, f"{few}={count}") for count in (9, 200))
    adapters = _adapters(tmp_path)
    for name, config in (("some", some), ("none", none)):
        prepare(config, "", tmp_path / name, adapters)
    teach(some, tmp_path / "some", tmp_path / "teacher", adapters)
    pairs = Pairs.of(open_dataset(tmp_path / "some").sequences.without_last(2))
    assert 0 < len(set(pairs.users_P.tolist())) < NUM_USERS
    with pytest.raises(DataError, match="every user has all 5 items in training"):
        teach(none, tmp_path / "none", tmp_path / "none-teacher", adapters)


def _retrained_from(shop):
    return shop.inputs.dataset, shop.inputs.teacher, shop.inputs.genotype
