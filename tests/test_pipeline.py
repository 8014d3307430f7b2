"""The whole chain on the synthetic scene, through the real pipeline, registry and command line."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import ROOT
from tests.test_cli import DISTILREC, distilrec

SCENE = ROOT / "scenes" / "synthetic.yaml"
STEPS = ["prepare", "teach", "search", "derive", "retrain", "evaluate", "benchmark", "promote"]
WATCH_PICKLE = """
import os, sys
def hook(event, arguments):
    if event == "pickle.find_class" and "DISTILREC_PICKLE_LOG" in os.environ:
        with open(os.environ["DISTILREC_PICKLE_LOG"], "a") as log:
            log.write(".".join(map(str, arguments[:2])) + chr(10))
sys.addaudithook(hook)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two runs of one scene in one folder: the first has no champion to meet, the second has."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "sitecustomize.py").write_text(WATCH_PICKLE)
    watched = {"PYTHONPATH": str(folder), "DISTILREC_PICKLE_LOG": str(folder / "unpickled.txt")}
    first = _run(folder, "first", "--require-promotion", **watched)
    assert first.returncode == 0, first.stdout + first.stderr
    (folder / "first.txt").write_text(first.stdout)
    wanted = ("gate.min_student_over_teacher=9", "serve.variant=indexed", "evaluate.sampled=[uniform-100]")
    settings = [word for setting in wanted for word in ("--set", setting)]
    second = _run(folder, "second", *settings, "--require-promotion")
    assert second.returncode == 3, second.stdout + second.stderr
    assert "DR-GATE-001" in second.stderr
    return folder


