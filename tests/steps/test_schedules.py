"""Schedules against a small Kubeflow of our own (tests/kfpserver.py): what is planned, what is done, what is refused,
and that every interruption is taken up."""

import re
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distilrec import cli
from distilrec.core.errors import ConfigError, KubeflowError
from distilrec.core.schedules import DAY_OF_RUN, Actual, Found, Wanted, changes, checked_cron
from distilrec.io.kubeflow import Kubeflow
from distilrec.io.schedules import load_schedules
from distilrec.steps import schedules as steps
from tests.conftest import ROOT
from tests.kfpserver import kfp_server

DIGEST = "registry.example/steps@sha256:" + "0123456789abcdef" * 4
PIPELINE = """
pipelineInfo: {name: retrain-scene}
deploymentSpec: {executors: {exec-prepare: {container: {image: %s}}, exec-import: {importer: {}}}}
root:
  inputDefinitions:
    parameters:
      scene: {parameterType: STRING}
      as_of: {parameterType: STRING, isOptional: true, defaultValue: ""}
      overrides: {parameterType: STRING, isOptional: true, defaultValue: ""}
      require_promotion: {parameterType: BOOLEAN, isOptional: true, defaultValue: false}
---
platforms: {}
"""
SCENE = "scene: {name}\ndata: {{source: synthetic}}\n"


@pytest.fixture
def kfp(monkeypatch):
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "KFP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with kfp_server() as server:
        yield server


def write_pipeline(folder, image=DIGEST):
    (folder / "pipeline.yaml").write_text(PIPELINE % image)


def write(folder, cron="0 30 2 * * *", scenes=("shop", "music"), **keys):
    for name in ("shop", "music"):
        (folder / f"{name}.yaml").write_text(SCENE.format(name=name))
    rows = [{"scene": f"{name}.yaml", "cron": cron if name == "shop" else "0 0 4 * * sun"} for name in scenes]
    file = folder / "schedules.yaml"
    file.write_text(yaml.safe_dump({"pipeline": "pipeline.yaml", "schedules": rows, **keys}))
    return file


@pytest.fixture
def file(tmp_path):
    write_pipeline(tmp_path)
    return write(tmp_path)


def planned(file, kfp):
    return steps.plan(file, lambda namespace: Kubeflow(kfp.address, kfp.token, namespace))


def applied(file, kfp):
    plan, kubeflow = planned(file, kfp)
    return plan.lines(), list(steps.apply(plan, kubeflow))


def only(runs):
    (run,) = runs
    return run


def test_from_nothing(file, kfp):
    """With the pipeline that comes along."""
    text = (ROOT / "pipelines" / "retrain_scene" / "pipeline.yaml").read_text(encoding="utf-8")
    (file.parent / "pipeline.yaml").write_text(re.sub(r"image: \S+", f"image: {DIGEST}", text), encoding="utf-8")
    lines, said = applied(file, kfp)
    assert [re.sub(r"-[0-9a-f]{12}$", "", line) for line in lines] == [
        "+ pipeline retrain-scene",
        "+ experiment distilrec",
        "+ version 0.1.0",
        '+ shop: create, "0 30 2 * * *"',
        '+ music: create, "0 0 4 * * sun"',
    ]
    assert [re.sub(r" [0-9a-f-]{36}", "", line) for line in said[3:5]] == ["shop: created, disabled", "shop: enabled"]
    assert kfp.uploads == [(file.parent / "pipeline.yaml").read_bytes()]
    run = only(kfp.enabled("shop"))
    parameters = run["runtime_config"]["parameters"]
    assert parameters == {"scene": SCENE.format(name="shop"), "as_of": DAY_OF_RUN}
    assert run["trigger"] == {"cron_schedule": {"cron": "0 30 2 * * *"}}
    assert (run["no_catchup"], run["max_concurrency"], run["service_account"]) == (True, "1", "distilrec-runner")


def test_applying_twice_changes_nothing(file, kfp):
    applied(file, kfp)
    before, done = kfp.snapshot(), kfp.changes()
    assert applied(file, kfp) == (["= shop: unchanged", "= music: unchanged"], [])
    assert (kfp.snapshot(), kfp.changes()) == (before, done)


def test_planning_changes_nothing(file, kfp):
    planned(file, kfp)
    assert kfp.changes() == []


