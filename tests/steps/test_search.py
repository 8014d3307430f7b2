"""The steps of the method on a small scene: every option that changes what is searched, and what is refused."""

import json
from dataclasses import replace

import pytest

from distilrec.core.cost import count_params
from distilrec.core.errors import ArtifactError, ConfigError
from distilrec.core.genotype import Genotype
from distilrec.core.latency import LatencyTable, Prices
from distilrec.core.operations import OPERATIONS
from distilrec.core.parallel import Processes
from distilrec.core.spaces import space_of
from distilrec.io.jsons import read_json
from distilrec.io.mlflow_server import MlflowServer
from distilrec.io.models import load_student, load_teacher, load_weights
from distilrec.io.progress import Progress
from distilrec.io.registry import Registry
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.runner import open_run
from distilrec.steps.adapters import Adapters
from distilrec.steps.derive import derive
from distilrec.steps.latency_table import latency_table, place_of
from distilrec.steps.prepare import prepare
from distilrec.steps.profile import profile
from distilrec.steps.promote import _warnings
from distilrec.steps.retrain import retrain
from distilrec.steps.search import search
from distilrec.steps.spaces import _rounded_up
from distilrec.steps.teach import teach
from tests.conftest import UNTRACKED

SCENE = """
scene: shop
data: {source: synthetic, num_users: 60, num_items: 20, events_per_user: 12}
max_length: 10
threads: 1
teach: {model: bert4rec, width: 8, num_blocks: 2, max_epochs: 1, masked: {max_epochs: 1}}
search: {width: 8, num_cells: 2, epochs: 2, architecture_after: 0}
retrain: {max_epochs: 1}
benchmark: {repeats: 100, warmup: 1}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a dataset, a BERT4Rec teacher and a latency table that was not measured but made up."""
    folder = tmp_path_factory.mktemp("shop")
    config = load_scene(SCENE)
    prepare(config, "", folder / "dataset", _adapters(folder))
    teach(config, folder / "dataset", folder / "teacher", _adapters(folder))
    num_items = read_json(folder / "dataset" / "manifest.json")["counts"]["num_items"]
    each = {name: 0.01 * index for index, name in enumerate(reversed(OPERATIONS))}
    table = LatencyTable(place_of(config, num_items), 0.1, 0.05, each, 0.0)
    (folder / "table.json").write_text(json.dumps(table.to_json()))
    return folder


def _adapters(folder) -> Adapters:
    store, server = LocalStore(folder / "store"), MlflowServer(f"sqlite:///{folder}/mlflow.db", None)
    return Adapters(store, Progress(folder, "search"), Registry(server, store), UNTRACKED, 0.0)


def _searched(shop, out, overrides):
    config = load_scene(SCENE, overrides)
    inputs = (shop / "dataset", shop / "teacher")
    search(config, *inputs, out / "search", _adapters(shop))
    derive(config, out / "search", out / "genotype", _adapters(shop))
    retrain(config, *inputs, out / "genotype", out / "student", _adapters(shop))
    return read_json(out / "genotype" / "cost.json"), load_student(out / "student")[0]


def test_bert4rec_is_taught_in_two_stages(shop):
    model, manifest = load_teacher(shop / "teacher")
    assert type(model).__name__ == "BERT4Rec"
    masked, tuned = (read_json(shop / "teacher" / name) for name in ("masked.json", "history.json"))
    assert len(masked) == len(tuned) == 1
    assert manifest["trained_seconds"] == pytest.approx(masked[0]["seconds"] + tuned[0]["seconds"], abs=0.01)


