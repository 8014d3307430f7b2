"""search: find the student's architecture by gradient, with distillation and cost."""

from pathlib import Path
from typing import Any

from distilrec.core.cell import Supernet
from distilrec.core.config import SceneConfig
from distilrec.core.cost import operation_costs, relative_costs
from distilrec.core.distill import LayerDistillation
from distilrec.core.dropout import Dropout
from distilrec.core.fit import TrainingData
from distilrec.core.genotype import edges_of
from distilrec.core.lessons import Distiller
from distilrec.core.objective import Objective
from distilrec.core.search import ArchitectureSearch
from distilrec.core.sequence_model import initialise
from distilrec.io.jsons import write_json
from distilrec.io.models import load_teacher, save_weights
from distilrec.io.store import whole_folder
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.inputs import open_dataset
from distilrec.steps.teaching import teacher_source
from distilrec.steps.training import about_training, seeded, train


def search(config: SceneConfig, dataset: Path, teacher: Path, out: Path, adapters: Adapters) -> dict[str, Any]:
    """Writes the supernet's weights, the choice, the cost table and the distributions over time."""
    data = open_dataset(dataset)
    teacher_model, teacher_manifest = load_teacher(teacher)
    knobs = config.search
    generator = seeded(config, "search")
    supernet = Supernet(
        data.sequences.num_items,
        knobs.width,
        config.max_length,
        Dropout(knobs.dropout),
        knobs.num_cells,
        knobs.num_nodes,
    )
    layers = LayerDistillation(
        knobs.width,
        teacher_model.width,
        knobs.num_cells,
        teacher_model.num_layers,
        knobs.distillation.layer_temperature,
    )
    initialise(supernet, generator)
    initialise(layers, generator)
    costs = operation_costs(knobs.width, config.max_length)
    content = content_of("search", config, data.content, str(teacher_manifest["content"]), *adapters.processes.content)
    training_data = TrainingData.leave_one_out(data.sequences, config.max_length, data.deciding)
    source = teacher_source(teacher_model, knobs.distillation, training_data, adapters)
    training = ArchitectureSearch(
        supernet,
        Distiller(source, layers, knobs.distillation, adapters.processes),
        training_data,
        knobs,
        relative_costs(costs),
        generator,
        Objective(config.loss, data.sequences.num_items),
        adapters.processes,
    )
    history = train(training, "search", content, config, data.deciding, adapters)
    if adapters.processes.rank:
        return {}
    relative = relative_costs(costs).tolist()
    with whole_folder(out) as folder:
        save_weights(folder.path, supernet.state_dict())
        write_json(folder.path / "history.json", history)
        found = {
            "choice": training.choice(),
            "edges": edges_of(knobs.num_nodes),
            "operations": list(costs),
            "num_items": data.sequences.num_items,
        }
        write_json(folder.path / "choice.json", found)
        table = [
            {"operation": name, "params": cost.params, "macs": cost.macs, "relative": share}
            for (name, cost), share in zip(costs.items(), relative, strict=True)
        ]
        write_json(folder.path / "costs.json", table)
        folder.manifest.update(adapters.stamp("search", content, **about_training(history)))
    return folder.manifest
