"""The composition: builds the adapters from the environment and runs one step. Components and the command
line both call this; nothing else does.

Environment:
    DISTILREC_RUN_DIR: where progress.jsonl and error.json go, and a copy of the scene's results; optional.
    DISTILREC_RUNS: the folder of all that the next two have by default; default ./runs.
    DISTILREC_STORE: folder of checkpoints and promotions, or s3://bucket/folder; default <runs>/store.
    WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT: set by torchrun for a training in several processes.
    MLFLOW_TRACKING_URI: default SQLite in <runs>/mlflow.db, or beside a store in a folder.
    MLFLOW_RUN_ID: the MLflow run to log into, of the step or of the whole pipeline; default: one is made.
    DISTILREC_RUN: the pipeline run's name, the same for all its steps; default KFP_RUN_ID. Without
        either, `promote` names the run by its content and logs it whole.
    KFP_RUN_ID, KFP_UI: Kubeflow's run and the address of its pages, for the link in MLflow.
    DISTILREC_WEBHOOK: address to which the outcome of a run is posted as JSON; optional, a secret.
    DISTILREC_MLFLOW_ARTIFACTS: folder of model artifacts where the tracking server has no place of its own.
    KF_PIPELINES_ENDPOINT: address of Kubeflow Pipelines, for the schedules.
    KF_PIPELINES_SA_TOKEN_PATH: file of a token for it; or KFP_TOKEN, the token itself; without either none is sent.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distilrec.core.config import SceneConfig, checked_name
from distilrec.core.errors import ArtifactError, DistilrecError, HeldError, KubeflowError, RunError, StoreError
from distilrec.core.floors import FLOORS
from distilrec.core.latency import LatencyTable
from distilrec.core.parallel import ALONE, Processes
from distilrec.core.tasks import CLOSING, OPENING, REQUIRING
from distilrec.io.jsons import read_json, write_json
from distilrec.io.leases import Lease
from distilrec.io.mlflow_server import MlflowServer, in_a_hurry
from distilrec.io.progress import Progress
from distilrec.io.registry import Registry
from distilrec.io.s3 import SCHEME, S3Store
from distilrec.io.scenes import load_scene
from distilrec.io.store import LocalStore, Store, copy_whole, manifest_of, require_place
from distilrec.io.tracking import Origin, Tracking
from distilrec.steps.adapters import Adapters
from distilrec.steps.tracked import keep

if TYPE_CHECKING:
    from distilrec.core.compared import Compared
    from distilrec.core.schedules import Found
    from distilrec.io.kubeflow import Kubeflow
    from distilrec.io.promotions import Entry
    from distilrec.steps.doctor import Finding
    from distilrec.steps.recommend import Answer

RESULTS = ("section.html", "report.html", "summary.md", "summary.json")
"""The last one says that the scene is finished."""
TRAININGS = ("teach", "search", "retrain")
TERMINATED = 143
OF_MLFLOW = re.compile(r"(https?|databricks(-uc)?|(sqlite|postgresql|mysql|mssql)(\+\w+)?)(:|$)")
"""Addresses of servers and databases that MLflow can keep models in."""
Result = TypeVar("Result")
_BEGAN = time.monotonic()


def open_run(scene: str, overrides: str, as_of: str) -> None:
    """Before the steps: a run of a scene that another run has goes no further."""
    from distilrec.steps.running import open_run as run

    is_cached = _is_on_kubeflow()
    _step(OPENING, scene, overrides, lambda config, adapters: run(config, as_of, is_cached, adapters))


def close_run(scene: str, overrides: str, state: str, problem: str) -> None:
    """After the steps, however they ended; `state` and `problem` as Kubeflow puts them."""
    from distilrec.steps.running import close_run as run
    from distilrec.steps.running import outcome_of, told

    webhook = os.environ.get("DISTILREC_WEBHOOK", "")
    try:
        load_scene(scene, overrides)
    except DistilrecError as error:  # the opening task refused it too, and somebody should hear of it
        if webhook:
            told(webhook, outcome_of(_origin(), "", state, str(error)))
    _step(CLOSING, scene, overrides, lambda config, adapters: run(config, state, problem, webhook, adapters))


def release(scene: str, holder: str = "") -> str:
    """Give a scene's lease back for a run that cannot: the one called so, or whichever has it. Returns its name."""
    lease = Lease(_store(), _scene_name(scene), holder)
    held = lease.newest()
    if not held or not held.holder:
        return ""
    Lease(lease.store, lease.scene, holder or held.holder).give_back()
    return held.holder


