"""prepare: raw interactions to a dataset, with the floors that counting reaches."""

from pathlib import Path
from typing import Any

from distilrec.core.config import SceneConfig
from distilrec.core.evaluation import Scorer, rank_users
from distilrec.core.events import Sequences
from distilrec.core.floors import MarkovFloor, PopularityFloor
from distilrec.io.store import whole_folder
from distilrec.io.tables import write_dataset
from distilrec.steps.adapters import Adapters
from distilrec.steps.prepared import prepared


def prepare(config: SceneConfig, as_of: str, out: Path, adapters: Adapters) -> dict[str, Any]:
    """Filter, order, split and describe. Returns the manifest.

    Raises:
        DataError: the data cannot be used, or too little is left of it.
    """
    dataset, manifest = prepared(config, as_of)
    adapters.progress.say("epoch", epoch=1, num_epochs=1, **manifest["counts"])
    with whole_folder(out) as folder:
        write_dataset(folder.path, dataset)
        manifest |= {"floors": floors(dataset.sequences)}
        manifest |= adapters.stamp("prepare", manifest["sha256"])
        folder.manifest.update(manifest)
    return manifest


def floors(sequences: Sequences) -> dict[str, dict[str, dict[str, float]]]:
    """Counted on the training part, asked with everything before the test item, as the models are."""
    train, past, targets = sequences.without_last(2), sequences.without_last(1), sequences.target(1)
    scorers: dict[str, Scorer] = {"popularity": PopularityFloor(train), "markov": MarkovFloor(train)}
    return {name: rank_users(scorer, past, targets).metrics() for name, scorer in scorers.items()}
