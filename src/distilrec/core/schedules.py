"""Schedules: what should run and when, what Kubeflow has, and the changes that lead from one to the other.

Kubeflow cannot change a recurring run. A schedule is replaced by a new recurring run, made disabled; then the old one
is disabled, then the new one enabled. A recurring run of ours says in its description which scene it is of and what it
was made from, so that every interruption can be taken up: what is there is read again, and only what is missing is
done.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from distilrec.core.config import Closed, content_hash
from distilrec.core.errors import ConfigError

LONGEST_PARAMETERS = 10_000
"""Bytes that Kubeflow takes of one run's parameters, as JSON."""
DAY_OF_RUN = "[[ScheduledTime.2006-01-02]]"
"""Kubeflow puts the date here for which a run was due, so that a run that starts late reads the same events."""
MARK = re.compile(r"^distilrec ([a-z0-9-]+) ([0-9a-f]{16})$", flags=re.MULTILINE)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
LONGEST = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
CRON: tuple[tuple[str, int, int, list[str]], ...] = (
    ("seconds", 0, 59, []),
    ("minutes", 0, 59, []),
    ("hours", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 6, DAYS),
)
"""Field, lowest and highest value, and the names of its values: robfig/cron's, which Kubeflow reads."""
TYPES: dict[str, set[type]] = {
    "STRING": {str},
    "BOOLEAN": {bool},
    "NUMBER_INTEGER": {int},
    "NUMBER_DOUBLE": {float, int},
    "LIST": {list},
    "STRUCT": {dict},
}


def checked_cron(cron: str) -> str:
    """Raises ConfigError: it has not six fields, a value is outside its field's range, or it names no day at all."""
    fields = cron.split()
    if len(fields) != len(CRON):
        raise ConfigError(
            "DR-SCHED-001", f"cron {cron!r} has {len(fields)} fields, not six, of which seconds are first"
        )
    found: dict[str, set[int]] = {}
    for field, (name, low, high, names) in zip(fields, CRON, strict=True):
        for part in field.split(","):
            values = _values(part, low, high, names)
            if not values:
                raise ConfigError("DR-SCHED-001", f"cron {cron!r}: {part!r} is no {name} from {low} to {high}")
            found[name] = found.get(name, set()) | values
    longest = max(LONGEST[month - 1] for month in found["month"])
    if min(found["day of month"]) > longest and len(found["day of week"]) == len(DAYS):
        raise ConfigError("DR-SCHED-001", f"cron {cron!r}: the months that it names have no day after {longest}")
    return " ".join(fields)


def _values(part: str, low: int, high: int, names: list[str]) -> set[int]:
    """Empty if it is not of its field."""
    values, slash, step = part.partition("/")
    if slash and (not step.isascii() or not step.isdigit() or int(step) < 1):
        return set()
    if values in ("*", "?"):
        first, last = low, high
    else:
        begin, dash, end = values.partition("-")
        first = _number(begin, low, names)
        last = _number(end, low, names) if dash else (high if slash else first)
    return set(range(first, last + 1, int(step or 1))) if low <= first <= last <= high else set()


def _number(text: str, low: int, names: list[str]) -> int:
    """-1 if it is none."""
    if text.lower() in names:
        return names.index(text.lower()) + low
    return int(text) if text.isascii() and text.isdigit() else -1


class Schedule(Closed):
    """When a scene is run."""

    scene: str = Field(pattern=r"^(s3://)?[^\n:]+$")
    """The scene's file, from the folder of the schedules or in s3://. Its text is what Kubeflow keeps and runs."""
    cron: Annotated[str, AfterValidator(checked_cron)]
    """Six fields, seconds first: "0 30 2 * * *" is half past two every night, in UTC unless Kubeflow says otherwise."""
    enabled: bool = True
    parameters: dict[str, Any] = Field({})
    """Of the pipeline, without `scene`; `as_of` is the day for which the run is due unless it is set here."""


class Schedules(Closed):
    """One schedules.yaml. It owns the recurring runs that distilrec made in its experiment."""

    pipeline: str = Field(min_length=1)
    """What `distilrec compile` wrote, from the folder of the schedules."""
    experiment: str = Field("distilrec", min_length=1)
    namespace: str | None = Field(None, min_length=1)
    """Only in Kubeflow for several users."""
    service_account: str = Field("distilrec-runner", min_length=1)
    schedules: tuple[Schedule, ...]


