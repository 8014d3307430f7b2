"""teach: train the teacher."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distilrec.core.config import SceneConfig
from distilrec.core.contexts import HISTORIES, USERS
from distilrec.core.fit import Fit, TrainingData, UntilNoBetter
from distilrec.core.lessons import MaskedItems
from distilrec.core.objective import Objective
from distilrec.core.recommender import Recommender
from distilrec.core.sequence_model import SequenceModel
from distilrec.io.jsons import write_json
from distilrec.io.models import TeacherShape, save_teacher
from distilrec.io.store import whole_folder
from distilrec.steps import users
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.inputs import OpenDataset, open_dataset
from distilrec.steps.training import History, about_training, seeded, train


def teach(config: SceneConfig, dataset: Path, out: Path, adapters: Adapters) -> dict[str, Any]:
    """Early stopping on validation NDCG@10. Returns the manifest."""
    data = open_dataset(dataset)
    generator = seeded(config, "teach")
    shape = TeacherShape.of(config.teach, data.sequences.num_items, config.max_length, len(data.sequences))
    model = shape.build()
    model.initialise(generator)
    content = content_of("teach", config, data.content, *adapters.processes.content)
    training, masked_history = BEGIN[model.asked_with](config, model, data, content, generator, adapters)
    history = train(training, "teach", content, config, data.deciding, adapters)
    if adapters.processes.rank:
        return {}
    with whole_folder(out) as folder:
        save_teacher(folder.path, shape, training.best_weights, history)
        write_json(folder.path / "masked.json", masked_history)
        about, inputs = about_training(masked_history + history), {"prepare": data.content}
        folder.manifest.update(adapters.stamp("teach", content, inputs=inputs, best_epoch=training.best_epoch, **about))
    return folder.manifest


def _begin(
    config: SceneConfig,
    model: Recommender,
    data: OpenDataset,
    content: str,
    generator: torch.Generator,
    adapters: Adapters,
) -> tuple[Fit, History]:
    """The next-item loss; BERT4Rec fills masked items in before, and that history comes with it."""
    assert isinstance(model, SequenceModel), "of histories"
    training_data = TrainingData.of(data.split, config.max_length, data.deciding)
    objective = Objective(config.loss, data.sequences.num_items)
    masked_history: History = []
    if config.teach.model == "bert4rec":
        knobs = config.teach.masked
        lesson = MaskedItems(knobs.share)
        masked = Fit(model, training_data, knobs, generator, objective, lesson, adapters.processes)
        masked_history = train(masked, "teach", f"{content}-masked", config, data.deciding, adapters, is_shown=False)
        model.load_state_dict(masked.best_weights)
    return Fit(model, training_data, config.teach, generator, objective, processes=adapters.processes), masked_history


BEGIN: dict[str, Callable[..., tuple[UntilNoBetter, History]]] = {HISTORIES: _begin, USERS: users.begin_teaching}
"""By what the model is asked with."""
