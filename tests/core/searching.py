"""Small searches for the tests."""

from distilrec.core.cell import CellSpace, Supernet
from distilrec.core.cell_costs import CellCosts
from distilrec.core.config import Search
from distilrec.core.distill import LayerDistillation
from distilrec.core.dropout import Dropout
from distilrec.core.events import Sequences
from distilrec.core.fit import BatchRecord, TrainingData
from distilrec.core.lessons import Distiller
from distilrec.core.released import ReleasedDistiller, ReleasedSearch, ReleasedSupernet
from distilrec.core.search import ArchitectureSearch
from distilrec.core.sequence_model import SequenceModel, initialise
from distilrec.core.teaching import LiveTeacher
from tests.conftest import LENGTH, WIDTH, chain, generator, objective, sasrec


def search_over(
    sequences: Sequences | None = None, teacher: SequenceModel | None = None, costs: CellCosts | None = None, **knobs
) -> ArchitectureSearch:
    sequences, teacher = sequences or chain(0.9), teacher or sasrec()
    knobs = {"num_cells": 2, "epochs": 3, "architecture_after": 0, "learning_rate": 0.01} | knobs
    config = Search(width=WIDTH, batch_size=32, **knobs)
    is_released = config.space == "adarec-as-released"
    space = CellSpace(
        num_nodes=config.num_nodes,
        max_depth=config.num_cells,
        width=WIDTH,
        max_length=LENGTH,
        is_shared=config.cells == "shared",
        is_depth_searched=config.depth == "searched",
        table="as-released" if is_released else "causal",
    )
    random = generator(4)
    supernet = (ReleasedSupernet if is_released else Supernet)(sequences.num_items, Dropout(0.1), space)
    layers = LayerDistillation(WIDTH, teacher.width, config.num_cells, teacher.num_layers, config.distillation)
    initialise(supernet, random)
    initialise(layers, random)
    data = TrainingData.leave_one_out(sequences, LENGTH, "kept")
    distiller = (ReleasedDistiller if is_released else Distiller)(
        LiveTeacher(teacher, 128), layers, config.distillation
    )
    kind = ReleasedSearch if is_released else ArchitectureSearch
    return kind(
        supernet, distiller, data, config, costs or CellCosts.of_space(space), random, objective(sequences.num_items)
    )


def finished(search: ArchitectureSearch) -> list:
    """All its epochs' records."""
    return [record for record in search.records() if not isinstance(record, BatchRecord)]