def test_what_differs_is_said_and_replaced(file, kfp):
    applied(file, kfp)
    old = only(kfp.enabled("shop"))
    write(file.parent, cron="0 0 3 * * *")
    (file.parent / "shop.yaml").write_text(SCENE.format(name="shop") + "seed: 1\n")
    plan, _ = planned(file, kfp)
    assert plan.lines() == [
        '~ shop: replace; cron "0 30 2 * * *" becomes "0 0 3 * * *"; the scene\'s settings',
        "= music: unchanged",
    ]
    applied(file, kfp)
    assert len(kfp.uploads) == 1
    assert kfp.runs[old["recurring_run_id"]]["status"] == "DISABLED"
    assert only(kfp.enabled("shop"))["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"


def test_other_bytes_are_another_version(file, kfp):
    applied(file, kfp)
    write_pipeline(file.parent, image=DIGEST.replace("0123", "4567"))
    lines, _ = applied(file, kfp)
    assert re.fullmatch(r"\+ version 0\.1\.0-[0-9a-f]{12}", lines[0])
    assert lines[1:] == [f"~ {scene}: replace; another version of the pipeline" for scene in ("shop", "music")]
    assert len(kfp.uploads) == len(kfp.versions) == 2


def test_the_same_bytes_from_another_distilrec_are_no_new_version(file, kfp, monkeypatch):
    applied(file, kfp)
    monkeypatch.setattr(steps, "__version__", "0.2.0")
    assert applied(file, kfp)[1] == []


def test_disabled_removed_and_enabled_again(file, kfp):
    applied(file, kfp)
    write(file.parent, scenes=["shop"])
    assert applied(file, kfp)[0] == ["= shop: unchanged", "~ music: disable, which has no schedule any more"]
    paused = [{"scene": "shop.yaml", "cron": "0 30 2 * * *", "enabled": False}]
    write(file.parent, schedules=paused)
    assert applied(file, kfp)[0] == ["~ shop: disable, enabled is false", "= music: disabled"]
    assert kfp.enabled("shop") == kfp.enabled("music") == []
    write(file.parent)
    assert applied(file, kfp)[0] == ["~ shop: enable again", "~ music: enable again"]
    assert len(kfp.runs) == 2


def test_others_are_never_touched(file, kfp):
    applied(file, kfp)
    others = {f"other-{index}": _stranger(kfp, f"other-{index}") for index in range(5)}
    kfp.runs.update(others)
    kfp.experiments.update(
        {f"e{index}": {"experiment_id": f"e{index}", "display_name": f"e{index}"} for index in range(5)}
    )
    write(file.parent, cron="0 0 3 * * *", scenes=["shop"])
    applied(file, kfp)
    assert {key: kfp.runs[key] for key in others} == others
    assert {run["status"] for run in others.values()} == {"ENABLED"}


def _stranger(kfp, run_id, **fields):
    ours = next(iter(kfp.runs.values()))
    return {**ours, "recurring_run_id": run_id, "status": "ENABLED", "description": "nightly shop", **fields}


def test_duplicates_of_a_lost_answer_leave_the_oldest(file, kfp):
    applied(file, kfp)
    first = only(kfp.enabled("shop"))
    later = {**first, "recurring_run_id": "later", "created_at": "2026-02-02T00:00:00Z"}
    earlier = {**first, "recurring_run_id": "earlier", "created_at": "2025-02-02T00:00:00Z"}
    kfp.runs |= {"later": later, "earlier": earlier}
    assert applied(file, kfp)[0][0] == "~ shop: disable what it replaces"
    assert only(kfp.enabled("shop"))["recurring_run_id"] == "earlier"
    assert applied(file, kfp)[1] == []


def test_a_scene_scheduled_in_another_experiment_is_refused(file, kfp):
    applied(file, kfp)
    write(file.parent, experiment="mine")
    before = kfp.snapshot()
    with pytest.raises(ConfigError, match="is scheduled by recurring run") as error:
        applied(file, kfp)
    assert (error.value.code, kfp.snapshot()) == ("DR-SCHED-005", before)


STORIES = {
    "from nothing": lambda folder: None,
    "another cron": lambda folder: write(folder, cron="0 0 3 * * *"),
    "another pipeline, a scene less": lambda folder: (
        write_pipeline(folder, image=DIGEST.replace("0123", "4567")),
        write(folder, scenes=["shop"]),
    ),
}


@pytest.mark.parametrize("way", ["before", "after", "dropped"])
@pytest.mark.parametrize("story", STORIES)
def test_every_interruption_is_taken_up(story, way, tmp_path, monkeypatch):
    """One call after the other fails; the same command again ends where an undisturbed one does."""
    index, is_over = 0, False
    while not is_over:
        with kfp_server() as kfp:
            write_pipeline(tmp_path)
            file = write(tmp_path)
            if story != "from nothing":
                applied(file, kfp)
                STORIES[story](tmp_path)
            kfp.fail_at = (len(kfp.calls) + index, way)
            try:
                applied(file, kfp)
                is_over = len(kfp.calls) <= kfp.fail_at[0]
                assert is_over
            except KubeflowError as error:
                assert error.code == "DR-KFP-004"
            kfp.fail_at = None
            applied(file, kfp)
            wanted = {scene.split(".")[0] for scene in re.findall(r"\w+\.yaml", file.read_text())} - {"pipeline"}
            assert {scene for scene in ("shop", "music") if only_or_none(kfp.enabled(scene))} == wanted
            assert kfp.most_enabled == 1
            assert len(kfp.pipelines) == len(kfp.experiments) == 1
            assert len(kfp.uploads) == len(kfp.versions) == (2 if "pipeline" in story else 1)
            assert applied(file, kfp)[1] == []
        index += 1
    assert index > 8


def only_or_none(runs):
    assert len(runs) <= 1
    return runs[0] if runs else None


@st.composite
def situations(draw):
    """Schedules, and recurring runs of theirs in any state, however they came about."""
    wanted = [
        Wanted(scene, draw(st.sampled_from(["0 0 1 * * *", "0 0 2 * * *"])), {}, "runner", "abc", draw(st.booleans()))
        for scene in draw(st.sets(st.sampled_from(["shop", "music"])))
    ]
    contents = [want.content for want in wanted] + ["another"]
    runs = [
        Found(f"r{index}", "", scene, content, is_enabled, created, "", {}, "", "v", experiment)
        for index, (scene, content, is_enabled, created, experiment) in enumerate(
            draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(["shop", "music", "gone"]),
                        st.sampled_from(contents),
                        st.booleans(),
                        st.integers(0, 2),
                        st.sampled_from(["e", "e", "other"]),
                    ),
                    max_size=6,
                )
            )
        )
    ]
    return wanted, Actual("p", "v", "e", tuple(runs))


