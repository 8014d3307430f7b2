"""promote: put everything together, decide, register, record, and write the scene's summary and report."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from distilrec.core.config import SceneConfig, Serve
from distilrec.core.floors import FLOORS
from distilrec.core.gate import PROMOTED, Champion, Check, Evidence, Verdict, decide
from distilrec.core.metrics import VARIANTS, Interval
from distilrec.io.accounts import ACCOUNTED, Account, keep_account, last_account
from distilrec.io.jsons import read_json, write_json
from distilrec.io.machine import versions
from distilrec.io.page import render_markdown, render_page
from distilrec.io.promotions import Entry, asked_by, entry_after
from distilrec.io.rankers import open_ranker
from distilrec.io.registry import RankerFacts
from distilrec.io.report import SceneReport, render_scene
from distilrec.io.store import MANIFEST, manifest_of, sha256_of, whole_folder
from distilrec.io.tracking import Tracking
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.inputs import MADE_FROM, manifest_of_dataset, require_made_from
from distilrec.steps.tracked import history_in, record_of

SUMMARY_SCHEMA = 5
EXAMPLE_LENGTH = 3
LATENCY_LEEWAY = 1.15
"""Measured latency over the budget, before the report warns: the table is an estimate."""
AS_RELEASED = (
    "This student was searched and trained as AdaRec's public code does it, faults included: operations that see the "
    "label, reversed divergences, constant costs, noisy validation, no distillation in the last stage. "
    "It is for comparison; do not serve it."
)
COUNTED = ("counts", "counts_before_filtering", "num_duplicates", "filter_rounds", "share_of_repeats")
OF_DATA = ("as_of", "sha256", *COUNTED, "split", "asked")
"""Of the dataset's manifest, what the summary repeats; one of before does not say how many rows were said twice."""
UNDECIDED = 0.95
"""Mean entropy of the choices; 1 is uniform."""


@dataclass(frozen=True)
class Inputs:
    """The folders that the earlier steps wrote."""

    dataset: Path
    teacher: Path
    search: Path
    genotype: Path
    student: Path
    quality: Path
    latency: Path

    def manifests(self) -> dict[str, dict[str, Any]]:
        """By step, verified, and each of them made from the others.

        Raises:
            ArtifactError: one is of another step, or was made from something else.
        """
        folders = {
            "prepare": self.dataset,
            "teach": self.teacher,
            "search": self.search,
            "derive": self.genotype,
            "retrain": self.student,
            "evaluate": self.quality,
            "benchmark": self.latency,
        }
        manifests = {"prepare": manifest_of_dataset(self.dataset)}
        manifests |= {step: manifest_of(folder, step) for step, folder in folders.items() if step not in manifests}
        for step, others in MADE_FROM.items():
            require_made_from(folders[step], manifests[step], {name: manifests[name] for name in others})
        return manifests


def promote(config: SceneConfig, inputs: Inputs, out: Path, adapters: Adapters) -> dict[str, Any]:
    """Writes summary.json, section.html, report.html and summary.md. Returns the summary."""
    manifests = inputs.manifests()
    contents = [str(manifest["content"]) for manifest in manifests.values()]
    content = content_of("gate", config, *contents, config.serve.model_dump(mode="json"))
    folders = {"teach": inputs.teacher, "search": inputs.search, "retrain": inputs.student}
    histories = {step: history_in(folder) for step, folder in folders.items()}
    summary = _measured(config, inputs, manifests, histories["search"]) | {"content": content}
    run_id = _tracked(config, summary, manifests, histories, adapters)
    asked = asked_by(adapters.tracking.origin.run, str(manifests["retrain"]["content"]))
    asked = asked or f"{content}/{sha256_of(inputs.quality / MANIFEST)}"
    entry = _decision(config, summary, asked, lambda: _register(config, inputs, summary, run_id, adapters), adapters)
    adapters.registry.project(config.scene)
    verdict = _verdict_in(entry)
    summary["verdict"] = {
        "word": verdict.word,
        "promote": verdict.promote,
        "version": entry.version,
        "champion": entry.champion,
        "checks": [asdict(check) for check in verdict.checks],
    }
    summary["mlflow"] = {"run_id": run_id, "url": adapters.tracking.url(run_id)}
    summary["standing"] = _standing(summary)
    manifests["promote"] = adapters.stamp("promote", content)
    account = Account(_named(config, content, adapters).origin.run, _spent(manifests))
    before = last_account(adapters.store, config.scene)
    summary |= {**account.spent, "last_run": asdict(before) if before and before.run != account.run else None}
    section = render_scene(_scene_report(summary, inputs, histories))
    with whole_folder(out) as folder:
        write_json(folder.path / "summary.json", summary)
        (folder.path / "section.html").write_text(section, encoding="utf-8")
        page = render_page(f"distilrec: {config.scene}", [section], [summary])
        (folder.path / "report.html").write_text(page, encoding="utf-8")
        (folder.path / "summary.md").write_text(render_markdown([summary]), encoding="utf-8")
        folder.manifest.update(adapters.stamp("promote", content))
    keep_account(adapters.store, config.scene, account)
    return summary