def test_depth_and_cells_of_their_own_within_every_budget_retrained_with_terms(shop, tmp_path):
    table = read_json(shop / "table.json")
    p50_ms = table["rest_ms"] + 2 * table["cell_ms"] + 4 * max(table["operation_ms"].values())
    limits = f"search.budget.encoder_macs=8000 search.budget.encoder_params=900 search.budget.p50_ms={p50_ms}"
    options = "search.cells=per-depth search.depth=searched search.cost_measures=[macs,p50_ms] retrain.start=scratch"
    mapping = "search.distillation.layers=left-jump retrain.distillation.layer_weights=uniform"
    table_path = f"search.latency_table={shop / 'table.json'}"
    terms = "retrain.terms.de.num_experts=2 retrain.terms.rrd.interesting=top retrain.term_positions=40"
    cost, student = _searched(shop, tmp_path, f"{table_path} {limits} {options} {mapping} {terms}")
    assert read_json(tmp_path / "student" / "history.json")[0]["losses"]["terms"] > 0
    saved = load_weights(tmp_path / "student")
    assert sum(one.numel() for one in saved.values()) == count_params(student), "neither experts nor selectors"
    assert cost["limits"] == {"macs": 8000, "params": 900, "p50_ms": pytest.approx(p50_ms)}
    for measure, limit in cost["limits"].items():
        assert cost["predicted"][measure] <= limit
    assert cost["measured"]["encoder_macs"] <= cost["predicted"]["macs"]
    assert 1 <= student.num_layers <= 2


def test_as_released_goes_through_every_step(shop, tmp_path):
    _, student = _searched(shop, tmp_path, "search.space=adarec-as-released retrain.max_epochs=2")
    assert type(student).__name__ == "ReleasedStudent"
    history = read_json(tmp_path / "student" / "history.json")
    assert history[0]["losses"]["soft"] == 0.0, "cross-entropy alone"


def test_a_fixed_student_is_found_without_a_step(shop, tmp_path):
    config = load_scene(SCENE, "search.space=fixed search.operation=conv5")
    search(config, shop / "dataset", shop / "teacher", tmp_path / "search", _adapters(shop))
    derive(config, tmp_path / "search", tmp_path / "genotype", _adapters(shop))
    (record,) = read_json(tmp_path / "search" / "history.json")
    assert record["losses"]["total"] == 0.0 and sum(map(sum, record["entropy"].values())) == pytest.approx(0.0)
    chain = {(0, 1): "conv5", (1, 2): "conv5", (2, 3): "conv5"}
    assert Genotype.from_json(read_json(tmp_path / "genotype" / "genotype.json")).cells == (chain, chain)
    cost = read_json(tmp_path / "genotype" / "cost.json")
    measured = {"macs": cost["measured"]["encoder_macs"], "params": cost["measured"]["encoder_params"]}
    assert cost["predicted"] == pytest.approx(measured)


def test_what_is_fixed_has_no_budget():
    with pytest.raises(ConfigError, match="budget cannot be chosen with space fixed"):
        load_scene(SCENE, "search.space=fixed search.budget.encoder_macs=8000")


TRANSFORMERS = "search.space=transformer search.transformer.num_layers=2 search.transformer.divisors=[1,2]"


def _priced(shop, folder, overrides) -> str:
    """The setting that names a made-up table for these transformers."""
    config = load_scene(SCENE, overrides)
    num_items = read_json(shop / "dataset" / "manifest.json")["counts"]["num_items"]
    parts = {name: 0.01 * index for index, name in enumerate(space_of(config.search, 10).parts)}
    energy = Prices(1.0, 0.1, parts)
    table = LatencyTable(place_of(config, num_items), 0.1, 0.05, parts, 0.0, energy)
    (folder / "priced.json").write_text(json.dumps(table.to_json()))
    return f"search.latency_table={folder / 'priced.json'}"


def test_transformers_go_through_every_step(shop, tmp_path):
    cost, student = _searched(shop, tmp_path, TRANSFORMERS)
    assert type(student).__name__ == "TransformerStudent"
    assert cost["measured"]["encoder_macs"] == cost["predicted"]["macs"]
    assert "data-aware gates" in (tmp_path / "genotype" / "genotype.svg").read_text()
    assert read_json(tmp_path / "student" / "genotype.json")["space"] == "transformer"
    assert read_json(tmp_path / "student" / "export.json")["student"]["largest_difference"] < 1e-4


