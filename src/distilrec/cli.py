"""The command line. The eight steps have their pipeline names; `run` runs them all."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from distilrec import __version__
from distilrec.core.errors import DistilrecError, HeldError, KubeflowError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn a scene's interaction log into a small, fast student.",
)

schedules = typer.Typer(no_args_is_help=True, help="When Kubeflow runs which scene, from one file.")
app.add_typer(schedules, name="schedules")

INTERRUPTED = 130

Scenes = Annotated[list[str], typer.Argument(metavar="SCENE.yaml...", help="One or more scene files.")]
Scene = Annotated[str, typer.Option(help="The scene: a YAML file, or YAML text.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as teach.max_epochs=5.")
]
AsOf = Annotated[str, typer.Option(help="Only events before this ISO 8601 date or time.")]
SceneOrName = Annotated[str, typer.Argument(metavar="SCENE", help="The scene's name, or its YAML file.")]
Runs = Annotated[
    Path, typer.Option(envvar="DISTILREC_RUNS", help="Folder of all runs, the store and the tracking database.")
]
File = Annotated[str, typer.Option(help="The schedules.")]
Kfp = Annotated[
    str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", metavar="URL", help="The address of Kubeflow Pipelines.")
]
Folder = Annotated[str, typer.Option(help="A folder that a step wrote, or will write.")]


def _text(overrides: list[str] | None) -> str:
    return " ".join(overrides or [])


def _version(wanted: bool) -> None:
    if wanted:
        print(f"distilrec {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Turn a scene's interaction log into a small, fast student."""


@app.command()
def run(
    scenes: Scenes,
    out: Annotated[Path | None, typer.Option(help="The run's folder; by default named by scene and content.")] = None,
    overrides: Set = None,
    as_of: AsOf = "",
    runs: Runs = Path("runs"),
    require_promotion: Annotated[bool, typer.Option(help="Exit with 3 if the gate holds a student.")] = False,
) -> None:
    """Run the whole pipeline for each scene on this machine. The same command again resumes."""
    from distilrec.display import RunDisplay, console, print_plan, print_result
    from distilrec.entry import planned, release
    from distilrec.io.locks import locked
    from distilrec.io.scenes import load_scene
    from distilrec.runner import join, last_words, open_run, run_scene

    configs = [load_scene(scene, _text(overrides)) for scene in scenes]
    _store_in(runs)
    plans = {
        config.scene: planned(scene, _text(overrides), as_of) for config, scene in zip(configs, scenes, strict=True)
    }
    opened = open_run(configs, as_of, runs, out)
    exit_code = 0
    with locked(opened.folder) as lock:
        for scene in opened.scenes:
            if scene.is_finished():
                print(f"{scene.config.scene}: finished already in {scene.folder}; choose another --out to run it again")
                if require_promotion and not scene.summary()["verdict"]["promote"]:
                    exit_code = exit_code or HeldError.exit_code
                continue
            print_plan([plans[scene.config.scene]])
            try:
                with RunDisplay(scene.config.scene, plans[scene.config.scene]["predicted_seconds"]) as display:
                    outcome = run_scene(opened, scene, require_promotion, lock, display.watch)
            except KeyboardInterrupt:
                release(scene.config.scene, opened.name)
                print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
                sys.exit(INTERRUPTED)
            except BaseException:  # such as a closed pipe: nothing runs any more that could give the scene back
                release(scene.config.scene, opened.name)
                raise
            if outcome.error:
                _say(outcome.error["code"], f"{scene.config.scene}: {outcome.error['sentence']}", outcome.error["fix"])
            elif outcome.exit_code:
                release(scene.config.scene, opened.name)
                print(last_words(scene), file=sys.stderr)
                print(
                    f"{scene.config.scene}: the pipeline failed; see {scene.folder / 'pipeline.log'}", file=sys.stderr
                )
            exit_code = exit_code or outcome.exit_code
        if any(scene.is_finished() for scene in opened.scenes):
            report = join(opened)
            print_result([scene.summary() for scene in opened.scenes if scene.is_finished()])
            console.print(f"\nreport: {report}", soft_wrap=True, highlight=False)
    sys.exit(exit_code)


@app.command()
def plan(scenes: Scenes, overrides: Set = None, as_of: AsOf = "", runs: Runs = Path("runs")) -> None:
    """Say what `run` would do, what it would reuse and about how long it would take."""
    from distilrec.display import print_plan
    from distilrec.entry import planned

    _store_in(runs)
    print_plan([planned(scene, _text(overrides), as_of) for scene in scenes])


