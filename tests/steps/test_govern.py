"""Promotions by hand, against a real registry in a file."""

from dataclasses import replace

import pytest
from mlflow.exceptions import MlflowException

from distilrec import entry
from distilrec.core.errors import ArtifactError, RunError
from distilrec.io.mlflow_server import MlflowServer
from distilrec.io.progress import Progress
from distilrec.io.promotions import entry_after
from distilrec.io.registry import Registry
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore
from distilrec.io.tracking import Origin, StepRecord, Tracking
from distilrec.steps.adapters import Adapters
from distilrec.steps.govern import approve, history, retire, rollback
from distilrec.steps.prepare import prepare

SCENE, MODEL = "shop", "ranker-shop"
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow, pandas and pydantic warn of one another


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def registry(database, tmp_path):
    """Versions 1, 2 and 3, each promoted over the one before; 4 was held."""
    registry = Registry(MlflowServer(database, None), LocalStore(tmp_path / "store"))
    client, log = registry.server.client(), registry.log(SCENE)
    client.create_registered_model(MODEL)
    for version in "1234":
        tags = {"content": f"content-{version}", "as_of": "2026-01-01"}
        client.create_model_version(MODEL, f"file://{tmp_path}/{version}", tags=tags)
        before = log.latest()
        rollback, champion = before.champion if before else "", version
        verdict = "promoted"
        if version == "4":
            rollback, champion, verdict = "2", "3", "held"
        decided = (champion, "2026-01-01", f"content-{champion}", rollback)
        assert log.append(entry_after(before, SCENE, version, verdict, ("because",), *decided))
    registry.project(SCENE)
    yield registry
    client.delete_registered_model(MODEL)


def _shown(registry):
    client = registry.server.client()
    aliases = client.get_registered_model(MODEL).aliases
    verdicts = {str(one.version): one.tags.get("verdict") for one in client.search_model_versions(f"name = '{MODEL}'")}
    return {name: str(version) for name, version in aliases.items()}, verdicts


def test_mlflow_shows_what_the_log_says_of_each_version(registry):
    assert _shown(registry) == (
        {"champion": "3", "rollback": "2", "challenger": "4"},
        {"1": "promoted", "2": "promoted", "3": "promoted", "4": "held"},
    )
    back = rollback(SCENE, "clicks fell", registry)
    assert (back.version, back.champion, back.champion_content) == ("3", "2", "content-2")
    approve(SCENE, "1", "to see", registry)
    assert _shown(registry) == (
        {"champion": "1", "rollback": "2", "challenger": "4"},
        {"1": "approved", "2": "promoted", "3": "rolled back", "4": "held"},
    )


def test_rollbacks_walk_back_through_who_was_in_charge_and_end(registry):
    approve(SCENE, "1", "to see", registry)
    walked = [rollback(SCENE, "clicks fell", registry) for _ in range(3)]
    assert [(one.champion, one.rollback) for one in walked] == [("3", "2"), ("2", "1"), ("1", "")]
    with pytest.raises(RunError, match="no version to roll back to"):
        rollback(SCENE, "clicks fell", registry)


def test_after_a_retirement_nobody_is_in_charge_and_nothing_is_left_to_roll_back_to(registry):
    """Also of a champion that MLflow has lost."""
    registry.server.client().delete_model_version(MODEL, "3")
    assert retire(SCENE, "its disk is gone", registry).champion == ""
    assert registry.champion(SCENE) is None
    aliases, verdicts = _shown(registry)
    assert aliases == {"challenger": "4"} and verdicts == {"1": "promoted", "2": "promoted", "4": "held"}
    with pytest.raises(RunError, match="no version in charge"):
        retire(SCENE, "again", registry)
    with pytest.raises(RunError, match="no version to roll back to"):
        rollback(SCENE, "clicks fell", registry)
    assert approve(SCENE, "1", "to begin again", registry).rollback == ""


def test_a_lost_champion_is_refused_before_anything_is_trained(registry, tmp_path):
    config = load_scene(f"scene: {SCENE}\ndata: {{source: synthetic, num_users: 60}}\n")
    tracking = Tracking(registry.server, registry.store, Origin(""))
    adapters = Adapters(registry.store, Progress(None, "prepare"), registry, tracking, 0.0)
    prepare(config, "", tmp_path / "with", adapters)
    registry.server.client().delete_model_version(MODEL, "3")
    with pytest.raises(ArtifactError, match="ranker-shop has no version 3") as refused:
        prepare(config, "", tmp_path / "without", adapters)
    assert refused.value.code == "DR-REG-001"
    elsewhere = Registry(MlflowServer(f"sqlite:///{tmp_path}/new.db", None), registry.store)
    with pytest.raises(ArtifactError, match="ranker-shop has no version 3"):
        prepare(config, "", tmp_path / "without", replace(adapters, registry=elsewhere))


def test_what_is_approved_has_the_registrys_name_and_is_not_in_charge_yet(registry):
    assert approve(SCENE, "04", "to see", registry).champion == "4"
    with pytest.raises(RunError, match="version 4 is in charge of scene shop already"):
        approve(SCENE, "4", "to see", registry)


@pytest.mark.parametrize("what", ["away", "deleted", "another"])
def test_a_rollback_that_is_refused_changes_nothing(registry, monkeypatch, what):
    before, client, asked = history(SCENE, registry), registry.server.client(), registry
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if what == "away":
        asked = Registry(MlflowServer("http://127.0.0.1:9", None), registry.store)
    elif what == "deleted":
        client.delete_model_version(MODEL, "2")
    else:
        client.set_model_version_tag(MODEL, "2", "content", "content-of-another")
    with pytest.raises(ArtifactError) as refused:
        rollback(SCENE, "clicks fell", asked)
    assert refused.value.code == ("DR-REG-005" if what == "away" else "DR-REG-001")
    assert history(SCENE, registry) == before


def test_what_mlflow_could_not_be_told_stands_and_is_told_later(registry, monkeypatch):
    real = registry.server.client()

    class Dying(type(real)):
        def set_registered_model_alias(self, *_):
            raise MlflowException("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(registry.server, "client", Dying)
        with pytest.raises(ArtifactError, match=r"entry 5 of .* is committed.*server is away") as late:
            rollback(SCENE, "clicks fell", registry)
    assert late.value.code == "DR-REG-007"
    assert history(SCENE, registry)[-1].champion == "2" and _shown(registry)[0]["champion"] == "3"
    kept = StepRecord(Origin("shop-run"), SCENE, "teach", 1.0, {}, {}, {}, [])
    Tracking(registry.server, registry.store, kept.origin).keep(kept)
    monkeypatch.setenv("DISTILREC_STORE", str(registry.store.root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.server.tracking_uri)
    entry.track("shop-run")
    assert _shown(registry) == (
        {"champion": "2", "rollback": "1", "challenger": "4"},
        {"1": "promoted", "2": "promoted", "3": "rolled back", "4": "held"},
    )
