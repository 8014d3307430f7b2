"""report.html, one self-contained page made of the scenes' sections, and the Markdown summary. Quick to import: no
plotting."""

from importlib.resources import files
from typing import Any

import jinja2
import yaml

SECONDS_PER_MINUTE = 60


def render_page(title: str, sections: list[str], summaries: list[dict[str, Any]]) -> str:
    """The whole page; a table over the scenes comes first where there are several."""
    return template("page.html").render(title=title, sections=sections, summaries=summaries)


def render_markdown(summaries: list[dict[str, Any]]) -> str:
    return template("summary.md").render(summaries=summaries)


def template(name: str) -> jinja2.Template:
    """One of the package's templates, with the filters that they share."""
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
