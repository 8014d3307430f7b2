"""retrain: train the derived student on, with distillation, and export it and its teacher."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from distilrec.core.config import Retrain, SceneConfig
from distilrec.core.contexts import HISTORIES, USERS
from distilrec.core.distill import LayerDistillation
from distilrec.core.fit import Fit, TrainingData, UntilNoBetter
from distilrec.core.lessons import Distiller, NextItem
from distilrec.core.objective import Objective
from distilrec.core.recommender import Recommender
from distilrec.core.released import RETRAIN as RELEASED_SETTINGS
from distilrec.core.released import ReleasedStudent
from distilrec.core.sequence_model import SequenceModel, initialise
from distilrec.core.spaces import genotype_of
from distilrec.core.state_terms import StateTerms, sizes_of_states
from distilrec.core.terms import terms_of
from distilrec.io.export import check_export, export_onnx, quantise
from distilrec.io.jsons import read_json, write_json
from distilrec.io.models import build_student, load_weights, save_student
from distilrec.io.rankers import complete_ranker, write_indexed
from distilrec.io.store import manifest_of, whole_folder
from distilrec.io.tables import read_dataset
from distilrec.steps import users
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.inputs import OpenDataset, open_dataset
from distilrec.steps.matching import open_teacher, require_student_of
from distilrec.steps.teaching import teacher_source
from distilrec.steps.training import about_training, seeded, train


def write_rankers(folder: Path, name: str, model: Recommender, dataset: Path, scene: str, exclude_seen: bool) -> None:
    """In float32 and int8, called as the latencies call them."""
    users = read_dataset(dataset).user_ids if model.asked_with == USERS else None
    float32, int8 = folder / f"{name}_onnx", folder / f"{name}_int8"
    export_onnx(model, float32)
    quantise(float32, int8)
    for ranker in (float32, int8):
        complete_ranker(ranker, dataset / "items.parquet", scene, exclude_seen, users)


def _terms(
    student: SequenceModel, teacher: SequenceModel, knobs: Retrain, data: TrainingData, generator: torch.Generator
) -> StateTerms:
    terms = terms_of(knobs.terms, sizes_of_states(student, teacher, knobs.max_epochs), generator)
    batches_per_epoch = -(-len(data.windows) // knobs.batch_size)
    return StateTerms(teacher, terms, knobs.terms.weights(), batches_per_epoch, knobs.term_positions)


def retrain(
    config: SceneConfig, dataset: Path, teacher: Path, genotype: Path, out: Path, adapters: Adapters
) -> dict[str, Any]:
    """Distilled, unless the architecture was searched as released. Both models become rankers, in float32 and int8."""
    data = open_dataset(dataset)
    teacher_model, teacher_manifest = open_teacher(teacher, config, data)
    genotype_manifest = manifest_of(genotype, "derive")
    architecture = genotype_of(read_json(genotype / "genotype.json"))
    generator = seeded(config, "retrain")
    knobs = config.retrain.model_copy(update=RELEASED_SETTINGS if architecture.space == "adarec-as-released" else {})
    student = build_student(data.sequences.num_items, knobs, architecture)
    require_student_of(genotype, student, teacher_model, data)
    if knobs.start == "inherited":
        student.load_state_dict(load_weights(genotype))
    else:
        student.initialise(generator)
    manifests = {"prepare": data.manifest, "teach": teacher_manifest, "derive": genotype_manifest}
    inputs = {step: str(manifest["content"]) for step, manifest in manifests.items()}
    content = content_of("retrain", config, *inputs.values(), *adapters.processes.content)
    settled = config.model_copy(update={"retrain": knobs})
    training = BEGIN[student.asked_with](settled, student, teacher_model, data, generator, adapters)
    history = train(training, "retrain", content, config, data.deciding, adapters)
    if adapters.processes.rank:
        return {}
    student.load_state_dict(training.best_weights)
    with whole_folder(out) as folder:
        save_student(folder.path, student.num_items, architecture, training.best_weights, history)
        checks = {}
        for name, model in (("student", student), ("teacher", teacher_model)):
            write_rankers(folder.path / "rankers", name, model, dataset, config.scene, data.deciding == "removed")
            checks[name] = asdict(check_export(model, folder.path / "rankers" / f"{name}_onnx", data.sequences))
        effort = config.serve.index_effort if config.serve.variant == "indexed" else None
        if effort is not None:
            adapters.progress.tick("indexing")
            vectors, rankers = student.item_vectors().detach().numpy(), folder.path / "rankers"
            write_indexed(rankers / "student_onnx", rankers / "student_indexed", vectors, effort, config.threads)
        write_json(folder.path / "export.json", checks)
        written = content_of("retrain", config, content, effort)
        about = {"inputs": inputs, "best_epoch": training.best_epoch, **about_training(history)}
        folder.manifest.update(adapters.stamp("retrain", written, **about))
    return folder.manifest


def _begin(
    config: SceneConfig,
    student: Recommender,
    teacher: Recommender,
    data: OpenDataset,
    generator: torch.Generator,
    adapters: Adapters,
) -> Fit:
    assert isinstance(student, SequenceModel) and isinstance(teacher, SequenceModel), "of histories"
    knobs = config.retrain
    layers = LayerDistillation(student.width, teacher.width, student.num_layers, teacher.num_layers, knobs.distillation)
    initialise(layers, generator)
    training_data = TrainingData.of(data.split, config.max_length, data.deciding)
    source = teacher_source(teacher, knobs.distillation, training_data, adapters)
    terms = _terms(student, teacher, knobs, training_data, generator) if knobs.terms.weights() else None
    taught = Distiller(source, layers, knobs.distillation, adapters.processes, terms)
    is_released = isinstance(student, ReleasedStudent)
    lesson = NextItem() if is_released else taught
    training = Fit(
        student,
        training_data,
        knobs,
        generator,
        Objective(config.loss, student.num_items),
        lesson,
        adapters.processes,
    )
    if is_released:  # the first "best" of its fine-tuning
        scores = training_data.validate(lesson.scorer(student), 0, adapters.processes)
        training.best = scores[data.deciding]
        training.best_weights = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    return training


BEGIN: dict[str, Callable[..., UntilNoBetter]] = {HISTORIES: _begin, USERS: users.begin_retraining}
"""By what the models are asked with."""
