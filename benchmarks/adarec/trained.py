"""Students of one size and one recipe, trained one after the other; each is trained once and found again by name."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from distilrec.core.config import SceneConfig
from distilrec.core.cost import model_cost
from distilrec.core.distill import LayerDistillation
from distilrec.core.dropout import Dropout
from distilrec.core.evaluation import rank_users
from distilrec.core.events import Floats
from distilrec.core.fit import Fit, TrainingData
from distilrec.core.lessons import Distiller, Lesson, NextItem
from distilrec.core.metrics import per_user
from distilrec.core.objective import Objective
from distilrec.core.recommender import ModelScorer
from distilrec.core.sequence_model import SequenceModel, initialise
from distilrec.io.jsons import read_json, write_json
from distilrec.io.models import load_teacher
from distilrec.io.progress import Progress
from distilrec.io.store import LocalStore
from distilrec.io.tracking import Origin
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.inputs import open_dataset
from distilrec.steps.teaching import teacher_source
from distilrec.steps.training import seeded, train

Build = Callable[[int, Dropout], SequenceModel]
"""From the number of items."""


@dataclass(frozen=True)
class Row:
    """One trained student.

    Attributes:
        ranks: of the test users' targets, in the deciding variant.
        valid: NDCG@10 of its best epoch.
    """

    encoder_macs: int
    encoder_params: int
    valid: float
    seconds: float
    epochs: int
    ranks: list[int]

    def ndcg(self) -> Floats:
        """One value per test user."""
        return per_user(np.array(self.ranks), "ndcg", 10)


class Workshop:
    """A dataset and its teacher, and every student trained on them."""

    def __init__(self, folder: Path, config: SceneConfig, dataset: Path, teacher: Path) -> None:
        """The teacher is opened when it is asked for."""
        self.folder, self.config, self._teacher = folder, config, teacher
        self.data = open_dataset(dataset)
        self.training = TrainingData.leave_one_out(self.data.sequences, config.max_length, self.data.deciding)

    @cached_property
    def adapters(self) -> Adapters:
        """These trainings are not shown in MLflow."""
        progress, untracked = Progress(self.folder, "retrain"), SimpleNamespace(origin=Origin(""))
        return Adapters(LocalStore(self.folder / "store"), progress, SimpleNamespace(), untracked, 0.0)

    @cached_property
    def taught_by(self) -> tuple[SequenceModel, str]:
        """The teacher, and its content."""
        model, manifest = load_teacher(self._teacher)
        return model, str(manifest["content"])

    @property
    def teacher(self) -> SequenceModel:
        return self.taught_by[0]

    @cached_property
    def source(self) -> Any:
        """Asked once for all students."""
        return teacher_source(self.teacher, self.config.retrain.distillation, self.training, self.adapters)

    def ranks(self, model: SequenceModel) -> list[int]:
        sequences = self.data.sequences
        ranks = rank_users(ModelScorer(model), sequences.without_last(1), sequences.target(1))
        return [int(rank) for rank in ranks.variant(self.data.deciding)]

    def trained(self, name: str, build: Build, seed: int, is_distilled: bool = True, described: Any = None) -> Row:
        """From scratch, by the scene's `retrain` settings; without distillation by the same ones.

        `described` is what tells models of one name apart, such as a genotype.
        """
        config = self.config.model_copy(update={"seed": seed})
        num_items = self.data.sequences.num_items
        model = build(num_items, Dropout(config.retrain.dropout))
        cost = model_cost(model)
        inputs = [self.data.content, *([self.taught_by[1]] if is_distilled else [])]
        content = content_of("retrain", config, name, described, asdict(cost), is_distilled, *inputs)
        path = self.folder / "rows" / f"{name}-{seed}-{content}.json"
        if path.is_file():
            return Row(**read_json(path))
        generator = seeded(config, "retrain")
        initialise(model, generator)
        lesson = self._distiller(model, generator) if is_distilled else NextItem()
        objective = Objective(config.loss, num_items)
        fit = Fit(model, self.training, config.retrain, generator, objective, lesson)
        history = train(fit, name, content, config, self.data.deciding, self.adapters)
        model.load_state_dict(fit.best_weights)
        seconds = sum(float(record["seconds"]) for record in history)
        row = Row(cost.encoder_macs, cost.encoder_params, fit.best, seconds, len(history), self.ranks(model))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(row))
        print(f"{name}, seed {seed}: {row.ndcg().mean():.4f}, {cost.encoder_macs:,} multiply-adds", flush=True)
        return row

    def _distiller(self, model: SequenceModel, generator: Any) -> Lesson:
        knobs = self.config.retrain.distillation
        layers = LayerDistillation(model.width, self.teacher.width, model.num_layers, self.teacher.num_layers, knobs)
        initialise(layers, generator)
        return Distiller(self.source, layers, knobs)