def test_transformers_of_widths_of_their_own_within_every_budget(shop, tmp_path):
    options = f"{TRANSFORMERS} search.transformer.widths=per-layer search.transformer.relaxation=softmax"
    limits = "search.budget.encoder_macs=12000 search.budget.p50_ms=0.4 search.budget.joules=2"
    chosen = f"{options} {_priced(shop, tmp_path, options)} {limits}"
    config = load_scene(SCENE, f"{chosen} search.cost_measures=[params,joules]")
    search(config, shop / "dataset", shop / "teacher", tmp_path / "search", _adapters(shop))
    derive(config, tmp_path / "search", tmp_path / "genotype", _adapters(shop))
    cost = read_json(tmp_path / "genotype" / "cost.json")
    assert set(cost["limits"]) == {"macs", "p50_ms", "joules"}
    for measure, limit in cost["limits"].items():
        assert cost["predicted"][measure] <= limit


def test_a_table_without_energy_cannot_price_it(shop, tmp_path):
    config = load_scene(SCENE, f"search.latency_table={shop / 'table.json'} search.budget.joules=2")
    with pytest.raises(ConfigError, match="lacks \\['joules'\\]"):
        search(config, shop / "dataset", shop / "teacher", tmp_path / "search", _adapters(shop))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("search.space=transformer search.width=10", "width 10 over 2 is not a multiple of the head width 2"),
        ("search.space=transformer search.transformer.head_width=4", "width 8 over 4 is not a multiple"),
        (
            "search.space=transformer search.transformer.relaxation=softmax "
            "search.architecture_gradient=score-function",
            "needs transformer.relaxation gumbel",
        ),
        (
            "search.space=transformer search.transformer.widths=per-layer search.transformer.num_layers=9",
            "9 of 3 widths each are more than 5000",
        ),
        ("search.budget.joules=3", "joules is asked for and there is no latency_table"),
    ],
)
def test_settings_of_transformers_that_contradict_each_other_are_refused(overrides, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_scene(SCENE, overrides)
    assert caught.value.code == "DR-CONF-005"


def test_an_impossible_budget_is_refused_with_the_smallest_value(shop, tmp_path):
    with pytest.raises(ConfigError, match=r"encoder_params = 10; the smallest possible is 38") as caught:
        _searched(shop, tmp_path, "search.budget.encoder_params=10")
    assert caught.value.code == "DR-CONF-006"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("macs", [5760.4, 1234563.0])
def test_the_smallest_budget_that_is_named_will_do(macs):
    assert float(_rounded_up(macs)) >= macs
    assert _rounded_up(19660800.0) == "19660800"


def test_a_search_that_would_decide_nothing_is_refused(shop, tmp_path):
    with pytest.raises(
        ConfigError, match=r"architecture_every 999 .* leave no architecture step in 2 epochs"
    ) as caught:
        _searched(shop, tmp_path, "search.architecture_every=999")
    assert caught.value.code == "DR-CONF-005"


def test_a_search_of_another_space_is_not_derived(shop, tmp_path):
    search(load_scene(SCENE), shop / "dataset", shop / "teacher", tmp_path / "search", _adapters(shop))
    other = load_scene(SCENE, "search.num_cells=3")
    with pytest.raises(ArtifactError, match=r"'max_depth': 2.*'max_depth': 3"):
        derive(other, tmp_path / "search", tmp_path / "genotype", _adapters(shop))


def test_as_released_is_for_one_process(shop, tmp_path):
    several = replace(_adapters(shop), processes=Processes(0, 2, lambda _: None))
    with pytest.raises(ConfigError, match="not for torchrun"):
        search(
            load_scene(SCENE, "search.space=adarec-as-released"),
            *(shop / "dataset", shop / "teacher"),
            tmp_path / "search",
            several,
        )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [("search.width=16", "width 8, not 16"), ("benchmark.threads=2 max_length=9", "threads 1, not 2; max_length 10")],
)
def test_a_latency_table_of_another_student_is_refused(shop, tmp_path, overrides, words):
    with pytest.raises(ConfigError, match=words) as caught:
        _searched(shop, tmp_path, f"search.latency_table={shop / 'table.json'} {overrides}")
    assert caught.value.code == "DR-CONF-007"


def test_a_latency_table_of_another_machine_is_refused(shop, tmp_path):
    table = read_json(shop / "table.json")
    table["place"]["device"] = "another processor"
    (tmp_path / "table.json").write_text(json.dumps(table))
    config = load_scene(SCENE, f"search.latency_table={tmp_path / 'table.json'}")
    with pytest.raises(ConfigError, match="device 'another processor', not"):
        search(config, shop / "dataset", shop / "teacher", tmp_path / "search", _adapters(shop))


