"""One scene's section of the report: a reader of the summary and of what the steps wrote."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilrec.core.rows import Row
from distilrec.io.page import template
from distilrec.io.pictures import (
    architecture_curves,
    latency_distribution,
    quality_against_latency,
    quality_bars,
    throughput_by_batch,
    training_curves,
)


@dataclass(frozen=True)
class SceneReport:
    """What a scene's part of the page shows beside its summary."""

    summary: dict[str, Any]
    genotype_svg: str
    histories: dict[str, list[dict[str, Any]]]
    samples_ms: dict[str, NDArray[np.float64]]
    examples: list[dict[str, Any]]


def render_scene(report: SceneReport) -> str:
    """One scene's section of the page."""
    summary = report.summary
    is_given = summary["config"]["search"]["space"] == "fixed"
    curves = {step: history for step, history in report.histories.items() if step != "search" or not is_given}
    decided = [] if is_given else summary["search"]["rows"]
    rows = [Row(**{**row, "options": tuple(row["options"])}) for row in decided]
    pictures = {
        "genotype": report.genotype_svg,
        "quality": quality_bars(summary["ndcg10"], summary["deciding"]),
        "trade": quality_against_latency(summary["ndcg10"], summary["latency"]),
        "latency": latency_distribution(report.samples_ms),
        "throughput": throughput_by_batch(summary["timings"]),
        "curves": training_curves(curves, summary["deciding"]),
        **({"architecture": architecture_curves(curves["search"], rows)} if rows else {}),
    }
    embedded = {name: _data_uri(svg) for name, svg in pictures.items()}
    return template("scene.html").render(s=summary, pictures=embedded, examples=report.examples)


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
