"""prepare: raw interactions to a dataset, with the floors that counting reaches."""

from pathlib import Path
from typing import Any

from distilrec.core.config import SceneConfig
from distilrec.core.errors import ArtifactError
from distilrec.core.evaluation import Scorer, rank_asked
from distilrec.core.floors import MarkovFloor, PopularityFloor
from distilrec.core.split import Split
from distilrec.io.mlflow_server import in_a_hurry
from distilrec.io.registry import NO_CHAMPION, OTHER_INPUTS, RankerFacts, Registry
from distilrec.io.store import whole_folder
from distilrec.io.tables import Dataset, write_dataset
from distilrec.steps.adapters import Adapters
from distilrec.steps.prepared import prepared


def prepare(config: SceneConfig, as_of: str, out: Path, adapters: Adapters) -> dict[str, Any]:
    """Filter, order, split and describe. Returns the manifest.

    Raises:
        ArtifactError: the scene's registered models take other inputs than a ranker of these data would, or its
            champion is not among them.
        DataError: the data cannot be used, or too little is left of it.
    """
    dataset, manifest = prepared(config, as_of)
    _require_registry(config, dataset, adapters.registry)
    adapters.progress.say("epoch", epoch=1, num_epochs=1, **manifest["counts"])
    with whole_folder(out) as folder:
        write_dataset(folder.path, dataset)
        manifest |= {"floors": floors(dataset.split)}
        manifest |= adapters.stamp("prepare", manifest["sha256"])
        folder.manifest.update(manifest)
    return manifest


def _require_registry(config: SceneConfig, dataset: Dataset, registry: Registry) -> None:
    """That it takes such a ranker, and has the champion that the student is compared with: before hours of training. A
    server that is away is asked again by `evaluate` and `promote`."""
    champion = registry.champion(config.scene)
    if registry.server.is_yet_to_be_made and not champion:
        return
    users = tuple(dataset.user_ids[:1].to_pylist()) if config.teach.knows_users else ()
    ranker = RankerFacts(tuple(dataset.item_ids[:1].to_pylist()), True, 1, has_index=False, example_users=users)
    try:
        with in_a_hurry():
            if champion:
                registry.require_champion(champion)
            registry.require_same_inputs(config.scene, ranker)
    except ArtifactError as error:
        if error.code in (OTHER_INPUTS, NO_CHAMPION):
            raise


def floors(split: Split) -> dict[str, dict[str, dict[str, float]]]:
    """Counted on the training part, asked with everything before the test item, as the models are."""
    scorers: dict[str, Scorer] = {"popularity": PopularityFloor(split.train), "markov": MarkovFloor(split.train)}
    return {name: rank_asked(scorer, split.test).metrics() for name, scorer in scorers.items()}
