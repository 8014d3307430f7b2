"""Writes what is generated and committed: compiled YAML, docs/errors.md, docs/settings.md, the tables in
docs/performance.md. `make golden`."""

import inspect
import json
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from benchmarks.derrd.recipes import RECIPES
from kfp import compiler
from pydantic import BaseModel

from distilrec import components
from distilrec.core.config import SceneConfig
from distilrec.core.errors import CATALOGUE
from distilrec.core.estimate import STEPS
from distilrec.pipelines.retrain_scene import retrain_scene

ROOT = Path(__file__).resolve().parents[1]
DERRD = "benchmarks/derrd"
DERRD_ROWS = {
    "teacher": "teacher",
    "student": "student",
    "rd": "RD",
    "cd": "CD",
    "rrd": "RRD",
    "rrd_top": "RRD, top items",
    "rrd_deep": "RRD, T 100",
    "de": "DE",
    "derrd": "DE-RRD",
    "derrd_deep": "DE-RRD, T 100",
}


def component_of(step: str) -> object:
    module = __import__(f"{components.__name__}.{step}", fromlist=[step])
    return getattr(module, step)


def compiled(what: object, folder: Path) -> str:
    """The YAML that Kubeflow Pipelines takes."""
    target = folder / "compiled.yaml"
    compiler.Compiler().compile(what, str(target))
    return target.read_text(encoding="utf-8")


def normalised(text: str) -> str:
    """Without what changes when a version does and nothing else."""
    return re.sub(r"(image: distilrec-python|sdkVersion: kfp)\S*", r"\1", text)


def golden_files() -> dict[Path, object]:
    names = ("open_run", *STEPS, "require_promotion", "close_run")
    files = {ROOT / "components" / name / "component.yaml": component_of(name) for name in names}
    return files | {ROOT / "pipelines" / "retrain_scene" / "pipeline.yaml": retrain_scene}


def errors_page() -> str:
    rows = "".join(f"| `{code}` | {kind.meaning} | {kind.fix} |\n" for code, kind in CATALOGUE.items())
    return (
        "# Errors\n\nEvery refusal is one sentence with one of these codes, on the terminal and in `error.json`.\n"
        "Exit codes: 0 done, 1 our fault, 2 the input, 3 held under `--require-promotion`, 130 interrupted.\n\n"
        f"| code | what happened | what to do |\n| --- | --- | --- |\n{rows}"
    )


def settings_page() -> str:
    """Every knob, from its one home."""
    sections = [
        "# Settings\n\nA scene is one YAML file with these keys. `--set teach.max_epochs=5` overrides one; "
        "what it sets has no spaces in it, so name the innermost key."
    ]
    sections += _section("", SceneConfig)
    return "\n\n".join(sections) + "\n"


def performance_page() -> str:
    """The hand-written page with its tables made from the committed measurements."""
    profile = _measurements("throughput").get("profile", {})
    shares = [
        f"| {model} | " + ", ".join(f"`{name}` {share:.0%}" for name, share in each.items()) + " |"
        for model, each in profile.items()
    ]
    profiled = ["| model | share of the time |", "| --- | --- |", *shares]
    return _page("performance.md", {"figures": _figures("throughput"), "profile": profiled})


def adarec_page() -> str:
    measured = _measurements("adarec")
    rows = [
        f"| {name} | {one['relative_bias']:.3f} ± {one['bias_standard_error']:.3f} | {one['relative_deviation']:.2f} |"
        for name, one in measured.get("estimators", {}).items()
    ]
    entropy = ["| seed | mean entropy of all choices, by epoch |", "| --- | --- |"]
    for seed, values in measured.get("searched", {}).get("mean_entropy", {}).items():
        entropy.append(f"| {seed} | {', '.join(f'{value:.2f}' for value in values)} |")
    estimators = ["| estimator | bias | deviation |", "| --- | ---: | ---: |", *rows]
    return _page("adarec.md", {"figures": _figures("adarec"), "entropy": entropy, "estimators": estimators})


def derrd_page() -> str:
    measured, published = _measurements("derrd"), json.loads((ROOT / DERRD / "published.json").read_text("utf-8"))
    tables = {base: _derrd_table(base, measured, published) for base in ("bpr", "neumf")}
    terms = {part: _terms_table(measured.get(part, {})) for part in ("terms", "terms_ml1m")}
    return _page("derrd.md", {"figures": _figures("derrd"), **tables, **terms})


