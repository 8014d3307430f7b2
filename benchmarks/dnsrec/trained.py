"""Students of the transformer space: searched, or named; trained by one recipe; timed in exported form."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.adarec.trained import Row, Workshop
from distilrec import entry
from distilrec.core.config import SceneConfig
from distilrec.core.dropout import Dropout
from distilrec.core.events import Floats
from distilrec.core.sequence_model import SequenceModel
from distilrec.core.space import Genotype
from distilrec.core.spaces import genotype_of, student_of
from distilrec.io.export import export_onnx
from distilrec.io.jsons import read_json
from distilrec.io.rankers import complete_ranker, open_ranker
from distilrec.steps.timing import Pace, interleaved, requests


def built(genotype: Genotype) -> Callable[[int, Dropout], SequenceModel]:
    return lambda items, dropout: student_of(items, dropout, genotype)


def trained(shop: Workshop, name: str, genotype: Genotype, seed: int) -> Row:
    return shop.trained(name, built(genotype), seed, described=genotype.to_json())


def found_by(scene: str, overrides: str, inputs: tuple[str, str], out: Path) -> Genotype:
    """Search and derive on a dataset and its teacher; what is finished comes from its checkpoints."""
    entry.search(scene, overrides, *inputs, str(out / "search"))
    entry.derive(scene, overrides, str(out / "search"), str(out / "genotype"))
    return genotype_of(read_json(out / "genotype" / "genotype.json"))


def timed(
    genotypes: Mapping[str, Genotype], shop: Workshop, dataset: Path, config: SceneConfig, size: int
) -> dict[str, Floats]:
    """Milliseconds of requests of `size` users by name, taken in turns; weights do not matter."""
    with tempfile.TemporaryDirectory() as folder:
        rankers = {}
        for name, genotype in genotypes.items():
            path = Path(folder) / name
            export_onnx(built(genotype)(shop.data.sequences.num_items, Dropout(0.0)), path)
            complete_ranker(path, dataset / "items.parquet", config.scene, shop.data.deciding == "removed")
            rankers[name] = open_ranker(path, config.benchmark.threads)
        asked = requests(next(iter(rankers.values())), config.max_length, size, config.seed)
        pace = Pace(config.benchmark.warmup if size == 1 else 3, config.benchmark.repeats, 60.0)
        samples = interleaved(rankers, asked, pace)
    return {name: np.asarray(parts["whole"]) for name, parts in samples.items()}