def _named(config: SceneConfig, content: str, adapters: Adapters) -> Tracking:
    return adapters.tracking.named(f"{config.scene}-{content}")


def _spent(manifests: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By measure and step."""
    return {name: {step: float(manifest[name]) for step, manifest in manifests.items()} for name in ACCOUNTED}


def _measured(
    config: SceneConfig, inputs: Inputs, manifests: dict[str, dict[str, Any]], search_history: list[dict[str, Any]]
) -> dict[str, Any]:
    """The summary as far as it is known before the decision."""
    quality, latency = read_json(inputs.quality / "quality.json"), read_json(inputs.latency / "latency.json")
    found = read_json(inputs.search / "choice.json")
    first, last = (_entropies(search_history[index]) for index in (0, -1))
    return {
        "schema_version": SUMMARY_SCHEMA,
        "scene": config.scene,
        "data": {key: manifests["prepare"][key] for key in OF_DATA if key in manifests["prepare"]},
        **quality,
        **latency,
        "genotype": read_json(inputs.genotype / "genotype.json"),
        "served": {"model": config.serve.evaluated, "timed": config.serve.timed},
        "export": read_json(inputs.student / "export.json"),
        "warnings": _warnings(config, latency, _mean(last)),
        "search": {
            **{key: found[key] for key in ("rows", "limits")},
            "predicted": _predicted(found["predicted_cost"], latency),
            "mean_entropy_first": _mean(first),
            "mean_entropy_last": _mean(last),
            "entropy_last": last,
            "cost_weight_last": search_history[-1]["cost_weight"],
        },
        "trained_seconds": {
            step: manifest["trained_seconds"] for step, manifest in manifests.items() if "trained_seconds" in manifest
        },
        "padding": {step: manifest["padding"] for step, manifest in manifests.items() if "padding" in manifest},
        "config": config.model_dump(mode="json"),
        "versions": versions(),
    }


def _warnings(config: SceneConfig, latency: dict[str, Any], entropy: float) -> list[str]:
    """Of what the gate does not judge."""
    asked, p50_ms = config.search.budget.p50_ms, latency["latency"][config.serve.timed]["p50_ms"]
    found = [AS_RELEASED] if config.search.space == "adarec-as-released" else []
    if config.search.space != "fixed" and entropy > UNDECIDED:
        found.append(
            f"The search has hardly decided: the mean entropy of its choices ended at {entropy:.2f}, where 1 is "
            "uniform. More epochs, or more data, would let it."
        )
    if not config.teach.knows_users and not latency["cost"]["student"]["encoder_macs"]:
        found.append("The student computes nothing on a history: its answer depends on the newest item alone.")
    if asked is not None and p50_ms > LATENCY_LEEWAY * asked:
        found.append(f"The p50 that was asked for is {asked:.3f} ms; measured it is {p50_ms:.3f} ms.")
    return found


def _mean(values: list[float]) -> float:
    """0 where nothing was to be decided."""
    return float(np.mean(values)) if values else 0.0


def _entropies(record: dict[str, Any]) -> list[float]:
    return [float(value) for values in record["entropy"].values() for value in values]


def _predicted(predicted: dict[str, float], latency: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """What the search took the student to cost, beside what it costs, None for joules where the machine does not count
    them; edges that derivation pruned are in the first."""
    cost = latency["cost"]["student"]
    measured = {
        "params": float(cost["encoder_params"]),
        "macs": float(cost["encoder_macs"]),
        "p50_ms": float(latency["latency"]["student_onnx"]["p50_ms"]),
        "joules": latency["footprint"]["student_onnx"]["joules_per_1000_requests"],
    }
    return {measure: {"predicted": value, "measured": measured[measure]} for measure, value in predicted.items()}


def _evidence(summary: dict[str, Any], serve: Serve) -> Evidence:
    champion = summary["champion"]
    return Evidence(
        student_over_teacher=Interval(**summary["student_over_teacher"]),
        student_ndcg10=summary["ndcg10"][serve.evaluated]["value"],
        floors_ndcg10={words: summary["ndcg10"][name]["value"] for name, words in FLOORS.items()},
        speedup=Interval(**summary["p50_ratios"][serve.speedup]),
        num_test_users=summary["num_test_users"],
        as_of=summary["data"]["as_of"],
        champion=Champion(**{**champion, "change": Interval(**champion["change"])}) if champion else None,
        int8_loss=summary["int8_loss"] if serve.variant == "int8" else None,
        index_recall=summary["index_recall"],
    )


def _still_comparable(verdict: Verdict, evaluated: dict[str, Any] | None, present: Entry | None) -> Verdict:
    """Hold if the scene's champion changed since it was evaluated."""
    was, now = evaluated["version"] if evaluated else "", present.champion if present else ""
    if was == now:
        return verdict
    sentence = (
        f"the champion changed from version {was or 'none'} to {now or 'none'} since the evaluation; evaluate again"
    )
    return Verdict(False, (*verdict.checks, Check("champion_unchanged", False, sentence)))


def _outcome(summary: dict[str, Any]) -> dict[str, float]:
    """The run's metrics."""
    ratios = {f"p50.{name}": float(ratio["value"]) for name, ratio in summary["p50_ratios"].items()}
    quality = {
        f"{model}.{variant}.{metric.replace('@', '_at_')}": float(value)
        for model, variants in summary["models"].items()
        for variant, metrics in variants.items()
        for metric, value in metrics.items()
    }
    return {**quality, **ratios, "student_over_teacher": float(summary["student_over_teacher"]["value"])}


def _tracked(
    config: SceneConfig, summary: dict[str, Any], manifests: dict[str, dict[str, Any]],
    histories: dict[str, list[dict[str, Any]]], adapters: Adapters,
) -> str:  # fmt: skip
    """The whole run, with the steps that kept no record: Kubeflow took their outputs from another run. Returns its
    MLflow id."""
    tracking = _named(config, str(summary["content"]), adapters)
    origin = tracking.origin_of_the_run()
    for step, manifest in manifests.items():
        tracking.keep_missing(record_of(config, origin, manifest, histories.get(step, [])))
    last = adapters.stamp("promote", str(summary["content"]), **summary["data"])
    tracking.keep(record_of(config, tracking.origin, last, outcome=_outcome(summary)))
    return tracking.log(config.scene)


def _register(config: SceneConfig, inputs: Inputs, summary: dict[str, Any], run_id: str, adapters: Adapters) -> str:
    """Register what was evaluated. Returns the version."""
    with tempfile.TemporaryDirectory() as folder:
        ranker = Path(folder) / "ranker"
        shutil.copytree(inputs.student / "rankers" / config.serve.timed, ranker)
        opened = open_ranker(ranker)
        facts = RankerFacts(
            example=tuple(opened.ids[:EXAMPLE_LENGTH]),
            exclude_seen=opened.exclude_seen,
            default_k=opened.default_k,
            has_index=opened.index is not None,
            example_users=tuple(opened.users.ids[:1]) if opened.users else (),
        )
        artifacts = {
            "ranker": ranker,
            "weights": inputs.student / "weights.safetensors",
            "genotype": inputs.student / "genotype.json",
        }
        tags = {
            "content": summary["content"],
            "as_of": summary["data"]["as_of"],
            "data.sha256": summary["data"]["sha256"],
        }
        return adapters.registry.register(config.scene, run_id, artifacts, facts, tags)


def _decision(
    config: SceneConfig, summary: dict[str, Any], asked: str, register: Callable[[], str], adapters: Adapters
) -> Entry:
    """The log's entry on this student, made once: a later attempt takes it as it stands, with its version.

    This very decision is the one that the same run made on the same student; without a run's name, on the same
    evaluation, the very folder, with the same gate. Another run decides anew, be it on the same student: the champion
    may be another by then, or this student was rolled back.
    """
    made = [entry for entry in adapters.registry.log(config.scene).history() if entry.asked_by == asked]
    return made[0] if made else _commit(config, summary, asked, register(), adapters)


def _commit(config: SceneConfig, summary: dict[str, Any], asked: str, version: str, adapters: Adapters) -> Entry:
    """The gate's verdict upon the newest entry of the log, as its next one. Who loses a race for the number decides
    again: the champion may be another now."""
    judged = decide(_evidence(summary, config.serve), config.gate, config.serve)

    def decided(before: Entry | None) -> Entry:
        verdict = _still_comparable(judged, summary["champion"], before)
        champion, as_of, content, rollback = "", "", "", ""
        if before:
            champion, as_of, content = before.champion, before.champion_as_of, before.champion_content
            rollback = before.rollback
        if verdict.promote:
            rollback = champion
            champion, as_of, content = version, summary["data"]["as_of"], summary["content"]
        reasons = tuple(check.sentence for check in verdict.checks)
        entry = entry_after(before, config.scene, version, verdict.word, reasons, champion, as_of, content, rollback)
        passed = {check.name: check.passed for check in verdict.checks}
        return replace(entry, asked_by=asked, passed=passed)

    return adapters.registry.log(config.scene).commit(decided)


def _verdict_in(entry: Entry) -> Verdict:
    """The gate's, as the log keeps it."""
    checks = zip(entry.passed.items(), entry.reasons, strict=True)
    return Verdict(entry.verdict == PROMOTED, tuple(Check(name, passed, words) for (name, passed), words in checks))


def _standing(summary: dict[str, Any]) -> str:
    """Where teacher and student stand against counting, in both variants, in one sentence."""
    parts = []
    for variant in VARIANTS:
        floor, words = max((summary["models"][name][variant]["ndcg@10"], words) for name, words in FLOORS.items())
        sides = [
            f"the {name.replace('_', ', ')} ({summary['models'][name][variant]['ndcg@10']:.4f}) is "
            + ("above" if summary["models"][name][variant]["ndcg@10"] > floor else "not above")
            for name in ("teacher", summary["served"]["model"])
        ]
        parts.append(f"with seen items {variant} {' and '.join(sides)} the floor ({words}, {floor:.4f})")
    return f"NDCG@10 on test: {'; '.join(parts)}."


def _scene_report(summary: dict[str, Any], inputs: Inputs, histories: dict[str, list[dict[str, Any]]]) -> SceneReport:
    headline = summary["conditions"]
    picked = [("threads", "=", headline["threads"]), ("batch_size", "=", headline["batch_size"])]
    samples = pq.read_table(inputs.latency / "samples_ms.parquet", filters=picked)
    names, whole = samples["candidate"].to_numpy(), samples["whole"].to_numpy()
    return SceneReport(
        summary=summary,
        genotype_svg=(inputs.genotype / "genotype.svg").read_text(encoding="utf-8"),
        histories=histories,
        samples_ms={name: whole[names == name] for name in summary["latency"]},
        examples=read_json(inputs.quality / "examples.json"),
    )