def _derrd_table(base: str, measured: dict[str, Any], published: dict[str, Any]) -> list[str]:
    """A row of each method: measured, published, and what the authors' log of the same split says."""
    head = "| | seeds | H@5 | H@10 | H@20 | N@10 | paper H@5 | H@10 | N@10 | log H@5 | whole H@10 | N@10 | epochs |"
    lines = [head, "| --- |" + " ---: |" * 12]
    for name, title in DERRD_ROWS.items():
        if name not in RECIPES[base]:
            continue
        rows = measured.get(f"{base}.{name}", {}).get("rows", [])
        ours = [_mean_of(rows, "sampled", metric) for metric in ("hr@5", "hr@10", "hr@20", "ndcg@10")]
        paper = published["table"][base].get(name, {})
        log = published["logs"].get(base, {}).get(name, {})
        theirs = [_short(one) for one in (paper.get("h5"), paper.get("h10"), paper.get("n10"), log.get("h5"))]
        whole = [_mean_of(rows, "whole", metric) for metric in ("hr@10", "ndcg@10")]
        epochs = ", ".join(str(row["epochs"]) for row in rows)
        cells = [title, str(len(rows)), *ours, *theirs, *whole, epochs]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _terms_table(rows: dict[str, list[dict[str, float]]]) -> list[str]:
    """Means over the seeds that are there."""
    if not rows:
        return ["Nothing is measured yet."]
    lines = ["| terms | seeds | validation NDCG@10 | test NDCG@10 | seconds |", "| --- |" + " ---: |" * 4]
    for name, seeds in rows.items():
        valid, test, seconds = (sum(row[key] for row in seeds) / len(seeds) for key in ("valid", "test", "seconds"))
        lines.append(f"| {name} | {len(seeds)} | {valid:.4f} | {test:.4f} | {seconds:.0f} |")
    return lines


def _mean_of(rows: list[dict[str, Any]], ranking: str, metric: str) -> str:
    return _short(sum(row[ranking][metric] for row in rows) / len(rows)) if rows else ""


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".removeprefix("0")


def dnsrec_page() -> str:
    return _page("dnsrec.md", {"figures": _figures("dnsrec")})


def serving_page() -> str:
    return _page("serving.md", {"figures": _figures("latency")})


def _measurements(benchmark: str) -> dict[str, Any]:
    path = ROOT / "benchmarks" / benchmark / "measurements.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _figures(benchmark: str) -> list[str]:
    path = ROOT / "benchmarks" / benchmark / "results.json"
    if not path.is_file():
        return ["Nothing is measured yet."]
    results = json.loads(path.read_text(encoding="utf-8"))
    rows = ["| figure | value | 95 % interval | |", "| --- | ---: | --- | --- |"]
    for name, figure in results["figures"].items():
        interval = " to ".join(f"{end:.4g}" for end in figure.get("interval", []))
        rows.append(f"| `{name}` | {figure['value']:.4g} {figure['unit']} | {interval} | {figure['note']} |")
    machine, versions = results["machine"], results["versions"]
    rows.append(
        f"\n{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, {machine['memory_gb']:.0f} GB; "
        f"torch {versions['torch']}, Python {versions['python']}; {results['date']}."
    )
    return rows


def _page(page_name: str, tables: dict[str, list[str]]) -> str:
    page = (ROOT / "docs" / page_name).read_text(encoding="utf-8")
    for name, lines in tables.items():
        block = f"<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- end of {name} -->"
        page = re.sub(f"<!-- {name} -->.*?<!-- end of {name} -->", lambda _, text=block: text, page, flags=re.DOTALL)
    return page


def _section(prefix: str, kind: type[BaseModel]) -> list[str]:
    rows, below = [], []
    for name, field in kind.model_fields.items():
        branches = [one for one in (field.annotation, *get_args(field.annotation)) if _is_config(one)]
        if not branches:
            default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
            of_one = get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else field.annotation
            choices = get_args(of_one) if get_origin(of_one) is Literal else ()
            limits = ", ".join([*(_limit(one) for one in field.metadata if _limit(one)), *map(str, choices)])
            meaning = " ".join((field.description or "").split())
            rows.append(f"| `{prefix}{name}` | {default} | {limits} | {meaning} |")
        for branch in branches:
            about = [inspect.cleandoc(text) for text in (field.description, branch.__doc__) if text]
            below.append("\n\n".join([f"## {prefix}{name}: {branch.__name__}", *about]))
            below += _section(f"{prefix}{name}.", branch)
    table = "\n".join(["| key | default | range | |", "| --- | --- | --- | --- |", *rows])
    return [table, *below] if rows else below


def _is_config(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _limit(constraint: object) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return ", ".join(f"{sign} {getattr(constraint, key)}" for key, sign in signs.items() if hasattr(constraint, key))


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for path, what in golden_files().items():
            text = compiled(what, Path(folder))
            assert list(yaml.safe_load_all(text))
            path.write_text(text, encoding="utf-8")
    (ROOT / "docs" / "errors.md").write_text(errors_page(), encoding="utf-8")
    (ROOT / "docs" / "settings.md").write_text(settings_page(), encoding="utf-8")
    (ROOT / "docs" / "performance.md").write_text(performance_page(), encoding="utf-8")
    (ROOT / "docs" / "adarec.md").write_text(adarec_page(), encoding="utf-8")
    (ROOT / "docs" / "derrd.md").write_text(derrd_page(), encoding="utf-8")
    (ROOT / "docs" / "serving.md").write_text(serving_page(), encoding="utf-8")
    (ROOT / "docs" / "dnsrec.md").write_text(dnsrec_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
