"""report.html: one self-contained page, and the Markdown summary. Both are readers of the summary."""

import base64
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
import yaml
from numpy.typing import NDArray

from distilrec.io.pictures import (
    architecture_curves,
    latency_distribution,
    quality_against_latency,
    quality_bars,
    training_curves,
)

SECONDS_PER_MINUTE = 60


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
    curves = report.histories
    pictures = {
        "genotype": report.genotype_svg,
        "quality": quality_bars(summary["ndcg10"], summary["deciding"]),
        "trade": quality_against_latency(summary["ndcg10"], summary["latency"]),
        "latency": latency_distribution(report.samples_ms),
        "curves": training_curves(curves, summary["deciding"]),
        "architecture": architecture_curves(curves["search"], summary["genotype"]["num_nodes"]),
    }
    embedded = {name: _data_uri(svg) for name, svg in pictures.items()}
    return _template("scene.html").render(s=summary, pictures=embedded, examples=report.examples)


def render_page(title: str, sections: list[str], summaries: list[dict[str, Any]]) -> str:
    """The whole page; a table over the scenes comes first where there are several."""
    return _template("page.html").render(title=title, sections=sections, summaries=summaries)


def render_markdown(summaries: list[dict[str, Any]]) -> str:
    return _template("summary.md").render(summaries=summaries)


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _template(name: str) -> jinja2.Template:
    text = (files("distilrec") / "templates" / name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=name.endswith(".html"), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "seconds": _duration, "yaml": _yaml}
    return environment.from_string(text)


def _number(value: float) -> str:
    """1234567 as 1.23 M."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.4g}"


def _duration(value: float) -> str:
    minutes, seconds = divmod(round(value), SECONDS_PER_MINUTE)
    return f"{minutes} min {seconds} s" if minutes else f"{value:.1f} s"


def _yaml(value: Any) -> str:

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