@dataclass(frozen=True)
class Compiled:
    """Attributes:
    sha256: of `text`, the compiled file's bytes.
    inputs: the pipeline's parameters, as its specification describes them.
    """

    name: str
    text: bytes
    sha256: str
    inputs: Mapping[str, Mapping[str, Any]]

    @property
    def mark(self) -> str:
        """How a version's name ends."""
        return f"-{self.sha256[:12]}"


@dataclass(frozen=True)
class Wanted:
    """One scene's recurring run as it should be. `compiled`: the sha256 of the pipeline."""

    scene: str
    cron: str
    parameters: Mapping[str, Any]
    service_account: str
    compiled: str
    is_enabled: bool

    @property
    def content(self) -> str:
        """Of everything that a recurring run cannot change later."""
        return content_hash(self.scene, self.cron, self.parameters, self.service_account, self.compiled)

    @property
    def description(self) -> str:
        return f"distilrec {self.scene} {self.content}"


@dataclass(frozen=True)
class Found:
    """A recurring run that distilrec made.

    Attributes:
        created: seconds since 1970, which several may share.
    """

    id: str
    name: str
    scene: str
    content: str
    is_enabled: bool
    created: float
    cron: str
    parameters: Mapping[str, Any]
    service_account: str
    version_id: str
    experiment_id: str


@dataclass(frozen=True)
class Actual:
    """What Kubeflow has; an empty id is one that it has not. `version_id`: of the same compiled bytes."""

    pipeline_id: str
    version_id: str
    experiment_id: str
    runs: tuple[Found, ...]


@dataclass(frozen=True)
class Change:
    """One call. `run_id` is empty where it is that of the run created just before."""

    act: Literal["make pipeline", "make experiment", "upload version", "create", "disable", "enable"]
    scene: str = ""
    run_id: str = ""


def mark_of(description: str) -> tuple[str, str] | None:
    """Scene and content of a recurring run that distilrec made, from its description."""
    found = MARK.search(description)
    return (found[1], found[2]) if found else None


def parameters_of(schedule: Schedule, scene: str, compiled: Compiled) -> dict[str, Any]:
    """All that a run is given. `scene`: the scene's text.

    Raises:
        ConfigError: a parameter that the pipeline has not, of another type, or missing; all of them are too long.
    """
    own = [name for name in compiled.inputs if name != "scene"]
    given = {"as_of": DAY_OF_RUN} if "as_of" in own else {}
    given |= schedule.parameters
    for name, value in given.items():
        if name not in own:
            raise ConfigError(
                "DR-SCHED-003", f"parameter {name!r} is none of the pipeline {compiled.name}: {', '.join(own)}"
            )
        kind = str(compiled.inputs[name].get("parameterType"))
        if not _is_of(kind, value):
            raise ConfigError("DR-SCHED-003", f"parameter {name} = {str(value)!r} is no {kind}")
    for name in own:
        if name not in given and not compiled.inputs[name].get("isOptional"):
            raise ConfigError(
                "DR-SCHED-003", f"parameter {name!r} is missing, which the pipeline {compiled.name} needs"
            )
    given["scene"] = scene
    size = len(json.dumps(given, ensure_ascii=False).encode())
    if size > LONGEST_PARAMETERS:
        raise ConfigError(
            "DR-SCHED-006",
            f"the scene and its parameters are {size:,} bytes long and Kubeflow takes {LONGEST_PARAMETERS:,}",
        )
    return given


def _is_of(kind: str, value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):  # a date, or not a number, somewhere inside
        return False
    return type(value) in TYPES[kind]


def require_one_each(scenes: Sequence[str]) -> None:
    """Raises ConfigError: a scene has two schedules."""
    for scene in scenes:
        if scenes.count(scene) > 1:
            raise ConfigError("DR-SCHED-002", f"scene {scene} has {scenes.count(scene)} schedules, not one")


def require_nowhere_else(wanted: Sequence[Wanted], actual: Actual) -> None:
    """Raises ConfigError: a scene is scheduled in another experiment, which belongs to another schedules file."""
    for run in actual.runs:
        is_elsewhere = run.is_enabled and run.experiment_id != actual.experiment_id
        if is_elsewhere and any(want.scene == run.scene and want.is_enabled for want in wanted):
            raise ConfigError(
                "DR-SCHED-005",
                f"scene {run.scene} is scheduled by recurring run {run.id} in experiment {run.experiment_id} already",
            )