@given(situations())
def test_changes_lead_from_anything_to_what_is_wanted(situation):
    wanted, actual = situation
    runs = {run.id: [run.scene, run.content, run.is_enabled] for run in actual.runs if run.experiment_id == "e"}
    by_scene = {want.scene: want for want in wanted}

    def enabled(scene):
        return [content for its, content, is_enabled in runs.values() if its == scene and is_enabled]

    before = {scene: len(enabled(scene)) for scene in ("shop", "music", "gone")}
    for number, change in enumerate(changes(wanted, actual)):
        if change.act == "create":
            newest = f"new{number}"
            runs[newest] = [change.scene, by_scene[change.scene].content, False]
        else:
            runs[change.run_id or newest][2] = change.act == "enable"
        assert len(enabled(change.scene)) <= max(1, before[change.scene])
    for scene in ("shop", "music", "gone"):
        want = by_scene.get(scene)
        assert enabled(scene) == ([want.content] if want and want.is_enabled else [])


@pytest.mark.parametrize(
    "cron", ["0 30 2 * * *", "*/5 0-30/2 1,2 ? jan-MAR mon", "0 0 0 31 12 6", "0 0 0 29 feb *", "0 0 0 31 2 mon"]
)
def test_crons(cron):
    assert checked_cron(cron) == cron


@pytest.mark.parametrize(
    "cron", ["30 2 * * *", "@daily", "", "60 * * * * *", "0 0 24 * * *", "0 0 0 0 * *", "0 0 0 * * 7", "0 5-1 * * * *"]
    + ["*/0 * * * * *", "0 0 0 * foo *", "0 -1 * * * *", "0 1, * * * *", "0 0 0 31 2,jun *"],
)  # fmt: skip
def test_no_crons(cron):
    with pytest.raises(ConfigError) as error:
        checked_cron(cron)
    assert error.value.code == "DR-SCHED-001"


