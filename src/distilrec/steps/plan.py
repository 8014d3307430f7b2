"""plan: what a run would do, without doing it."""

from dataclasses import dataclass
from typing import Any

from distilrec.core.config import SceneConfig
from distilrec.core.estimate import STEPS, predicted_seconds
from distilrec.io.saved import last_epoch
from distilrec.io.store import Store
from distilrec.steps.content import content_of
from distilrec.steps.latency_table import latency_table
from distilrec.steps.prepared import prepared, require_times


@dataclass(frozen=True)
class Plan:
    """Attributes:
    epochs: of each training, what is done already and what will be at most.
    """

    scene: str
    counts: dict[str, int]
    num_duplicates: int
    deciding: str
    predicted_seconds: dict[str, float]
    epochs: dict[str, tuple[int, int]]


def plan(config: SceneConfig, as_of: str, store: Store) -> Plan:
    """Reads and filters the data as prepare would.

    Raises:
        DataError: whatever prepare would refuse.
    """
    require_times(config, as_of)
    dataset, manifest = prepared(config, as_of)
    counts: dict[str, int] = manifest["counts"]
    contents = chained_contents(config, str(manifest["sha256"]), dataset.sequences.num_items)
    limits = {"teach": config.teach.max_epochs, "search": config.search.epochs, "retrain": config.retrain.max_epochs}
    if config.search.space == "fixed":
        limits["search"] = 1
    done = {step: last_epoch(store, config.scene, step, contents[step]) for step in limits}
    predicted = predicted_seconds(config, counts["num_users"], counts["num_events"], dataset.sequences.num_items)
    for step, limit in limits.items():
        predicted[step] *= 1 - done[step] / limit
    return Plan(
        scene=config.scene,
        counts=counts,
        num_duplicates=int(manifest["num_duplicates"]),
        deciding=str(manifest["deciding"]),
        predicted_seconds={step: predicted[step] for step in STEPS},
        epochs={step: (done[step], limit) for step, limit in limits.items()},
    )


def chained_contents(config: SceneConfig, dataset: str, num_items: int) -> dict[str, Any]:
    """The content hashes that the steps of a pipeline run will give their trainings.

    Raises:
        ConfigError: a latency table that does not belong to the scene, or a budget that no student meets.
    """
    teach = content_of("teach", config, dataset)
    measured = latency_table(config, num_items)
    if config.search.budget.limits():
        from distilrec.steps.spaces import costs_of  # here, because importing it takes seconds

        costs_of(config, measured)
    search = content_of("search", config, dataset, teach, *([measured.to_json()] if measured else []))
    derive = content_of("search", config, "derive", search)
    return {"teach": teach, "search": search, "retrain": content_of("retrain", config, dataset, teach, derive)}
