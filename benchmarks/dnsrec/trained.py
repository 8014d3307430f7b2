"""Students of the transformer space: searched, or named; trained by one recipe; timed in exported form."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.adarec.trained import Row, Workshop
from benchmarks.results import SAME_THREADS
from distilrec import entry
from distilrec.core.dropout import Dropout
from distilrec.core.events import Floats
from distilrec.core.sequence_model import SequenceModel
from distilrec.core.space import Genotype
from distilrec.core.spaces import genotype_of, student_of
from distilrec.io.export import export_onnx
from distilrec.io.jsons import read_json
from distilrec.io.rankers import complete_ranker, open_ranker
from distilrec.serving.distilrec_ranker import Ranker
from distilrec.steps.footprint import joules_per_1000
from distilrec.steps.timing import Pace, Request, interleaved, requests


def built(genotype: Genotype) -> Callable[[int, Dropout], SequenceModel]:
    return lambda items, dropout: student_of(items, dropout, genotype)


def trained(shop: Workshop, name: str, genotype: Genotype, seed: int) -> Row:
    return shop.trained(name, built(genotype), seed, described=genotype.to_json())


def found_by(scene: str, overrides: str, inputs: tuple[str, str], out: Path) -> Genotype:
    """Search and derive on a dataset and its teacher; what is finished comes from its checkpoints."""
    overrides = f"{SAME_THREADS} {overrides}"
    entry.search(scene, overrides, *inputs, str(out / "search"))
    entry.derive(scene, overrides, str(out / "search"), str(out / "genotype"))
    return genotype_of(read_json(out / "genotype" / "genotype.json"))


@contextmanager
def _exported(genotypes: Mapping[str, Genotype], shop: Workshop) -> Iterator[dict[str, Ranker]]:
    """By name, with weights as they begin: time and energy do not depend on them."""
    config, items = shop.config, shop.folder / "dataset" / "items.parquet"
    with tempfile.TemporaryDirectory() as folder:
        rankers = {}
        for name, genotype in genotypes.items():
            path = Path(folder) / name
            export_onnx(built(genotype)(shop.data.sequences.num_items, Dropout(0.0)), path)
            complete_ranker(path, items, config.scene, shop.data.deciding == "removed")
            rankers[name] = open_ranker(path, config.benchmark.threads)
        yield rankers


def _asked(rankers: Mapping[str, Ranker], shop: Workshop, size: int) -> list[Request]:
    return requests(next(iter(rankers.values())), shop.config.max_length, size, shop.config.seed)


def timed(genotypes: Mapping[str, Genotype], shop: Workshop, size: int) -> dict[str, Floats]:
    """Milliseconds of requests of `size` users by name, taken in turns."""
    knobs = shop.config.benchmark
    with _exported(genotypes, shop) as rankers:
        pace = Pace(knobs.warmup if size == 1 else 3, knobs.repeats, 60.0)
        samples = interleaved(rankers, _asked(rankers, shop, size), pace)
    return {name: np.asarray(parts["whole"]) for name, parts in samples.items()}


def energies(genotypes: Mapping[str, Genotype], shop: Workshop) -> dict[str, float] | str:
    """Joules of 1,000 requests of one user by name, or why there are none."""
    found = {}
    with _exported(genotypes, shop) as rankers:
        histories, _ = _asked(rankers, shop, 1)[0]
        for name, ranker in rankers.items():
            joules, how = joules_per_1000(partial(ranker.recommend, histories))
            if joules is None:
                return how
            found[name] = round(joules, 3)
    return found
