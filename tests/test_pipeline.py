"""The whole chain on the synthetic scene, through the real pipeline, registry and command line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
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
    first = _run(folder, "first", **watched)
    assert first.returncode == 0, first.stdout + first.stderr
    (folder / "first.txt").write_text(first.stdout)
    second = _run(folder, "second", "--set", "gate.min_student_over_teacher=9", "--require-promotion")
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
    assert list(scene["seconds"]) == STEPS
    assert scene["cost"]["student"]["encoder_macs"] < scene["cost"]["teacher"]["encoder_macs"]
    assert scene["cost"]["student"]["encoder_params"] < scene["cost"]["teacher"]["encoder_params"]
    assert scene["search"]["mean_entropy_last"] < scene["search"]["mean_entropy_first"]
    assert scene["models"]["teacher"]["kept"]["ndcg@10"] > 0.8
    assert scene["models"]["student"]["kept"]["ndcg@10"] > scene["models"]["popularity"]["kept"]["ndcg@10"] + 0.3
    assert scene["export"]["student"]["largest_difference"] < 1e-3


def test_the_first_is_promoted_and_the_second_meets_it_as_champion(runs):
    first, second = (_summary(runs, name)["scenes"]["synthetic"] for name in ("first", "second"))
    assert (first["verdict"]["word"], first["champion"]) == ("promoted", None)
    assert second["verdict"]["word"] == "held"
    assert second["champion"]["version"] == first["verdict"]["version"] == second["verdict"]["champion"]
    assert second["champion"]["num_missing_targets"] == 0
    # The same data, settings and seed: the trainings came from their checkpoints, so the champion is the student.
    assert second["champion"]["change"]["value"] == pytest.approx(0.0, abs=1e-9)
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
assert all(scores == sorted(scores, reverse=True) for scores in answer["scores"])
runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=100)
parents = [run for run in runs if "distilrec.content" in run.data.tags]
assert len(parents) == 2 and len(runs) == 2 * 8, (len(parents), len(runs))
epochs = client.get_metric_history(next(r.info.run_id for r in runs if r.info.run_name == "teach"), "loss.total")
assert [metric.step for metric in epochs] == [1, 2], epochs
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


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
    assert "<title>6 pictures, 0 broken</title>" in shown


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
