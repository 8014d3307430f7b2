"""BPR and NeuMF through the eight steps, on a scene without order, and what answers in the end."""

from dataclasses import replace
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from distilrec.core.cost import count_params
from distilrec.core.errors import ConfigError
from distilrec.io.jsons import read_json
from distilrec.io.mlflow_server import MlflowServer
from distilrec.io.models import load_student, load_teacher, load_weights
from distilrec.io.progress import Progress
from distilrec.io.rankers import open_ranker
from distilrec.io.registry import Registry
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.io.tracking import Origin, Tracking
from distilrec.serving.distilrec_ranker import RankerError
from distilrec.steps.adapters import Adapters
from distilrec.steps.benchmark import benchmark
from distilrec.steps.derive import derive
from distilrec.steps.evaluate import evaluate
from distilrec.steps.inputs import open_dataset
from distilrec.steps.prepare import prepare
from distilrec.steps.promote import Inputs, promote
from distilrec.steps.recommend import recommend
from distilrec.steps.retrain import retrain
from distilrec.steps.search import search
from distilrec.steps.teach import teach
from tests.conftest import write_student_rankers

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
gate: {{min_student_over_teacher: 0, min_student_over_teacher_low: 0, min_speedup_low: 0, above_markov: false}}
"""


def _adapters(folder) -> Adapters:
    store, server = LocalStore(folder / "store"), MlflowServer(f"sqlite:///{folder}/mlflow.db", folder / "mlartifacts")
    return Adapters(store, Progress(folder, "shop"), Registry(server, store), Tracking(server, store, Origin("")), 0.0)


@pytest.fixture(scope="module", params=["bpr", "neumf"])
def shop(request, tmp_path_factory):
    """Every step's folder, its registry, the summary."""
    folder = tmp_path_factory.mktemp(request.param)
    config, adapters = load_scene(SCENE, f"teach.model={request.param}"), _adapters(folder)
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
        ranker=open_ranker(inputs.student / "rankers" / "student_onnx"),
    )


def _users(shop, *numbers):
    return [shop.data.dataset.user_ids[number].as_py() for number in numbers]


def test_the_report_says_what_it_is_and_the_teacher_has_learnt(shop):
    summary = shop.summary
    assert summary["verdict"]["promote"] and summary["genotype"]["space"] == shop.config.teach.model
    assert summary["models"]["teacher"]["kept"]["ndcg@10"] > summary["models"]["popularity"]["kept"]["ndcg@10"]
    assert read_json(shop.inputs.student / "history.json")[0]["losses"]["terms"] > 0
    section = (shop.folder / "outcome" / "section.html").read_text()
    assert "not searched" in section and "How the search decided" not in section


def test_what_only_training_needs_is_in_no_saved_student(shop):
    """By hand: users and items, of NeuMF two vectors each, a hidden layer and an output."""
    pairs = NUM_USERS + shop.data.sequences.num_items
    layers = (2 * PHI * PHI + PHI) + (2 * PHI + 1)
    expected = {"bpr": pairs * PHI, "neumf": 2 * pairs * PHI + layers}[shop.config.teach.model]
    student, _ = load_student(shop.inputs.student)
    saved = load_weights(shop.inputs.student)
    assert sum(tensor.numel() for tensor in saved.values()) == expected == count_params(student)
    cost = read_json(shop.inputs.genotype / "cost.json")
    assert cost["predicted"]["params"] == cost["measured"]["encoder_params"]
    assert load_teacher(shop.inputs.teacher)[0].width == WIDTH


def test_it_answers_by_user_as_the_model_does(shop):
    student, _ = load_student(shop.inputs.student)
    with torch.inference_mode():
        expected = student.score(student.states(torch.tensor([3, 41]))).numpy()
    answers = shop.ranker.recommend(users=_users(shop, 3, 41), k=20, exclude_seen=False)
    for scores, answer in zip(expected, answers, strict=True):
        assert answer.items == [shop.ranker.ids[index] for index in np.argsort(-scores, kind="stable")]
        np.testing.assert_allclose(answer.scores, np.sort(scores)[::-1], atol=1e-5)
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
    answer = recommend("shop", [], 4, None, [], [], str(users[1]), shop.adapters.registry)
    assert answer.recommendation.items == expected[1]
    with pytest.raises(ConfigError, match="there are none in the request"):
        recommend("shop", [], 4, None, [], [], None, shop.adapters.registry)


def test_a_champion_is_asked_by_its_own_users_or_by_histories(shop, tmp_path):
    """Itself, after users have moved and one has gone; and a ranker of histories."""
    again = evaluate(shop.config, shop.inputs.dataset, shop.inputs.student, tmp_path / "itself", shop.adapters)
    assert again["step"] == "evaluate"
    itself = read_json(tmp_path / "itself" / "quality.json")
    assert itself["champion"]["change"]["value"] == 0.0
    assert itself["models"]["champion"] == itself["models"]["student"]
    other = load_scene(SCENE, f"teach.model={shop.config.teach.model} data.num_users=59 data.seed=1")
    prepare(other, "", tmp_path / "dataset", shop.adapters)
    registry = SimpleNamespace(
        champion=shop.adapters.registry.champion, ranker_folder=lambda _: tmp_path / "student_onnx"
    )
    write_student_rankers(tmp_path)
    adapters = replace(shop.adapters, registry=registry)
    evaluate(shop.config, shop.inputs.dataset, shop.inputs.student, tmp_path / "histories", adapters)
    histories = read_json(tmp_path / "histories" / "quality.json")
    assert histories["champion"]["num_missing_targets"] > 0
