"""search: find the student's architecture by gradient, with distillation and cost."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distilrec.core.config import SceneConfig
from distilrec.core.contexts import HISTORIES, USERS
from distilrec.core.distill import LayerDistillation
from distilrec.core.dropout import Dropout
from distilrec.core.errors import ConfigError
from distilrec.core.fit import TrainingData
from distilrec.core.fixed import FixedSearch
from distilrec.core.lessons import Distiller
from distilrec.core.objective import Objective
from distilrec.core.recommender import Recommender
from distilrec.core.released import SEARCH as RELEASED_SETTINGS
from distilrec.core.released import ReleasedDistiller, ReleasedSearch
from distilrec.core.search import ArchitectureSearch
from distilrec.core.sequence_model import SequenceModel, initialise
from distilrec.core.space import Costs
from distilrec.core.spaces import SPACES
from distilrec.core.teaching import LiveTeacher
from distilrec.core.user_students import GivenStudent
from distilrec.io.jsons import write_json
from distilrec.io.models import save_weights
from distilrec.io.store import whole_folder
from distilrec.steps import users
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.inputs import OpenDataset, open_dataset
from distilrec.steps.latency_table import latency_table
from distilrec.steps.matching import open_teacher
from distilrec.steps.spaces import costs_of
from distilrec.steps.teaching import teacher_source
from distilrec.steps.training import about_training, seeded, train


def search(config: SceneConfig, dataset: Path, teacher: Path, out: Path, adapters: Adapters) -> dict[str, Any]:
    """Writes the supernet's weights, the choice, the cost table and the distributions over time."""
    data = open_dataset(dataset)
    teacher_model, teacher_manifest = open_teacher(teacher, config, data)
    measured = latency_table(config, data.sequences.num_items)
    costs = costs_of(config, measured)
    inputs = {"prepare": data.content, "teach": str(teacher_manifest["content"])}
    priced = [measured.to_json()] if measured else []
    content = content_of("search", config, *inputs.values(), *priced, *adapters.processes.content)
    training = BEGIN[teacher_model.asked_with](config, costs, data, teacher_model, adapters)
    history = train(training, "search", content, config, data.deciding, adapters)
    if adapters.processes.rank:
        return {}
    choice = training.choice()
    with whole_folder(out) as folder:
        save_weights(folder.path, training.weights())
        write_json(folder.path / "history.json", history)
        found = {
            "space": asdict(costs.space),
            "choice": choice,
            "rows": [asdict(row) for row in costs.space.rows()],
            "num_items": data.sequences.num_items,
            "limits": training.limits,
            "predicted_cost": costs.of(choice),
        }
        write_json(folder.path / "choice.json", found)
        write_json(folder.path / "costs.json", costs.table())
        folder.manifest.update(adapters.stamp("search", content, inputs=inputs, **about_training(history)))
    return folder.manifest


def _begin(
    config: SceneConfig,
    costs: Costs,
    data: OpenDataset,
    teacher: Recommender,
    adapters: Adapters,
) -> ArchitectureSearch:
    """Raises ConfigError for the release in several processes, and for a search that would decide nothing."""
    assert isinstance(teacher, SequenceModel), "of histories"
    knobs, generator = config.search, seeded(config, "search")
    is_released = knobs.space == "adarec-as-released"
    if is_released and adapters.processes.count > 1:
        raise ConfigError("DR-CONF-005", "search: space adarec-as-released is for one process, not for torchrun")
    supernet = SPACES[knobs.space].supernet(data.sequences.num_items, Dropout(knobs.dropout), costs.space)
    layers = LayerDistillation(
        supernet.width, teacher.width, costs.space.max_depth, teacher.num_layers, knobs.distillation
    )
    initialise(supernet, generator)
    initialise(layers, generator)
    training_data = TrainingData.of(data.split, config.max_length, data.deciding)
    objective = Objective(config.loss, data.sequences.num_items)
    if is_released:
        released = knobs.model_copy(update=RELEASED_SETTINGS)
        live = LiveTeacher(teacher, knobs.distillation.named_items)
        distiller: Distiller = ReleasedDistiller(live, layers, knobs.distillation)
        return ReleasedSearch(supernet, distiller, training_data, released, costs, generator, objective)
    source = teacher_source(teacher, knobs.distillation, training_data, adapters)
    distiller = Distiller(source, layers, knobs.distillation, adapters.processes)
    begin = FixedSearch if knobs.space == "fixed" else ArchitectureSearch
    search = begin(supernet, distiller, training_data, knobs, costs, generator, objective, adapters.processes)
    if begin is ArchitectureSearch and not search.num_architecture_steps():
        raise ConfigError(
            "DR-CONF-005",
            f"search: architecture_every {knobs.architecture_every} and architecture_after {knobs.architecture_after} "
            f"leave no architecture step in {knobs.epochs} epochs of this data, so nothing would be decided",
        )
    return search


BEGIN: dict[str, Callable[..., ArchitectureSearch | GivenStudent]] = {HISTORIES: _begin, USERS: users.begin_search}
"""By what the teacher is asked with."""
