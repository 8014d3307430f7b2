"""What a step's result is named by."""

from importlib.metadata import version
from typing import Any

from distilrec import __version__
from distilrec.core.config import SceneConfig, content_hash
from distilrec.core.revisions import REVISIONS


def content_of(step: str, config: SceneConfig, *inputs: Any) -> str:
    """The hash of everything that a training's result depends on: its settings, its inputs' content, the code."""
    shared: dict[str, Any] = {"seed": config.seed, "max_length": config.max_length, "threads": config.threads}
    shared["loss"] = config.loss.model_dump(mode="json")
    settings = getattr(config, step).model_dump(mode="json")
    if not config.teach.knows_users:
        settings.pop("factors", None)  # not read then
    settings.pop("latency_table", None)  # its content is among the inputs, wherever the file lies
    versions = [__version__, version("torch"), *([REVISIONS[step]] if step in REVISIONS else [])]
    return content_hash(step, settings, shared, config.evaluate.deciding, list(inputs), versions)
