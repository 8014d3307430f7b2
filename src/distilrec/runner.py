"""Running the pipeline on this machine: the run folder and its identity, the child process, the joined result."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distilrec import __version__
from distilrec.core.config import SceneConfig, content_hash
from distilrec.core.errors import RunError
from distilrec.core.revisions import REVISIONS
from distilrec.io.files import text_at
from distilrec.io.jsons import LinesOf, read_json, write_json, write_text
from distilrec.io.page import render_markdown, render_page
from distilrec.io.sources import fingerprint

SECONDS_TO_STOP = 10.0
POLL_SECONDS = 0.2
FAILED = re.compile(r"Task \S*'([\w-]+)'\S* finished with status .*FAILURE")
END_OF_INPUT = "    }"
"""Of what KFP's runner says of a step before the step says anything."""
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}
"""Keep freed memory in the process: returning it costs page faults, a third of a training's time on CPU."""


@dataclass(frozen=True)
class SceneRun:
    config: SceneConfig
    folder: Path

    def is_finished(self) -> bool:
        return (self.folder / "summary.json").is_file()

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = read_json(self.folder / "summary.json")
        return summary


@dataclass(frozen=True)
class Run:
    """A folder, named by what is run in it.

    Attributes:
        runs: the folder of all runs, with the store and the tracking database beside them.
        name: under which its steps are kept in the store and shown in MLflow, wherever the folder is.
    """

    runs: Path
    folder: Path
    name: str
    as_of: str
    scenes: tuple[SceneRun, ...]


def open_run(configs: list[SceneConfig], as_of: str, runs: Path, out: Path | None) -> Run:
    """Make the run's folder, or find it again.

    Raises:
        RunError: the folder holds something else.
        DataError: a data file cannot be read.
    """
    names = [config.scene for config in configs]
    if len(set(names)) < len(names):
        raise RunError("DR-CONF-005", f"two scenes have the same name: {', '.join(names)}")
    if any("python3" in str(config.model_dump()) for config in configs):
        raise RunError("DR-RUN-003", "a setting contains 'python3', which Kubeflow's local runner rewrites")
    prints = [fingerprint(config.data) for config in configs]
    tables = [config.search.latency_table for config in configs if config.search.latency_table]
    prints += [hashlib.sha256(text_at(table).encode()).hexdigest() for table in tables]
    identity = content_hash(
        [config.model_dump(mode="json") for config in configs], prints, as_of, __version__, REVISIONS
    )
    stem = names[0] if len(names) == 1 else f"{names[0]}-and-{len(names) - 1}-more"
    folder = (out or runs / f"{stem}-{identity[:8]}").resolve()
    name = _claim(folder, identity, names, stem)
    scenes = tuple(SceneRun(config, folder / config.scene) for config in configs)
    return Run(runs.resolve(), folder, name, as_of, scenes)


def _claim(folder: Path, identity: str, scenes: list[str], stem: str) -> str:
    """Returns the run's name: a new one for a new folder."""
    if "python3" in str(folder):
        raise RunError("DR-RUN-003", f"{folder} contains 'python3', which Kubeflow's local runner rewrites")
    try:
        return _claim_folder(folder, identity, scenes, f"{stem}-{identity[:8]}-{uuid.uuid4().hex[:4]}")
    except OSError as error:
        raise RunError("DR-RUN-004", f"{folder} cannot be made or written: {error.strerror}") from None


def _claim_folder(folder: Path, identity: str, scenes: list[str], new_name: str) -> str:
    if folder.exists() and not folder.is_dir():
        raise RunError("DR-RUN-001", f"{folder} is a file")
    described = folder / "run.json"
    if described.is_file():
        there = read_json(described)
        if not isinstance(there, dict) or not {"identity", "run"} <= there.keys():
            raise RunError("DR-RUN-001", f"{described} is of no run of distilrec")
        if there["identity"] != identity:
            words = f"{folder} holds run {there['identity']}, this one is {identity}: settings or data differ"
            raise RunError("DR-RUN-001", words)
        return str(there["run"])
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError("DR-RUN-001", f"{folder} is not empty and is no run of distilrec")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(described, {"identity": identity, "run": new_name, "scenes": scenes, "distilrec": __version__})
    return new_name


@dataclass(frozen=True)
class Outcome:
    """How a scene's pipeline ended.

    Attributes:
        error: what `error.json` says, if a step refused or failed in a way we know.
    """

    exit_code: int
    error: dict[str, Any] | None


