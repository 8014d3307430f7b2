"""What is needed to compile the pipeline for a cluster, and the file that comes out."""

import json
from pathlib import Path

from pydantic import ValidationError

from distilrec.core.errors import ConfigError, RunError
from distilrec.core.tasks import TASKS, Task, tasks_with
from distilrec.io.jsons import write_text
from distilrec.io.yamls import read_yaml

STEPS_IMAGE = "steps"


def write_pipeline(target: Path, text: str) -> None:
    """Raises RunError if the file cannot be written."""
    try:
        write_text(target, text)
    except (OSError, ValueError) as error:  # the latter for a name such as "."
        raise RunError("DR-RUN-004", f"{target} cannot be written: {getattr(error, 'strerror', error)}") from None


def read_tasks(path: Path) -> dict[str, Task]:
    """The table of tasks, with what this YAML file says of some of them.

    Raises:
        ConfigError: it is no such file, or names a task or a setting that there is not.
    """
    try:
        tree = read_yaml(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError("DR-CONF-001", f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(tree, dict) or not all(isinstance(settings, dict) for settings in tree.values()):
        raise ConfigError("DR-CONF-001", f"{path} is no mapping of tasks to their settings")
    unknown = [name for name in tree if name not in TASKS]
    if unknown:
        raise ConfigError("DR-CONF-002", f"{path}: the pipeline has no task {unknown[0]!r}; it has {', '.join(TASKS)}")
    try:
        return tasks_with(tree)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        words = f"{path}: {key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
        raise ConfigError("DR-CONF-003", words) from None


def locked_image(lock: Path) -> str:
    """The steps' image in an images.lock, by its digest.

    Raises:
        ConfigError: there is no such file, or it names no digest.
    """
    try:
        image = str(json.loads(lock.read_text(encoding="utf-8"))["images"][STEPS_IMAGE])
    except OSError as error:
        raise ConfigError("DR-CONF-008", f"{lock}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError("DR-CONF-008", f"{lock} is no images.lock as `make images` writes it") from None
    if "@sha256:" not in image:
        raise ConfigError("DR-CONF-008", f"{lock} names {image}, which is no digest")
    return image