def prepare(scene: str, overrides: str, as_of: str, dataset: str) -> dict[str, Any]:
    from distilrec.steps.prepare import prepare as run
    from distilrec.steps.prepared import require_times

    def act(config: SceneConfig, adapters: Adapters) -> dict[str, Any]:
        if not _is_on_kubeflow():  # there it is the key of the cache too
            require_times(config, as_of)
        return run(config, as_of, Path(dataset), adapters)

    return _step("prepare", scene, overrides, act, dataset)


def teach(scene: str, overrides: str, dataset: str, teacher: str) -> dict[str, Any]:
    from distilrec.steps.teach import teach as run

    return _step(
        "teach", scene, overrides, lambda config, adapters: run(config, Path(dataset), Path(teacher), adapters), teacher
    )


def search(scene: str, overrides: str, dataset: str, teacher: str, search: str) -> dict[str, Any]:
    from distilrec.steps.search import search as run

    paths = (Path(dataset), Path(teacher), Path(search))
    return _step("search", scene, overrides, lambda config, adapters: run(config, *paths, adapters), search)


def profile(scene: str, overrides: str, dataset: str, latency_table: str) -> LatencyTable:
    from distilrec.steps.profile import profile as run

    paths = (Path(dataset), Path(latency_table))
    return _step("profile", scene, overrides, lambda config, adapters: run(config, *paths, adapters))


def derive(scene: str, overrides: str, search: str, genotype: str) -> dict[str, Any]:
    from distilrec.steps.derive import derive as run

    return _step(
        "derive",
        scene,
        overrides,
        lambda config, adapters: run(config, Path(search), Path(genotype), adapters),
        genotype,
    )


def retrain(scene: str, overrides: str, dataset: str, teacher: str, genotype: str, student: str) -> dict[str, Any]:
    from distilrec.steps.retrain import retrain as run

    paths = (Path(dataset), Path(teacher), Path(genotype), Path(student))
    return _step("retrain", scene, overrides, lambda config, adapters: run(config, *paths, adapters), student)


def evaluate(scene: str, overrides: str, dataset: str, student: str, quality: str) -> dict[str, Any]:
    from distilrec.steps.evaluate import evaluate as run

    paths = (Path(dataset), Path(student), Path(quality))
    return _step("evaluate", scene, overrides, lambda config, adapters: run(config, *paths, adapters), quality)


def benchmark(scene: str, overrides: str, teacher: str, student: str, latency: str) -> dict[str, Any]:
    from distilrec.steps.benchmark import benchmark as run

    paths = (Path(teacher), Path(student), Path(latency))
    return _step("benchmark", scene, overrides, lambda config, adapters: run(config, *paths, adapters), latency)


def promote(
    scene: str,
    overrides: str,
    dataset: str,
    teacher: str,
    search: str,
    genotype: str,
    student: str,
    quality: str,
    latency: str,
    outcome: str,
    report: str = "",
    markdown: str = "",
) -> dict[str, float]:
    """The headline numbers, of the form that is served."""
    from distilrec.steps.promote import Inputs
    from distilrec.steps.promote import promote as run

    inputs = Inputs(*(Path(path) for path in (dataset, teacher, search, genotype, student, quality, latency)))

    def act(config: SceneConfig, adapters: Adapters) -> dict[str, float]:
        summary = run(config, inputs, Path(outcome), adapters)
        folder = _run_folder()
        copies = {folder / name: name for name in RESULTS} if folder else {}
        copies |= {Path(path): name for path, name in ((report, "report.html"), (markdown, "summary.md")) if path}
        for path, name in copies.items():
            copy_whole(Path(outcome) / name, path)
        served = summary["served"]
        return {
            "student_ndcg10": summary["ndcg10"][served["model"]]["value"],
            "teacher_ndcg10": summary["ndcg10"]["teacher"]["value"],
            "floor_ndcg10": max(summary["ndcg10"][name]["value"] for name in FLOORS),
            "p50_speedup": summary["p50_ratios"][f"teacher_onnx_over_{served['timed']}"]["value"],
            "promoted": float(summary["verdict"]["promote"]),
        }

    return _step("promote", scene, overrides, act, outcome, is_recorded=False)


def require_promotion(scene: str, overrides: str, is_required: bool, outcome: str) -> None:
    """After `promote`, whose outcome is kept: exits with 3 if a promotion was required and the student is held."""

    def act(config: SceneConfig, _: Adapters) -> None:
        manifest_of(Path(outcome), "promote")
        verdict = read_json(Path(outcome) / "summary.json")["verdict"]
        if is_required and not verdict["promote"]:
            reasons = [check["sentence"] for check in verdict["checks"] if check["passed"] is False]
            raise HeldError("DR-GATE-001", f"{config.scene} is held: {'; '.join(reasons)}")

    _step(REQUIRING, scene, overrides, act)


