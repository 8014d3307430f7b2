"""What is measured: a teacher of the paper's size and the searched student, as the product writes them.

The weights are random: how long a request takes does not depend on them.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.adarec.ml1m import GENOTYPE
from distilrec.core.cell import OPERATION, CellSpace
from distilrec.core.config import Retrain, SceneConfig
from distilrec.core.genotype import Genotype
from distilrec.core.sequence_model import SequenceModel, initialise
from distilrec.io.jsons import read_json
from distilrec.io.models import TeacherShape, build_student, save_student, save_teacher
from distilrec.io.scenes import load_scene
from distilrec.io.store import whole_folder
from distilrec.steps.retrain import write_rankers

NUM_ITEMS = 3416
SCENE = """
scene: latency
data: {source: synthetic}
max_length: 200
teach: {num_blocks: 8, width: 128}
benchmark: {repeats: 1000, seconds: 40}
"""


def config() -> SceneConfig:
    return load_scene(SCENE)


def write_models(root: Path) -> None:
    """`teacher` and `student`, as teach and retrain would have left them."""
    scene = config()
    shape, genotype = TeacherShape.of(scene.teach, NUM_ITEMS, scene.max_length), _genotype(scene.max_length)
    models: dict[str, SequenceModel] = {
        "teacher": _random(shape.build()),
        "student": _random(build_student(NUM_ITEMS, Retrain(), genotype)),
    }
    numbers = pa.array(range(NUM_ITEMS))
    titles = [f"item {number}" for number in range(NUM_ITEMS)]
    pq.write_table(pa.table({"item": numbers, "title": titles, "num_events": numbers}), root / "items.parquet")
    with whole_folder(root / "teacher") as folder:
        save_teacher(folder.path, shape, models["teacher"].state_dict(), [])
        folder.manifest.update(step="teach", content="random")
    with whole_folder(root / "student") as folder:
        save_student(folder.path, NUM_ITEMS, genotype, models["student"].state_dict(), [])
        for name, model in models.items():
            write_rankers(folder.path / "rankers", name, model, root, scene.scene, exclude_seen=True)
        folder.manifest.update(step="retrain", content="random", inputs={"teach": "random"})


def _genotype(max_length: int) -> Genotype:
    """The committed one, or four cells of width 32 with all operations the convolution of width 3."""
    if GENOTYPE.is_file():
        return Genotype.from_json(read_json(GENOTYPE))
    space = CellSpace(3, 4, 32, max_length)
    return space.derive({OPERATION: (space.operations.index("conv3"),) * len(space.edges)})


def _random(model: SequenceModel) -> SequenceModel:
    initialise(model, torch.Generator().manual_seed(0))
    return model.eval()
