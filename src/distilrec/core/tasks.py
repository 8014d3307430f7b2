"""What each task of the pipeline is given on a cluster. One table, which a platform's own file may differ from."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from distilrec.core.config import Closed
from distilrec.core.estimate import STEPS

OPENING, REQUIRING, CLOSING = "open-run", "require-promotion", "close-run"
"""Around the eight steps."""
LEASE_HOURS = 72
"""For which a run holds its scene at most, and after which Kubeflow ends the run."""
USER, GROUP = 10001, 0
"""Of the images."""


class Toleration(Closed):
    """As Kubernetes has it."""

    key: str
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class Task(Closed):
    """Requests equal limits, so that a timing is disturbed by nobody and a training is not the first to be evicted."""

    cpu: str = Field("1", pattern=r"^[0-9]+m?$")
    memory: str = Field("2Gi", pattern=r"^[0-9]+(Mi|Gi)$")
    accelerator: str = ""
    """Such as nvidia.com/gpu; one of them."""
    timeout_minutes: int = Field(60, ge=1, le=LEASE_HOURS * 60)
    """Of one attempt, after which the next resumes from its checkpoint."""
    retries: int = Field(2, ge=0, le=10)
    is_cached: bool = False
    node_selector: dict[str, str] = Field({})
    tolerations: tuple[Toleration, ...] = ()


TASKS: dict[str, Task] = {
    OPENING: Task(timeout_minutes=10, retries=0),
    "prepare": Task(cpu="2", memory="8Gi", timeout_minutes=120, is_cached=True),
    "teach": Task(cpu="4", memory="16Gi", timeout_minutes=720, retries=5, is_cached=True),
    "search": Task(cpu="4", memory="16Gi", timeout_minutes=720, retries=5, is_cached=True),
    "derive": Task(memory="4Gi", is_cached=True),
    "retrain": Task(cpu="4", memory="16Gi", timeout_minutes=720, retries=5, is_cached=True),
    "evaluate": Task(cpu="2", memory="8Gi", timeout_minutes=120),
    "benchmark": Task(cpu="2", memory="8Gi", timeout_minutes=120),
    "promote": Task(memory="4Gi"),
    REQUIRING: Task(timeout_minutes=10, retries=0),
    CLOSING: Task(timeout_minutes=10),
}
"""Evaluate, benchmark and promote depend on the champion, the machine and the registry, so they are never taken from
the cache; the tasks around the steps act on the world or on the run."""
assert set(TASKS) == {OPENING, *STEPS, REQUIRING, CLOSING}


def tasks_with(changes: Mapping[str, Any]) -> dict[str, Task]:
    """The table, with what a platform's file says of some tasks.

    Raises:
        pydantic.ValidationError: a key or a value that no task has.
        KeyError: a task that the pipeline does not have.
    """
    changed = {name: Task.model_validate({**TASKS[name].model_dump(), **dict(more)}) for name, more in changes.items()}
    return {**TASKS, **changed}