def _is_on_kubeflow() -> bool:
    return "KFP_RUN_ID" in os.environ


def _step(
    name: str,
    scene: str,
    overrides: str,
    action: Callable[[SceneConfig, Adapters], Result],
    out: str = "",
    is_recorded: bool = True,
) -> Result:
    """Run one step; what is refused becomes one sentence, `error.json` and an exit code. `out`: its folder, if it
    writes one, with or without a record of itself in the store."""
    folder = _run_folder()
    with _reported(folder, name), _terminable():
        config = load_scene(scene, overrides)
        if out:
            require_place(Path(out))
        processes = _joined(name)
        progress = Progress(folder, name, is_silent=processes.rank > 0)
        registry = _registry()
        tracking = Tracking(registry.server, registry.store, _origin())
        if tracking.origin.run and name not in (OPENING, CLOSING):
            Lease(registry.store, config.scene, tracking.origin.run).require()
        _fix_threads(name, config.threads)
        adapters = Adapters(registry.store, progress, registry, tracking, _BEGAN, processes)
        progress.say("start")
        result = action(config, adapters)
        if out and is_recorded and tracking.origin.run and processes.rank == 0:
            keep(config, Path(out), tracking)
            _log_kept(name, config.scene, adapters)
        progress.say("done", seconds=adapters.stamp(name, "")["seconds"])
        return result


def _log_kept(step: str, scene: str, adapters: Adapters) -> None:
    """After a training, whose time this is no share of. A server that is away costs nothing but the picture: `promote`
    draws it, or `distilrec track`."""
    if step in TRAININGS:
        try:
            with in_a_hurry():
                adapters.tracking.log(scene)
        except ArtifactError as error:
            adapters.progress.say("untracked", why=str(error))


def _origin() -> Origin:
    environment = os.environ
    kfp = environment.get("KFP_RUN_ID", "")
    tags = {"kfp.run_id": kfp} if kfp else {}
    if kfp and "KFP_UI" in environment:
        tags["kfp.run_url"] = f"{environment['KFP_UI'].rstrip('/')}/#/runs/details/{kfp}"
    return Origin(environment.get("DISTILREC_RUN", kfp), tags, environment.get("MLFLOW_RUN_ID", ""))


def _registry() -> Registry:
    store = _store()
    beside = store.root.parent if isinstance(store, LocalStore) else _runs()
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "") or f"sqlite:///{beside / 'mlflow.db'}"
    artifacts = os.environ.get("DISTILREC_MLFLOW_ARTIFACTS")
    local = Path(artifacts) if artifacts else beside / "mlartifacts"
    server = MlflowServer(tracking, local if tracking.startswith("sqlite:") else None)
    if not OF_MLFLOW.match(tracking):
        words = f"MLFLOW_TRACKING_URI is {server.where}: neither a server's address nor a database's"
        raise RunError("DR-REG-008", words)
    return Registry(server, store)


def _runs() -> Path:
    return Path(os.environ.get("DISTILREC_RUNS", "runs")).resolve()


def _where() -> str:
    """The store's place. Raises StoreError for one of a kind that there is not."""
    location = os.environ.get("DISTILREC_STORE", "") or str(_runs() / "store")
    if "://" in location and not location.startswith(SCHEME):
        raise StoreError("DR-STORE-007", f"DISTILREC_STORE is {location}: neither s3://bucket/folder nor a folder")
    return location


def _store() -> Store:
    location = _where()
    return S3Store(location) if location.startswith(SCHEME) else LocalStore(Path(location).resolve())


def _run_folder() -> Path | None:
    folder = os.environ.get("DISTILREC_RUN_DIR")
    return Path(folder) if folder else None


def _joined(step: str) -> Processes:
    """The processes that torchrun started for a training, or this one alone."""
    if step not in TRAININGS or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    import torch

    torch.distributed.init_process_group("gloo")
    world = torch.distributed
    return Processes(world.get_rank(), world.get_world_size(), world.all_reduce)


