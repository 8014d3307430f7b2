"""Reading schedules.yaml and the compiled pipeline that it names."""

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from distilrec.core.errors import ConfigError
from distilrec.core.schedules import TYPES, Compiled, Schedules
from distilrec.io.scenes import explained
from distilrec.io.yamls import read_yaml

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def load_schedules(file: Path) -> Schedules:
    """Raises ConfigError: it cannot be read, has an unknown key, or a value that cannot be."""
    tree = read_yaml(_read(file, "DR-CONF-001"), str(file))
    if not isinstance(tree, dict):
        raise ConfigError("DR-CONF-001", f"{file} is {type(tree).__name__}, not a mapping of keys to values")
    try:
        return Schedules.model_validate(tree)
    except ValidationError as error:
        said = explained(error, Schedules)
        raise ConfigError(said.code, f"{file}: {said}") from None


def load_compiled(file: Path) -> Compiled:
    """Raises ConfigError: it is not there, is no pipeline for scenes, or an image in it has no digest."""
    text = _read(file, "DR-SCHED-004")
    try:
        spec: Any = next(iter(yaml.safe_load_all(text)), None)
        name, inputs = str(spec["pipelineInfo"]["name"]), dict(spec["root"]["inputDefinitions"]["parameters"])
        executors = spec["deploymentSpec"]["executors"]
        images = [str(one["container"]["image"]) for one in executors.values() if "container" in one]
        types = [one["parameterType"] for one in inputs.values()]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError("DR-SCHED-004", f"{file} is no compiled pipeline") from None
    if "scene" not in inputs or not set(types) <= TYPES.keys():
        raise ConfigError("DR-SCHED-004", f"{file} is a pipeline without the parameter `scene`, or with artifacts")
    for image in images:
        if not DIGEST.search(image):
            raise ConfigError("DR-SCHED-004", f"{file} runs the image {image}, which has no digest")
    return Compiled(name, text, hashlib.sha256(text).hexdigest(), inputs)


def _read(file: Path, code: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(code, f"{file} cannot be read: {error.strerror}") from None