def run_scene(
    run: Run, scene: SceneRun, require_promotion: bool, lock: int, watch: Callable[[list[dict[str, Any]]], None]
) -> Outcome:
    """Run one scene's pipeline in a process group of its own; `watch` gets its progress lines as they come.

    Whatever ends this function ends the whole group.
    """
    shutil.rmtree(scene.folder, ignore_errors=True)  # what a resume needs is in the store, not here
    scene.folder.mkdir(parents=True)
    config = scene.config.model_dump(mode="json")
    (scene.folder / "scene.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    job = {
        "pipeline_root": str(scene.folder / "kfp"),
        "parameters": {"scene": yaml.safe_dump(config), "as_of": run.as_of, "require_promotion": require_promotion},
    }
    write_json(scene.folder / "job.json", job)
    temporary = Path(tempfile.mkdtemp(prefix="distilrec-", dir=os.environ.get("TMPDIR", scene.folder)))
    with (scene.folder / "pipeline.log").open("wb") as log, _stopped_by_signals():
        child = subprocess.Popen(
            [sys.executable, "-m", "distilrec.pipelines.retrain_scene", str(scene.folder / "job.json")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(run, scene, temporary),
            start_new_session=True,
            pass_fds=[lock],
        )
        progress = LinesOf(scene.folder / "progress.jsonl")
        try:
            while child.poll() is None:
                watch(progress.new())
                time.sleep(POLL_SECONDS)
            watch(progress.new())
        finally:
            _end(child)
            shutil.rmtree(temporary, ignore_errors=True)
            if not scene.is_finished():
                shutil.rmtree(scene.folder / "kfp", ignore_errors=True)
    error_file = scene.folder / "error.json"
    error = read_json(error_file) if error_file.is_file() else None
    return Outcome(int(error["exit_code"]) if error else int(child.returncode != 0), error)


def _environment(run: Run, scene: SceneRun, temporary: Path) -> dict[str, str]:
    """Where store and tracking are, the caller's environment says."""
    return {
        **ALLOCATOR,
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        "DISTILREC_RUN": run.name,
        "DISTILREC_RUN_DIR": str(scene.folder),
    }


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """A termination or a closed terminal stops like Ctrl-C, once: the clean-up is not interrupted. What is
    ignored, as under nohup, stays ignored."""

    def interrupt(*_: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: handler for number in STOPPING if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """The pipeline, its step and the shell between them: asked first, then killed."""
    for number, patience in ((signal.SIGTERM, SECONDS_TO_STOP), (signal.SIGKILL, SECONDS_TO_STOP)):
        if not _group_lives(child.pid):
            break
        os.killpg(child.pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and (child.poll() is None or _group_lives(child.pid)):
            time.sleep(0.05)
    child.wait()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def join(run: Run) -> Path:
    """Put the finished scenes together: summary.json, summary.md and report.html. Returns the report's path."""
    finished = [scene for scene in run.scenes if scene.is_finished()]
    summaries = [scene.summary() for scene in finished]
    sections = [(scene.folder / "section.html").read_text(encoding="utf-8") for scene in finished]
    title = f"distilrec: {', '.join(summary['scene'] for summary in summaries)}"
    joined = {
        "schema_version": 1,
        "run": run.folder.name,
        "scenes": {summary["scene"]: summary for summary in summaries},
    }
    write_text(run.folder / "summary.md", render_markdown(summaries))
    write_text(run.folder / "report.html", render_page(title, sections, summaries))
    write_json(run.folder / "summary.json", joined)
    return run.folder / "report.html"


def last_words(scene: SceneRun, lines: int = 15) -> str:
    """The end of what the step said that failed, for a failure that nobody foresaw; what the runner and the closing
    task say after it is not the reason."""
    said = (scene.folder / "pipeline.log").read_text(encoding="utf-8", errors="replace").splitlines()
    found = ((row, match[1]) for row, line in enumerate(said) if (match := FAILED.search(line)))
    end, step = next(found, (len(said), ""))
    begin = max((row + 1 for row in range(end) if said[row] == END_OF_INPUT), default=0)
    own = [line.strip() for line in said[begin:end] if line.strip()]
    if step and not own:
        return f"{step} ended without a word, as when the system kills a process for the memory that it takes"
    return "\n".join([*([f"{step} said last:"] if step else []), *own[-lines:]])