@app.command()
def recommend(
    scene: SceneOrName,
    history: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="What the user had, one after the other, the newest last.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="How many items; by default ten.")] = None,
    exclude_seen: Annotated[
        bool | None, typer.Option("--exclude-seen/--keep-seen", help="By default as the scene was evaluated.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="ID", help="Never recommend this item.")] = None,
    allow: Annotated[list[str] | None, typer.Option(metavar="ID", help="Recommend only this item, or these.")] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Who asks, where the model knows users and not histories.")
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Ask the scene's champion for recommendations."""
    from distilrec.display import print_answer
    from distilrec.entry import recommend as ask

    _store_in(runs)
    answer = ask(scene, history or [], k, exclude_seen, exclude or [], allow or [], user)
    print_answer(answer.scene, answer.version, answer.recommendation, answer.titles)


@app.command()
def doctor(runs: Runs = Path("runs")) -> None:
    """Look at what is installed, reachable and permitted here, and say how to mend what is not."""
    from distilrec.display import print_finding
    from distilrec.entry import doctor as look

    _store_in(runs)
    is_well = True
    for finding in look():
        print_finding(finding.name, finding.is_well, finding.sentence, finding.fix)
        is_well = is_well and finding.is_well
    sys.exit(0 if is_well else 2)


@app.command()
def compare(
    methods: Annotated[
        list[str],
        typer.Argument(metavar="RUN[,RUN...]...", help="A method's runs, by their folders; several are its seeds."),
    ],
    model: Annotated[str, typer.Option(help="Such as student, student_int8 or teacher.")] = "student",
) -> None:
    """Compare models of several runs on the same test users: each method with the first one."""
    from distilrec import entry
    from distilrec.display import print_comparison

    print_comparison(entry.compare([method.split(",") for method in methods], model), model)


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    location: Annotated[str, typer.Argument(metavar="s3://BUCKET/FOLDER")],
) -> None:
    """Copy a finished run to a bucket, its manifest last."""
    from distilrec import entry
    from distilrec.display import counted

    with counted("publishing") as tell:
        files = entry.publish(str(run), location, tell)
    print(f"{len(files)} files in {location}; manifest.json lists them")


@app.command()
def compile(
    target: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml", help="The file to write.")],
    lock: Annotated[Path, typer.Option(help="What `make images` wrote.")] = Path("images.lock"),
    tasks: Annotated[
        Path | None,
        typer.Option(help="YAML that changes what tasks are given: processors, memory, accelerators, nodes."),
    ] = None,
    backfill: Annotated[bool, typer.Option(help="The pipeline for many scenes instead of that for one.")] = False,
) -> None:
    """Write the pipeline for Kubeflow, its image by the digest that was pushed."""
    from distilrec.core.tasks import TASKS
    from distilrec.io.compiled import locked_image, read_tasks

    image, table = locked_image(lock), read_tasks(tasks) if tasks else TASKS
    if not find_spec("kfp"):
        raise KubeflowError("DR-KFP-006", "kfp is not installed, with which the pipeline is compiled")
    from distilrec.pipelines.compiling import compile_pipeline

    compile_pipeline(target, image, table, backfill)
    print(f"{len(table)} tasks of {image} in {target}")


@app.command()
def track(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name in the store.")],
    runs: Runs = Path("runs"),
) -> None:
    """Show a run in MLflow, and what was decided of its scenes, from what the store keeps."""
    from distilrec import entry

    _store_in(runs)
    for scene, run_id, where in entry.track(run):
        print(f"{scene}: MLflow run {run_id}, {where}")


@app.command()
def models(scene: SceneOrName, runs: Runs = Path("runs")) -> None:
    """List what was decided about a scene's models, by whom and why."""
    from distilrec.display import print_history
    from distilrec.entry import history

    _store_in(runs)
    print_history(history(scene))


@app.command()
def rollback(
    scene: SceneOrName,
    because: Annotated[str, typer.Option(help="Why, for the log.")] = "rolled back by hand",
    runs: Runs = Path("runs"),
) -> None:
    """Put the version before the champion in charge again."""
    from distilrec.display import print_history
    from distilrec.entry import rollback as back

    _store_in(runs)
    print_history([back(scene, because)])


@app.command()
def retire(
    scene: SceneOrName,
    because: Annotated[str, typer.Option(help="Why, for the log.")],
    runs: Runs = Path("runs"),
) -> None:
    """Put no version in charge: for a champion that is lost. The next student is compared with none."""
    from distilrec.display import print_history
    from distilrec.entry import retire as run

    _store_in(runs)
    print_history([run(scene, because)])


@app.command()
def approve(
    scene: SceneOrName,
    version: Annotated[str, typer.Option(help="The registered version.")],
    because: Annotated[str, typer.Option(help="Why, for the log.")],
    runs: Runs = Path("runs"),
) -> None:
    """Put a version in charge whatever the gate said; the log says who did and why."""
    from distilrec.display import print_history
    from distilrec.entry import approve as allow

    _store_in(runs)
    print_history([allow(scene, version, because)])


@app.command()
def release(scene: SceneOrName, runs: Runs = Path("runs")) -> None:
    """Give a scene back for a run that ended without doing so itself, so that another may begin."""
    from distilrec import entry

    _store_in(runs)
    holder = entry.release(scene)
    print(f"{scene}: given back for {holder}" if holder else f"{scene}: no run has it")


@app.command()
def fetch(dataset: Annotated[str, typer.Argument(metavar="movielens-1m")]) -> None:
    """Download the demo's data into the user's cache folder."""
    from distilrec.core.errors import ConfigError
    from distilrec.io import movielens

    if dataset != "movielens-1m":
        raise ConfigError("DR-CONF-003", f"dataset {dataset!r} is not one that can be fetched; there is movielens-1m")
    print(movielens.LICENCE_NOTE)
    print(f"data: {movielens.fetch()}")


@app.command()
def prepare(scene: Scene, dataset: Folder, overrides: Set = None, as_of: AsOf = "") -> None:
    """Turn raw interactions into a dataset with floors."""
    from distilrec import entry

    entry.prepare(scene, _text(overrides), as_of, dataset)


@app.command()
def teach(scene: Scene, dataset: Folder, teacher: Folder, overrides: Set = None) -> None:
    """Train the teacher."""
    from distilrec import entry

    entry.teach(scene, _text(overrides), dataset, teacher)


@app.command()
def search(scene: Scene, dataset: Folder, teacher: Folder, search: Folder, overrides: Set = None) -> None:
    """Search the student's architecture by gradient."""
    from distilrec import entry

    entry.search(scene, _text(overrides), dataset, teacher, search)


@app.command()
def profile(
    scene: Scene,
    dataset: Folder,
    latency_table: Annotated[str, typer.Option(help="The file to write, for search.latency_table.")],
    overrides: Set = None,
) -> None:
    """Measure what each part of a student adds to its request, on this machine."""
    from distilrec import entry

    table = entry.profile(scene, _text(overrides), dataset, latency_table)
    print(f"rest of a request {table.rest_ms:.3f} ms, a layer {table.cell_ms:.3f} ms, and its parts:")
    for name, milliseconds in table.operation_ms.items():
        print(f"  {name:<22} {milliseconds:.3f} ms")
    print(f"typical error on students it was not fitted to: {table.error:.1%}; written to {latency_table}")


@app.command()
def derive(scene: Scene, search: Folder, genotype: Folder, overrides: Set = None) -> None:
    """Derive the genotype from the search."""
    from distilrec import entry

    entry.derive(scene, _text(overrides), search, genotype)


@app.command()
def retrain(
    scene: Scene, dataset: Folder, teacher: Folder, genotype: Folder, student: Folder, overrides: Set = None
) -> None:
    """Train the derived student with distillation; export it and its teacher."""
    from distilrec import entry

    entry.retrain(scene, _text(overrides), dataset, teacher, genotype, student)


@app.command()
def evaluate(scene: Scene, dataset: Folder, student: Folder, quality: Folder, overrides: Set = None) -> None:
    """Measure teacher, student, champion and floors on the same test users."""
    from distilrec import entry

    entry.evaluate(scene, _text(overrides), dataset, student, quality)


@app.command()
def benchmark(scene: Scene, teacher: Folder, student: Folder, latency: Folder, overrides: Set = None) -> None:
    """Count and time teacher and student."""
    from distilrec import entry

    entry.benchmark(scene, _text(overrides), teacher, student, latency)


@app.command()
def promote(
    scene: Scene,
    dataset: Folder,
    teacher: Folder,
    search: Folder,
    genotype: Folder,
    student: Folder,
    quality: Folder,
    latency: Folder,
    outcome: Folder,
    overrides: Set = None,
    require_promotion: Annotated[bool, typer.Option(help="Exit with 3 if the gate holds the student.")] = False,
) -> None:
    """Decide, register, record, and write the scene's summary and report."""
    from distilrec import entry

    paths = (dataset, teacher, search, genotype, student, quality, latency, outcome)
    entry.promote(scene, _text(overrides), *paths)
    entry.require_promotion(scene, _text(overrides), require_promotion, outcome)


@schedules.command("plan")
def plan_schedules(file: File = "schedules.yaml", kfp: Kfp = "") -> None:
    """Say what `apply` would change."""
    from distilrec import entry

    for line in entry.plan_schedules(file, kfp) or ["nothing is scheduled"]:
        print(line)


@schedules.command("apply")
def apply_schedules(file: File = "schedules.yaml", kfp: Kfp = "") -> None:
    """Bring Kubeflow to what the file says. Interrupted or refused half way, the same command goes on."""
    from distilrec import entry

    for line in entry.apply_schedules(file, kfp):
        print(line, flush=True)


@schedules.command("list")
def list_schedules(file: File = "schedules.yaml", kfp: Kfp = "") -> None:
    """List the recurring runs that distilrec made in the file's experiment."""
    from distilrec.display import print_schedules
    from distilrec.entry import list_schedules as ask

    print_schedules(ask(file, kfp))


def _store_in(runs: Path) -> None:
    """The store, and the tracking database beside it, unless the environment names others."""
    os.environ.setdefault("DISTILREC_STORE", str(runs.resolve() / "store"))
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{runs.resolve() / 'mlflow.db'}")
    os.environ.setdefault("DISTILREC_MLFLOW_ARTIFACTS", str(runs.resolve() / "mlartifacts"))


def _say(code: str, sentence: str, fix: str) -> None:
    print(f"{code}: {sentence}. Fix: {fix}.", file=sys.stderr)


def main() -> None:
    """Errors we know become one sentence and their exit code; a traceback is a bug."""
    try:
        app()
    except DistilrecError as error:
        _say(error.code, str(error), error.fix)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