def changes(wanted: Sequence[Wanted], actual: Actual) -> list[Change]:
    """In the order in which they are to be made. At no point between them has a scene two enabled recurring runs,
    unless it had before; after all of them it has one, or none if its schedule is disabled or gone. Of several that
    were made from the same, the oldest is kept, an enabled one before all. Nothing is removed: the history of its runs
    hangs on a recurring run."""
    runs = [change for scene, want in _scenes(wanted, actual) for change in _of_scene(scene, want, actual)]
    if not any(change.act == "create" for change in runs):
        return runs
    before = [
        Change("make pipeline") if not actual.pipeline_id else None,
        Change("make experiment") if not actual.experiment_id else None,
        Change("upload version") if not actual.version_id else None,
    ]
    return [change for change in before if change] + runs


def _scenes(wanted: Sequence[Wanted], actual: Actual) -> Iterator[tuple[str, Wanted | None]]:
    """Those of the file, in its order, then those that it has no longer."""
    by_name = {want.scene: want for want in wanted}
    yield from by_name.items()
    yield from ((scene, None) for scene in sorted({run.scene for run in _own(actual)} - by_name.keys()))


def _own(actual: Actual) -> list[Found]:
    return [run for run in actual.runs if run.experiment_id == actual.experiment_id]


def _of_scene(scene: str, want: Wanted | None, actual: Actual) -> list[Change]:
    runs = [run for run in _own(actual) if run.scene == scene]
    kept = _kept(want, runs) if want else None
    is_wanted = want is not None and want.is_enabled
    steps = [Change("create", scene)] if is_wanted and kept is None else []
    stay = kept.id if kept and is_wanted else ""
    steps += [Change("disable", scene, run.id) for run in _oldest_first(runs) if run.is_enabled and run.id != stay]
    if is_wanted and not (kept and kept.is_enabled):
        steps.append(Change("enable", scene, stay))
    return steps


def _kept(want: Wanted, runs: Sequence[Found]) -> Found | None:
    same = [run for run in _oldest_first(runs) if run.content == want.content]
    return next((run for run in same if run.is_enabled), same[0] if same else None)


def _oldest_first(runs: Sequence[Found]) -> list[Found]:
    return sorted(runs, key=lambda run: (run.created, run.id))


def difference(wanted: Sequence[Wanted], actual: Actual, pipeline: str, version: str, experiment: str) -> list[str]:
    """What `changes` would do, a line each: `+` is made, `~` is changed, `=` stays. The last three are names."""
    names = {"make pipeline": pipeline, "make experiment": experiment, "upload version": version}
    made = [change.act for change in changes(wanted, actual) if change.act in names]
    lines = [f"+ {act.split()[1]} {names[act]}" for act in made]
    return lines + [_line(scene, want, actual) for scene, want in _scenes(wanted, actual)]


def _line(scene: str, want: Wanted | None, actual: Actual) -> str:
    acts = [change.act for change in _of_scene(scene, want, actual)]
    former = [run for run in _own(actual) if run.scene == scene]
    if not acts:
        return f"= {scene}: {'unchanged' if want and want.is_enabled else 'disabled'}"
    if want is None or not want.is_enabled:
        return f"~ {scene}: disable, {'enabled is false' if want else 'which has no schedule any more'}"
    if "create" not in acts:
        words = ["disable what it replaces" if act == "disable" else "enable again" for act in dict.fromkeys(acts)]
        return f"~ {scene}: {' and '.join(words)}"
    if not former:
        return f'+ {scene}: create, "{want.cron}"'
    latest = max(_oldest_first(former), key=lambda run: run.is_enabled)
    return f"~ {scene}: replace; {'; '.join(_differences(want, latest, actual.version_id))}"


def _differences(want: Wanted, run: Found, version_id: str) -> Iterator[str]:
    if run.cron != want.cron:
        yield f'cron "{run.cron}" becomes "{want.cron}"'
    if run.service_account != want.service_account:
        yield f"service account {run.service_account} becomes {want.service_account}"
    for name in sorted(run.parameters.keys() | want.parameters.keys()):
        old, new = run.parameters.get(name), want.parameters.get(name)
        if old != new:
            yield "the scene's settings" if name == "scene" else f"{name} {json.dumps(old)} becomes {json.dumps(new)}"
    if not version_id or run.version_id != version_id:
        yield "another version of the pipeline"