def test_profile_measures_a_table_that_the_search_takes(shop, tmp_path, monkeypatch):
    monkeypatch.setattr("distilrec.steps.profile.NUM_RANDOM", 2)  # fewer students to export
    monkeypatch.setattr("distilrec.steps.profile.NUM_CHECKED", 1)
    small = "search.num_cells=1 search.num_nodes=1"
    measured = profile(load_scene(SCENE, small), shop / "dataset", tmp_path / "table.json", _adapters(tmp_path))
    taken = latency_table(load_scene(SCENE, f"{small} search.latency_table={tmp_path / 'table.json'}"), 20)
    assert taken == measured
    assert set(measured.operation_ms) == set(OPERATIONS) and min(measured.operation_ms.values()) >= 0
    assert measured.rest_ms + measured.cell_ms + max(measured.operation_ms.values()) > 0
    assert "exporting" in (tmp_path / "progress.jsonl").read_text()


def test_profile_measures_transformers_too(shop, tmp_path, monkeypatch):
    monkeypatch.setattr("distilrec.steps.profile.NUM_RANDOM", 1)
    monkeypatch.setattr("distilrec.steps.profile.NUM_CHECKED", 1)
    monkeypatch.setattr("distilrec.steps.profile.joules_per_1000", lambda _: (2.5, "counted"))
    small = "search.space=transformer search.transformer.num_layers=1 search.transformer.divisors=[1,2]"
    measured = profile(load_scene(SCENE, small), shop / "dataset", tmp_path / "table.json", _adapters(tmp_path))
    assert latency_table(load_scene(SCENE, f"{small} search.latency_table={tmp_path / 'table.json'}"), 20) == measured
    assert set(measured.operation_ms) == {"stream 4", "stream 8", "layer 4", "layer 8"}
    assert measured.energy.rest + measured.energy.layer + measured.energy.part["layer 4"] <= 2.6
    with pytest.raises(ConfigError, match=r"kind 'transformer.*not 'cell'"):
        latency_table(load_scene(SCENE, f"search.latency_table={tmp_path / 'table.json'}"), 20)


def test_the_report_warns_of_what_is_slower_than_asked_and_of_the_release():
    asked = load_scene(SCENE, "search.latency_table=table.json search.budget.p50_ms=2.0")
    assert _warnings(asked, _latency(p50_ms=2.2), 0.5) == []
    (warning,) = _warnings(asked, _latency(p50_ms=2.5), 0.5)
    assert "2.000 ms" in warning and "2.500 ms" in warning
    (warning,) = _warnings(load_scene(SCENE, "search.space=adarec-as-released"), _latency(), 0.5)
    assert "do not serve it" in warning


def test_the_report_warns_of_a_search_that_decided_nothing_and_of_a_student_without_operations():
    (warning,) = _warnings(load_scene(SCENE), _latency(), 0.96)
    assert "hardly decided" in warning and "0.96" in warning
    assert _warnings(load_scene(SCENE, "search.space=fixed"), _latency(), 1.0) == []
    (warning,) = _warnings(load_scene(SCENE), _latency(macs=0), 0.5)
    assert "newest item alone" in warning
    of_users = load_scene(SCENE, "teach.model=bpr prepare.order=none search.space=fixed retrain.start=scratch")
    assert _warnings(of_users, _latency(macs=0), 0.0) == []


def _latency(p50_ms=2.5, macs=1):
    return {"latency": {"student_onnx": {"p50_ms": p50_ms}}, "cost": {"student": {"encoder_macs": macs}}}


def test_another_latency_table_is_another_run(tmp_path):
    (tmp_path / "table.json").write_text("{}")
    config = load_scene(SCENE, f"search.latency_table={tmp_path / 'table.json'}")
    first = open_run([config], "", tmp_path / "runs", None).folder
    (tmp_path / "table.json").write_text("[]")
    assert open_run([config], "", tmp_path / "runs", None).folder != first
