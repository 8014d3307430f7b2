"""Reading a scene: YAML, overrides, and errors that name the key, the value and the limit."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from distilrec.core.config import FileData, MovieLensData, SceneConfig, SyntheticData
from distilrec.core.errors import ConfigError, DistilrecError
from distilrec.io.files import text_at
from distilrec.io.s3 import SCHEME
from distilrec.io.yamls import NO_VALUE, read_yaml

SOURCES: dict[str, type[BaseModel]] = {"file": FileData, "movielens-1m": MovieLensData, "synthetic": SyntheticData}
"""Pydantic names the branch of a union in an error's location."""


def load_scene(scene: str, overrides: str = "") -> SceneConfig:
    """A scene from a file's path, an s3:// location or YAML text, with overrides such as `teach.max_epochs=5 seed=1`.

    Relative data paths count from the scene file's folder, or from the working directory.

    Raises:
        ConfigError: unreadable YAML, a key twice, an unknown key, a value out of its range.
    """
    text, folder = scene_text(scene)
    return _with_paths(_checked(text, overrides), lambda path: _from(folder, path))


def load_scene_elsewhere(text: str, overrides: str = "") -> SceneConfig:
    """A scene from its text, as another machine will read it.

    Raises:
        ConfigError: as `load_scene`, or a path counts from a folder.
    """
    return _with_paths(_checked(text, overrides), _same_anywhere)


def _checked(text: str, overrides: str) -> SceneConfig:
    tree = read_yaml(text, "scene")
    if not isinstance(tree, dict):
        raise ConfigError("DR-CONF-001", f"scene is {type(tree).__name__}, not a mapping of keys to values")
    for assignment in overrides.split():
        _override(tree, assignment)
    try:
        return SceneConfig.model_validate(tree)
    except ValidationError as error:
        raise explained(error, SceneConfig) from None


def scene_text(scene: str) -> tuple[str, Path]:
    """The YAML of a file's path, an s3:// location or YAML itself, and the folder from which its paths count.

    Raises:
        ConfigError: it cannot be read.
    """
    if scene.startswith(SCHEME) and "\n" not in scene:
        return _text_in_bucket(scene), Path.cwd()
    if "\n" in scene or ":" in scene:
        return scene, Path.cwd()
    path = Path(scene)
    try:
        return path.read_text(encoding="utf-8"), path.resolve().parent
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError("DR-CONF-001", f"scene file {path} cannot be read: {reason}") from None


def _text_in_bucket(location: str) -> str:
    try:
        return text_at(location)
    except FileNotFoundError:
        raise ConfigError("DR-CONF-001", f"scene file {location} does not exist") from None
    except UnicodeDecodeError:
        raise ConfigError("DR-CONF-001", f"scene file {location} cannot be read: it is not UTF-8 text") from None


def _override(tree: dict[str, Any], assignment: str) -> None:
    key, equals, value = assignment.partition("=")
    if not equals or not key:
        raise ConfigError("DR-CONF-003", f"override {assignment!r} is not of the form key.key=value")
    if not value:
        raise ConfigError("DR-CONF-003", f"override {assignment!r} {NO_VALUE}")
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError("DR-CONF-003", f"override {assignment!r}: {parent} has no keys below it")
    try:
        tree[last] = read_yaml(value, key)
    except ConfigError:
        words = (
            f"override {assignment!r}: {value!r} is no YAML value; it may have no spaces, name the inner key instead"
        )
        raise ConfigError("DR-CONF-003", words) from None


def explained(error: ValidationError, kind: type[BaseModel]) -> ConfigError:
    """The first problem with what should be of this kind, in one sentence."""
    problem = error.errors(include_url=False)[0]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, DistilrecError):
        return ConfigError(cause.code, str(cause))
    location = [str(part) for index, part in enumerate(problem["loc"]) if not (index == 1 and part in SOURCES)]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        guess = difflib.get_close_matches(location[-1], _keys_beside(problem["loc"], kind), n=1)
        hint = f"; did you mean {guess[0]!r}?" if guess else ""
        return ConfigError("DR-CONF-002", f"unknown key {key!r}{hint}")
    if problem["type"] == "missing":
        return ConfigError("DR-CONF-003", f"{key} is missing")
    return ConfigError("DR-CONF-003", f"{key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")


def _keys_beside(location: tuple[int | str, ...], kind: type[BaseModel]) -> list[str]:
    """The known keys of the section that an unknown key stands in."""
    section: Any = kind
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        if part in SOURCES:
            section = SOURCES[part]
        elif part != "data":
            section = section.model_fields[part].annotation
            section = next(
                (kind for kind in get_args(section) if isinstance(kind, type) and issubclass(kind, BaseModel)), section
            )
    return list(section.model_fields)


def _with_paths(config: SceneConfig, of: Callable[[str], str]) -> SceneConfig:
    data, table = config.data, config.search.latency_table
    if table:
        search = config.search.model_copy(update={"latency_table": of(table)})
        config = config.model_copy(update={"search": search})
    if not isinstance(data, FileData):
        return config
    items = data.items.model_copy(update={"path": of(data.items.path)}) if data.items else None
    moved = data.model_copy(update={"path": of(data.path), "items": items})
    return config.model_copy(update={"data": moved})


def _from(folder: Path, path: str) -> str:
    if path.startswith(SCHEME):
        return path
    try:
        return str(folder / Path(path).expanduser())
    except RuntimeError:
        raise ConfigError("DR-CONF-003", f"{path!r} begins with a home folder that is not here") from None


def _same_anywhere(path: str) -> str:
    if not path.startswith((SCHEME, "/")):
        words = "counts from the folder of a scene file, which a step's container does not have"
        raise ConfigError("DR-CONF-003", f"path {path!r} {words}; name a place in {SCHEME} or an absolute path")
    return path