def told(capsys, *words):
    """Exit code, output and errors of one command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["distilrec", "schedules", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    return stopped.value.code or 0, *capsys.readouterr()


def refused(capsys, kfp, file, code, *words):
    before = kfp.snapshot()
    exit_code, out, error = told(capsys, "apply", "--file", file, "--kfp", kfp.address)
    assert (exit_code, out, len(error.splitlines())) == (2, "", 1), error
    assert error.startswith(f"{code}: ") and "Fix: " in error
    assert all(word in error for word in words), error
    assert kfp.snapshot() == before and kfp.changes() == []


ROW = {"scene": "shop.yaml", "cron": "0 30 2 * * *"}


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ({"schedules": [{**ROW, "cron": "30 2 * * *"}]}, "DR-SCHED-001", ["'30 2 * * *'", "5 fields", "six"]),
        ({"schedules": [{**ROW, "scene": "none.yaml"}]}, "DR-CONF-001", ["none.yaml"]),
        ({"schedules": [{**ROW, "scene": "pipeline.yaml"}]}, "DR-CONF-001", ["pipeline.yaml"]),
        ({"schedules": [{**ROW, "scene": "s3:///none"}]}, "DR-STORE-007", ["s3:///none"]),
        ({"schedules": [{**ROW, "scene": "scene: shop\ndata: 3"}]}, "DR-CONF-003", ["schedules.0.scene"]),
        *(
            ({"schedules": [{**ROW, "parameters": {"overrides": over}}]}, "DR-CONF-003", ["shop.yaml", "'~/", "s3://"])
            for over in (
                "data.source=file data.path=~/events.csv",
                "data.source=file data.path=s3://b/e.csv data.items.path=~/items.csv",
                "search.latency_table=~/table.json search.budget.p50_ms=1",
            )
        ),
        ({"schedules": [ROW, ROW]}, "DR-SCHED-002", ["shop", "2 schedules"]),
        ({"schedules": [{**ROW, "crom": ""}]}, "DR-CONF-002", ["schedules.yaml", "crom", "'cron'"]),
        ({"scedules": []}, "DR-CONF-002", ["schedules.yaml", "scedules"]),
        ({"schedules": [{**ROW, "parameters": {"asof": ""}}]}, "DR-SCHED-003", ["'asof'", "as_of"]),
        ({"schedules": [{**ROW, "parameters": {"scene": ""}}]}, "DR-SCHED-003", ["'scene'"]),
        ({"schedules": [{**ROW, "parameters": {"require_promotion": 1}}]}, "DR-SCHED-003", ["BOOLEAN"]),
        ({"schedules": [{**ROW, "parameters": {"as_of": None}}]}, "DR-SCHED-003", ["as_of", "STRING"]),
        ({"schedules": [{**ROW, "parameters": {"overrides": "seed=x"}}]}, "DR-CONF-003", ["shop.yaml", "seed"]),
        ({"schedules": [{**ROW, "parameters": {"overrides": " " * 10_000}}]}, "DR-SCHED-006", ["10,000"]),
        ({"pipeline": "none.yaml"}, "DR-SCHED-004", ["none.yaml"]),
        ({"pipeline": "shop.yaml"}, "DR-SCHED-004", ["shop.yaml"]),
        ({"namespace": 3}, "DR-CONF-003", ["namespace"]),
    ],
)
def test_a_file_that_cannot_be_used(keys, code, words, file, kfp, capsys):
    write(file.parent, **keys)
    refused(capsys, kfp, file, code, *words)
    assert kfp.calls == []


def test_a_date_without_quotes_is_refused(file, kfp, capsys):
    file.write_text(
        "pipeline: pipeline.yaml\nschedules:\n- {scene: shop.yaml, cron: 0 0 1 * * *, parameters: {as_of: 2026-01-01}}"
    )
    refused(capsys, kfp, file, "DR-SCHED-003", "2026-01-01", "STRING")


@pytest.mark.parametrize("image", ["registry.example/steps:latest", "registry.example/steps@sha256:0123"])
def test_an_image_without_a_digest(image, file, kfp, capsys):
    write_pipeline(file.parent, image=image)
    refused(capsys, kfp, file, "DR-SCHED-004", image)


@pytest.mark.parametrize("text", ["a: [", "- a", "\x00", "as_of: 2026-13-45", "pipeline: a\npipeline: b"])
def test_files_that_are_no_schedules(text, file, kfp, capsys):
    file.write_text(text)
    refused(capsys, kfp, file, "DR-CONF-001", "schedules.yaml")
    file.unlink()
    refused(capsys, kfp, file, "DR-CONF-001", "schedules.yaml")


@pytest.mark.parametrize(
    ("answer", "code"),
    [(401, "DR-KFP-001"), (403, "DR-KFP-001"), (302, "DR-KFP-001"), (404, "DR-KFP-002"), (500, "DR-KFP-004")]
    + [(200, "DR-KFP-002"), (429, "DR-KFP-005")],
)
def test_a_kubeflow_that_says_no(answer, code, file, kfp, capsys):
    kfp.answer = answer
    refused(capsys, kfp, file, code, kfp.address)


def test_a_token_is_sent_and_never_shown(file, kfp, capsys, monkeypatch, tmp_path):
    kfp.token = "geheim"
    refused(capsys, kfp, file, "DR-KFP-001", "401")
    monkeypatch.setenv("KFP_TOKEN", "geheim")
    assert told(capsys, "list", "--file", file, "--kfp", kfp.address)[0] == 0
    monkeypatch.setenv("KFP_TOKEN", "ge\nheim")
    exit_code, _, error = told(capsys, "plan", "--file", file, "--kfp", kfp.address)
    assert exit_code == 2 and "heim" not in error
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    refused(capsys, kfp, file, "DR-KFP-001", str(tmp_path / "token"))
    (tmp_path / "token").write_text("geheim\n")
    assert told(capsys, "apply", "--file", file, "--kfp", kfp.address)[0] == 0


@pytest.mark.parametrize("tag", ["2.16.1", "v2.5.0", "1.8.22"])
def test_an_old_kubeflow(tag, file, kfp, capsys):
    kfp.tag = tag
    refused(capsys, kfp, file, "DR-KFP-003", tag, "2.17")


@pytest.mark.parametrize("tag", [None, "unknown", "2.17.3", "3.0.0"])
def test_a_kubeflow_that_is_not_known_to_be_old(tag, file, kfp):
    kfp.tag = tag
    assert planned(file, kfp)


def test_a_kubeflow_for_several_users(file, kfp, capsys):
    kfp.is_multi_user = True
    refused(capsys, kfp, file, "DR-KFP-005", "namespace")
    write(file.parent, namespace="team")
    applied(file, kfp)
    assert only(kfp.enabled("shop"))["namespace"] == "team"


@pytest.mark.parametrize("address", ["", "ml-pipeline:8888", "http://", "http://127.0.0.1:1", "https://{host}"])
def test_an_unreachable_kubeflow(address, file, kfp, capsys):
    kfp.address = address.format(host=kfp.address.removeprefix("http://"))
    code = "DR-KFP-004" if "127" in address or "{" in address else "DR-KFP-002"
    refused(capsys, kfp, file, code)


def test_what_people_see(file, kfp, capsys, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp.address)
    exit_code, lines, _ = told(capsys, "plan", "--file", file)
    assert (exit_code, lines.count("\n")) == (0, 5)
    exit_code, out, _ = told(capsys, "apply", "--file", file)
    assert exit_code == 0 and out.startswith(lines) and out.count("\n") == 12
    write(file.parent, cron="0 0 3 * * *")
    told(capsys, "apply", "--file", file)
    _, out, _ = told(capsys, "list", "--file", file)
    rows = [line.split() for line in out.splitlines()]
    assert [(row[0], row[1], " ".join(row[2:8])) for row in rows] == [
        ("music", "enabled", "0 0 4 * * sun"),
        ("shop", "enabled", "0 0 3 * * *"),
        ("shop", "disabled", "0 30 2 * * *"),
    ]


def test_the_example_loads():
    assert len(load_schedules(ROOT / "manifests" / "schedules.yaml").schedules) == 2


def test_nothing_needs_the_client_before_it_is_used():
    program = "import sys, distilrec.cli, distilrec.steps.schedules; sys.exit('kfp_server_api' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_client_that_is_not_installed(file, kfp, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "kfp_server_api", None)
    refused(capsys, kfp, file, "DR-KFP-006", "kfp_server_api")
