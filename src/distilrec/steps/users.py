"""What the steps that train begin for models of users, where they begin something else for models of histories."""

from functools import cache

import torch

from distilrec.core.config import Retrain, SceneConfig, UserTraining
from distilrec.core.errors import ConfigError, DataError
from distilrec.core.factors import UserModel
from distilrec.core.fit import Validation
from distilrec.core.recommender import Recommender
from distilrec.core.terms import terms_of
from distilrec.core.user_fit import Pairs, UserFit, UserRun, UserTeaching, ranking_by
from distilrec.core.user_students import GivenStudent, UserCosts
from distilrec.core.views import sizes_of_users
from distilrec.steps.adapters import Adapters
from distilrec.steps.inputs import OpenDataset
from distilrec.steps.training import History, seeded


def begin_teaching(
    config: SceneConfig,
    model: Recommender,
    data: OpenDataset,
    content: str,  # noqa: ARG001
    generator: torch.Generator,
    adapters: Adapters,
) -> tuple[UserRun, History]:
    """Raises ConfigError for several processes."""
    _require_alone(adapters)
    knobs = config.teach
    fit = _fit(model, _pairs(data), knobs.factors, generator)
    return UserRun(fit, _validation(data), knobs), []


def begin_search(
    config: SceneConfig, costs: UserCosts, data: OpenDataset, teacher: Recommender, adapters: Adapters
) -> GivenStudent:
    """Raises ConfigError for several processes."""
    _require_alone(adapters)
    assert isinstance(teacher, UserModel), "as the scene says"
    student = type(teacher)(len(data.sequences), data.sequences.num_items, costs.space.width)
    student.initialise(seeded(config, "search"))
    return GivenStudent(student, costs, _validation(data))


def begin_retraining(
    config: SceneConfig,
    student: Recommender,
    teacher: Recommender,
    data: OpenDataset,
    generator: torch.Generator,
    adapters: Adapters,
) -> UserRun:
    """With the terms that are named. What they train beside the student stays in the fit.

    Raises:
        ConfigError: several processes.
    """
    _require_alone(adapters)
    knobs, pairs = config.retrain, _pairs(data)
    teaching = _teaching(knobs, student, teacher, pairs, generator) if knobs.terms.weights() else None
    fit = _fit(student, pairs, knobs.factors, generator, teaching)
    return UserRun(fit, _validation(data), knobs)


def _teaching(
    knobs: Retrain, student: Recommender, teacher: Recommender, pairs: Pairs, generator: torch.Generator
) -> UserTeaching:
    assert isinstance(student, UserModel) and isinstance(teacher, UserModel), "as the scene says"
    terms = terms_of(knobs.terms, sizes_of_users(student, teacher, knobs.max_epochs), generator)
    ranking = cache(lambda: ranking_by(teacher, pairs, knobs.distillation.named_items))
    return UserTeaching(teacher, ranking, terms, knobs.terms.weights())


def _fit(
    model: Recommender,
    pairs: Pairs,
    knobs: UserTraining,
    generator: torch.Generator,
    teaching: UserTeaching | None = None,
) -> UserFit:
    assert isinstance(model, UserModel), "as the scene says"
    return UserFit(model, pairs, knobs, generator, teaching)


def _pairs(data: OpenDataset) -> Pairs:
    """Raises DataError if nobody lacks an item."""
    pairs = Pairs.of(data.split.train)
    if not len(pairs.users_P):
        words = f"every user has all {data.sequences.num_items:,} items in training: none is left to rank below them"
        raise DataError("DR-DATA-006", words)
    return pairs


def _validation(data: OpenDataset) -> Validation:
    return Validation(data.split.valid, data.deciding)


def _require_alone(adapters: Adapters) -> None:
    if adapters.processes.count > 1:
        raise ConfigError("DR-CONF-005", "teach: models bpr and neumf are trained in one process, not by torchrun")