def _run(folder, out, *arguments, **environment):
    command = [DISTILREC, "run", str(SCENE), "--runs", str(folder), "--out", str(folder / out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=500)


def _summary(runs, name):
    return json.loads((runs / name / "summary.json").read_text())


def test_the_summary_follows_its_schema_and_the_student_is_smaller(runs):
    schema = json.loads((ROOT / "docs" / "summary.schema.json").read_text())
    for name in ("first", "second"):
        jsonschema.validate(_summary(runs, name), schema)
    scene = _summary(runs, "first")["scenes"]["synthetic"]
    assert list(scene["seconds"]) == list(scene["cpu_seconds"]) == list(scene["peak_memory_mb"]) == STEPS
    assert scene["last_run"] is None and min(scene["peak_memory_mb"].values()) > 50
    last = _summary(runs, "second")["scenes"]["synthetic"]["last_run"]
    assert last["spent"]["seconds"] == scene["seconds"]
    assert scene["cost"]["student"]["encoder_macs"] < scene["cost"]["teacher"]["encoder_macs"]
    assert scene["cost"]["student"]["encoder_params"] < scene["cost"]["teacher"]["encoder_params"]
    assert scene["search"]["mean_entropy_last"] < scene["search"]["mean_entropy_first"]
    assert scene["models"]["teacher"]["kept"]["ndcg@10"] > 0.8
    assert scene["models"]["student"]["kept"]["ndcg@10"] > scene["models"]["popularity"]["kept"]["ndcg@10"] + 0.3
    assert scene["export"]["student"]["largest_difference"] < 1e-3


def test_the_sampled_protocols_are_shown_where_they_are_asked_for(runs):
    few, none = (_summary(runs, name)["scenes"]["synthetic"]["sampled"] for name in ("second", "first"))
    assert not none and few["uniform-100"]["markov"]["hr@10"] >= few["uniform-100"]["popularity"]["hr@10"] > 0
    pages = [(runs / name / "report.html").read_text() for name in ("first", "second")]
    assert ["uniform-100" in page.split("<h3>Quality and latency")[1] for page in pages] == [False, True]


def test_the_first_is_promoted_and_the_second_meets_it_as_champion(runs):
    first, second = (_summary(runs, name)["scenes"]["synthetic"] for name in ("first", "second"))
    assert (first["verdict"]["word"], first["champion"]) == ("promoted", None)
    assert second["verdict"]["word"] == "held"
    assert second["champion"]["version"] == first["verdict"]["version"] == second["verdict"]["champion"]
    assert second["champion"]["num_missing_targets"] == 0
    # The same data, seed and training: from their checkpoints, so the champion is the student.
    assert second["champion"]["change"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert (first["served"]["timed"], second["served"]["timed"]) == ("student_onnx", "student_indexed")
    assert (first["index_recall"], second["index_recall"]) == (None, 1.0)
    progress = (runs / "second" / "synthetic" / "progress.jsonl").read_text()
    assert progress.count('"resumed"') == 3
    entries = sorted((runs / "store" / "promotions" / "synthetic").iterdir())
    assert [json.loads(entry.read_text())["verdict"] for entry in entries] == ["promoted", "held"]


def test_the_registered_model_answers_without_pickle(runs):
    program = f"""
import os, warnings
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
warnings.simplefilter("ignore")
import mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///{runs / "mlflow.db"}")
client = mlflow.MlflowClient()
aliases = {{name: str(version) for name, version in client.get_registered_model("ranker-synthetic").aliases.items()}}
assert aliases == {{"champion": "1", "challenger": "2"}}, aliases
assert client.get_model_version("ranker-synthetic", "2").tags["verdict"] == "held"
model = mlflow.pyfunc.load_model("models:/ranker-synthetic@champion")
histories = pd.DataFrame({{"history": [["item-1", "item-2"], ["nobody-knows", "item-3"], ["nobody-knows"]]}})
answer = model.predict(histories, params={{"k": 5}})
assert [len(items) for items in answer["items"]] == [5, 5, 5]
assert all(list(scores) == sorted(scores, reverse=True) for scores in answer["scores"])
assert list(answer["num_unknown"]) == [0, 1, 1] and list(answer["is_fallback"]) == [False, False, True]
best = list(answer["items"][0])
without = model.predict(histories[:1], params={{"k": 3, "exclude": best[:2]}})
assert list(without["items"][0]) == best[2:5]
only = model.predict(histories[:1], params={{"k": 3, "allow": best[3:]}})
assert list(only["items"][0]) == best[3:]
for wrong in ({{"k": 0}}, {{"k": 10_000}}):
    try:
        model.predict(histories, params=wrong)
    except mlflow.exceptions.MlflowException as error:
        assert error.get_http_status_code() == 400 and "the size of the catalogue" in str(error)
    else:
        raise AssertionError(wrong)
runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=100)
parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
assert len(parents) == 2 and len(runs) == 2 * 9, (len(parents), len(runs))
assert sorted(run.info.status for run in parents) == ["FAILED", "FINISHED"]  # held where a promotion was required
assert all(run.info.status == "FINISHED" for run in runs if run not in parents)
epochs = client.get_metric_history(next(r.info.run_id for r in runs if r.info.run_name == "teach"), "loss.total")
assert [metric.step for metric in epochs] == [1, 2], epochs
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_python_in_the_docs_runs(runs, tmp_path):
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    text = page.replace("ranker-ml1m-under-25", "ranker-synthetic")
    (student,) = (runs / "first").glob("synthetic/kfp/*/retrain/student")
    shutil.copytree(student / "rankers" / "student_onnx", tmp_path / "ranker")
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == 2
    settings = {"MLFLOW_TRACKING_URI": f"sqlite:///{runs / 'mlflow.db'}"}
    for example in examples:
        command = [sys.executable, "-W", "ignore", "-c", example]
        subprocess.run(command, cwd=tmp_path, env={**os.environ, **settings}, check=True, timeout=120)


def _histories(*histories):
    return {"dataframe_records": [{"history": list(history)} for history in histories]}


BAD_REQUESTS = {
    "a number for text": _histories([1]),
    "a missing id": _histories(["item-1", None]),
    "not a number": '{"dataframe_records": [{"history": [NaN]}]}',
    "k above the catalogue": {**_histories(["item-1"]), "params": {"k": 10_000}},
    "a negative k": {**_histories(["item-1"]), "params": {"k": -1}},
    "k as text": {**_histories(["item-1"]), "params": {"k": "many"}},
    "an empty batch": _histories(),
    "too large a batch": _histories(*[["item-1"]] * 100_000),
    "another column": {"dataframe_records": [{"past": ["item-1"]}]},
    "no list": {"dataframe_records": [{"history": "item-1"}]},
    "no JSON": "history",
    "nothing": "",
}


def test_the_served_model_answers_and_refuses(runs):
    """MLflow's own server, by the registered name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "mlflow", "models", "serve", "-m", "models:/ranker-synthetic@champion"]
    settings = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{runs / 'mlflow.db'}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    with (runs / "server.txt").open("w") as log:
        server = subprocess.Popen(
            [*command, "--env-manager", "local", "--port", str(port)],
            env={**os.environ, **settings, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until(lambda: _asked(port, "ping", None)[0] == 200, (runs / "server.txt"))
        good = {**_histories(["item-1", "item-2"], ["nobody-knows"]), "params": {"k": 3}}
        status, answer = _asked(port, "invocations", good)
        assert status == 200, answer
        rows = json.loads(answer)["predictions"]
        assert [len(row["items"]) for row in rows] == [3, 3]
        assert [row["is_fallback"] for row in rows] == [False, True]
        refused = {name: _asked(port, "invocations", body) for name, body in BAD_REQUESTS.items()}
        assert {name: status for name, (status, _) in refused.items()} == dict.fromkeys(BAD_REQUESTS, 400), refused
        assert "the size of the catalogue" in refused["k above the catalogue"][1]
        assert _asked(port, "invocations", good) == (200, answer)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def _asked(port, path, body):
    text = body if isinstance(body, str) or body is None else json.dumps(body)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{path}",
        data=None if text is None else text.encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def _wait_until(is_so, log, seconds=90):
    for _ in range(seconds * 5):
        if is_so():
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_the_champion_recommends_in_the_terminal(runs):
    asked = ["recommend", "synthetic", "--runs", str(runs), "-k", "3", "--history", "item-1", "--history", "?"]
    answer = distilrec(*asked, cwd=runs)
    assert answer.returncode == 0, answer.stderr
    assert "synthetic, version 1" in answer.stdout and "unknown ids in the history, skipped: 1" in answer.stdout
    assert len(re.findall(r"^ *\d +item-\d+ +-?\d+\.\d+ *$", answer.stdout, flags=re.MULTILINE)) == 3
    for wrong, words in (
        (["recommend", "nowhere", "--runs", str(runs)], "DR-REG-002: scene nowhere has no champion"),
        ([*asked, "-k", "99999"], "DR-CONF-003: k is 99999"),
        (["recommend", ".."], "DR-CONF-004: scene: '..'"),
    ):
        refused = distilrec(*wrong, cwd=runs)
        assert refused.returncode == 2 and words in refused.stderr, refused.stderr


def test_runs_are_compared_in_the_terminal(runs):
    shown = distilrec("compare", "first,second", "first", cwd=runs)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"beyond the first [+-]\d\.\d{4} \[[+-]\d\.\d{4}, [+-]\d\.\d{4}\]\n$", shown.stdout), shown.stdout
    assert len(re.findall(r"by run \d\.\d{4}, \d\.\d{4}", shown.stdout)) == 1
    refused = distilrec("compare", "first", "nowhere", cwd=runs)
    assert refused.returncode == 2 and "DR-RUN-005: 'nowhere' is no folder" in refused.stderr


def test_nothing_was_unpickled(runs):
    log = runs / "unpickled.txt"
    assert not log.exists() or log.read_text() == ""


def test_the_terminal_tells_the_story(runs):
    text = (runs / "first.txt").read_text()
    for step in STEPS:
        assert re.search(rf"synthetic: {step}: done in \d+:\d\d", text)
    assert re.search(r"teach: epoch 1/2, loss \d+\.\d+, valid NDCG@10 0\.\d+; \d+:\d\d left", text)
    assert "promoted as version 1" in text
    assert text.rstrip().splitlines()[-1].startswith("report: ")


def test_nothing_is_left_beside_the_results(runs):
    left = sorted(path.name for path in (runs / "first" / "synthetic").iterdir())
    assert left == [
        "job.json",
        "kfp",
        "pipeline.log",
        "progress.jsonl",
        "report.html",
        "scene.yaml",
        "section.html",
        "summary.json",
        "summary.md",
    ]
    assert [path for path in runs.rglob(".*") if path.name != ".lock"] == []


def test_a_finished_run_is_not_run_again_and_another_is_refused(runs):
    again = _run(runs, "first")
    assert again.returncode == 0
    assert "finished already" in again.stdout
    other = _run(runs, "first", "--set", "seed=5")
    assert other.returncode == 2
    assert other.stderr.startswith("DR-RUN-001: ")


def test_the_report_needs_no_network_and_renders(runs, tmp_path):
    page = (runs / "first" / "report.html").read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert "url(" not in page and "@import" not in page and "<script" not in page
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no browser on this machine")
    probe = """<script>onload = () => {
        const all = [...document.images], broken = all.filter(one => !one.naturalWidth)
        document.title = all.length + ' pictures, ' + broken.length + ' broken'
    }</script>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", probe + "</body>"))
    quiet = ["gpu", "quic", "sync", "background-networking", "component-update"]
    options = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{one}" for one in quiet)]
    command = [
        browser,
        *options,
        f"--user-data-dir={tmp_path}/profile",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]
    shown = subprocess.run(
        [*command, f"file://{tmp_path}/page.html"], capture_output=True, text=True, timeout=120
    ).stdout
    assert "<title>7 pictures, 0 broken</title>" in shown


def test_promotions_are_read_and_changed_by_hand(runs):
    """Version 1 was promoted, version 2 held."""
    at = ("synthetic", "--runs", str(runs))
    shown = distilrec("models", *at, cwd=runs).stdout
    assert re.search(r"2 .* version 2 held by .*; champion: 1\n", shown)
    assert re.search(r"1 .* version 1 promoted by .*; champion: 1\n", shown)
    assert "the student has" in shown
    assert "DR-REG-004: scene synthetic has no version to roll back to" in distilrec("rollback", *at, cwd=runs).stderr
    for wrong in (("--version", "9", "--because", "x"), ("--version", "2", "--because", " ")):
        assert distilrec("approve", *at, *wrong, cwd=runs).returncode == 2
    approved = distilrec("approve", *at, "--version", "2", "--because", "the shop asked for it", cwd=runs)
    assert approved.returncode == 0 and "version 2 approved" in approved.stdout and "the shop asked" in approved.stdout
    assert "version 2" in distilrec("recommend", *at, "--history", "item-3", cwd=runs).stdout
    back = distilrec("rollback", *at, "--because", "clicks fell", cwd=runs)
    assert back.returncode == 0 and re.search(r"version 2 rolled back by .*; champion: 1\n", back.stdout), back.stderr
    assert "version 1" in distilrec("recommend", *at, "--history", "item-3", cwd=runs).stdout
    assert len(list((runs / "store" / "promotions" / "synthetic").iterdir())) == 4
    assert distilrec("rollback", *at, cwd=runs).returncode == 2, "there is nothing before version 1"


def test_interrupted_it_leaves_no_process_and_resumes(tmp_path):
    scene = tmp_path / "scene.yaml"
    scene.write_text(
        "scene: slow\ndata: {source: synthetic, num_users: 200, num_items: 30, events_per_user: 12}\n"
        "max_length: 10\nteach: {width: 8, num_blocks: 1, max_epochs: 10000, patience: 10000}\n"
    )
    command = [DISTILREC, "run", str(scene), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    resumed_after = 0
    for attempt, number in enumerate((signal.SIGINT, signal.SIGTERM)):
        progress = tmp_path / "out" / "slow" / "progress.jsonl"
        progress.unlink(missing_ok=True)
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell's background job ignores Ctrl-C, and what is ignored stays so: here somebody is listening.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not (progress.exists() and progress.read_text().count('"epoch": ') > 5):
            time.sleep(0.1)
            assert child.poll() is None
        resumed = [json.loads(line)["epoch"] for line in progress.read_text().splitlines() if '"resumed"' in line]
        assert len(resumed) == attempt
        assert all(epoch > resumed_after for epoch in resumed)
        child.send_signal(number)
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 130, output
        assert "Traceback" not in output
        assert "resumes from the last checkpoint" in output
        assert subprocess.run(["pgrep", "-f", str(tmp_path / "out")], capture_output=True).returncode == 1
        names = sorted(path.name for path in (tmp_path / "out" / "slow").iterdir())
        assert names == ["job.json", "pipeline.log", "progress.jsonl", "scene.yaml"]
    plan = distilrec("plan", scene, "--runs", tmp_path / "runs", cwd=tmp_path)
    assert re.search(r"resumes after epoch \d+ of 10000", plan.stdout)
