"""The compiled pipeline, as it comes with the package, for images of one's own."""

import json
from importlib.resources import files
from pathlib import Path

from distilrec.core.errors import ConfigError, RunError
from distilrec.io.jsons import write_text

PLACEHOLDER = "image: distilrec-python:"
STEPS_IMAGE = "steps"


def write_pipeline(target: Path, image: str) -> int:
    """The pipeline with this image for every step. Returns how many steps it has.

    Raises:
        RunError: the file cannot be written.
    """
    lines = (files("distilrec.pipelines.retrain_scene") / "pipeline.yaml").read_text(encoding="utf-8").splitlines()
    replaced = [f"{line[: line.index(PLACEHOLDER)]}image: {image}" if PLACEHOLDER in line else line for line in lines]
    try:
        write_text(target, "\n".join(replaced) + "\n")
    except OSError as error:
        raise RunError("DR-RUN-004", f"{target} cannot be written: {error.strerror}") from None
    return sum(PLACEHOLDER in line for line in lines)


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