def _fix_threads(step: str, threads: int) -> None:
    if step in TRAININGS:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def _reported(folder: Path | None, step: str) -> Iterator[None]:
    try:
        yield
    except DistilrecError as error:
        if folder:
            write_json(folder / "error.json", {**error.as_dict(), "step": step})
        print(f"{error.code}: {error}. Fix: {error.fix}.", file=sys.stderr)
        sys.exit(error.exit_code)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that half-written folders are removed."""

    def stop(*_: object) -> None:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def planned(scene: str, overrides: str, as_of: str) -> dict[str, Any]:
    """What a run of this scene would do, from its data: counts, predicted seconds, checkpoints to reuse."""
    from distilrec.steps.plan import plan as run

    return asdict(run(load_scene(scene, overrides), as_of, _store()))


def doctor() -> "Iterator[Finding]":
    from distilrec.steps.doctor import doctor as run

    return run(_store, _registry, _kubeflow_as_found)


def track(run: str) -> list[tuple[str, str, str]]:
    """Log what is kept of a run, whatever was logged of it before, and show what was decided of its scenes.
    `run` is its folder, or its name in the store. Returns scene, MLflow run id and page or place of each."""
    described = Path(run) / "run.json"
    there = read_json(described) if described.is_file() else {"run": run}
    name = str(there.get("run", "")) if isinstance(there, dict) else ""
    registry = _registry()
    tracking = Tracking(registry.server, registry.store, Origin(name))
    scenes = sorted({record.scene for record in tracking.kept()}) if re.fullmatch(r"\w[\w.-]*", name) else []
    if not scenes:
        raise RunError("DR-RUN-006", f"{run} is no run of which {_where()} keeps a step")
    logged = [(scene, tracking.log(scene)) for scene in scenes]
    for scene in scenes:
        registry.project(scene)
    return [(scene, run_id, tracking.url(run_id) or registry.server.where) for scene, run_id in logged]


def compare(methods: list[list[str]], model: str) -> "list[Compared]":
    """Of each method its runs' folders; the first is what the others are compared with."""
    from distilrec.steps.compare import compare as run

    return run(methods, model)


def publish(run: str, location: str, tell: Callable[[int, int], None]) -> dict[str, str]:
    """Of a finished run's folder. Returns the sha256 of each file by name."""
    from distilrec.steps.publish import publish as act

    return act(Path(run), location, tell)


def history(scene: str) -> "list[Entry]":
    """Of the scene's promotions, oldest first."""
    from distilrec.steps.govern import history as run

    return run(_scene_name(scene), _registry())


def rollback(scene: str, because: str) -> "Entry":
    from distilrec.steps.govern import rollback as run

    return run(_scene_name(scene), because, _registry())


def approve(scene: str, version: str, because: str) -> "Entry":
    from distilrec.steps.govern import approve as run

    return run(_scene_name(scene), version, because, _registry())


def retire(scene: str, because: str) -> "Entry":
    from distilrec.steps.govern import retire as run

    return run(_scene_name(scene), because, _registry())


def _scene_name(scene: str) -> str:
    """`scene` is a name, or a YAML file."""
    return load_scene(scene).scene if scene.endswith((".yaml", ".yml")) else checked_name(scene)


def recommend(
    scene: str,
    history: list[str],
    k: int | None,
    exclude_seen: bool | None,
    exclude: list[str],
    allow: list[str],
    user: str | None = None,
) -> "Answer":
    """Of the scene's champion. `scene` is its name, or its YAML file."""
    from distilrec.steps.recommend import recommend as run

    return run(_scene_name(scene), history, k, exclude_seen, exclude, allow, user, _registry())


def plan_schedules(file: str, address: str) -> list[str]:
    """What `apply_schedules` would change, a line each. `address`: of Kubeflow Pipelines, or empty."""
    from distilrec.steps.schedules import plan

    found, _ = plan(Path(file), lambda namespace: _kubeflow(address, namespace))
    return found.lines()


def apply_schedules(file: str, address: str) -> Iterator[str]:
    """What `plan_schedules` says, then each change after it is made; nothing if there is none."""
    from distilrec.steps.schedules import apply, plan

    found, kubeflow = plan(Path(file), lambda namespace: _kubeflow(address, namespace))
    yield from found.lines()
    yield from apply(found, kubeflow)


def list_schedules(file: str, address: str) -> "list[Found]":
    from distilrec.steps.schedules import listed

    return listed(Path(file), lambda namespace: _kubeflow(address, namespace))


def _kubeflow_as_found() -> str:
    if "KF_PIPELINES_ENDPOINT" not in os.environ:
        return "none; KF_PIPELINES_ENDPOINT names it, if scenes are to run on a schedule"
    kubeflow = _kubeflow("", "any")  # nothing is asked of a namespace
    kubeflow.require_usable()
    return f"{kubeflow.where} answers"


def _kubeflow(address: str, namespace: str | None) -> "Kubeflow":
    from distilrec.io.kubeflow import Kubeflow

    file, token = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", ""), os.environ.get("KFP_TOKEN", "")
    try:
        token = Path(file).read_text(encoding="ascii") if file else token
    except (OSError, UnicodeDecodeError):
        raise KubeflowError("DR-KFP-001", f"the token file {file} cannot be read") from None
    return Kubeflow(address or os.environ.get("KF_PIPELINES_ENDPOINT", ""), token.strip(), namespace)
