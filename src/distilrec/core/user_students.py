"""The students of BPR and NeuMF: the teacher's model at a width of their own. Nothing is searched; the steps around a
search find here what they ask of one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from distilrec.core.config import Search
from distilrec.core.cost import MACS, PARAMS, model_cost
from distilrec.core.decisions import Choice
from distilrec.core.dropout import Dropout
from distilrec.core.factors import USER_MODELS, UserModel
from distilrec.core.fit import Validation
from distilrec.core.genotype import SCHEMA_VERSION, require_schema
from distilrec.core.lessons import Losses
from distilrec.core.parallel import ALONE
from distilrec.core.recommender import ModelScorer
from distilrec.core.rows import Row
from distilrec.core.search import SearchRecord
from distilrec.core.snapshot import Snapshot

NUM_USERS = "num_users"


@dataclass(frozen=True)
class UserGenotype:
    """Attributes:
    space: the model, a key of USER_MODELS.
    """

    space: str
    width: int
    num_users: int

    max_length: ClassVar[int] = 1

    def parts(self) -> tuple[dict[str, str], ...]:
        return ()

    def to_json(self) -> dict[str, Any]:
        sizes = {"width": self.width, "max_length": self.max_length, NUM_USERS: self.num_users}
        return {"schema_version": SCHEMA_VERSION, "space": self.space, **sizes}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "UserGenotype":
        """Raises ArtifactError for another schema."""
        require_schema(data)
        return cls(str(data["space"]), int(data["width"]), int(data[NUM_USERS]))


@dataclass(frozen=True)
class UserSpace:
    """Of one student."""

    model: str
    width: int

    def rows(self) -> list[Row]:
        return []

    def derive(self, choice: Choice) -> UserGenotype:
        """Of how many users it is, the data says: the choice holds it."""
        return UserGenotype(self.model, self.width, choice[NUM_USERS][0])


@dataclass(frozen=True)
class UserCosts:
    """Of the one student, without embeddings: BPR is nothing else."""

    space: UserSpace

    def of(self, choice: Choice) -> dict[str, float]:
        with torch.device("meta"):
            cost = model_cost(USER_MODELS[self.space.model](choice[NUM_USERS][0], 1, self.space.width))
        return {PARAMS: float(cost.encoder_params), MACS: float(cost.encoder_macs)}

    def table(self) -> dict[str, Any]:
        return {}


class GivenStudent:
    """A search that has found what it was given: one record, of the student as it begins, and no step."""

    limits: ClassVar[dict[str, float]] = {}

    def __init__(self, student: UserModel, costs: UserCosts, data: Validation) -> None:
        self.student, self.costs, self.data = student, costs, data
        self.epoch = 0

    def records(self) -> Iterator[SearchRecord]:
        if self.epoch:
            return
        self.epoch = 1
        yield SearchRecord(
            epoch=1,
            num_epochs=1,
            temperature=0.0,
            losses=Losses(0.0, 0.0),
            architecture_losses=None,
            expected_cost=self.costs.of(self.choice()),
            cost_weight=0.0,
            valid=self.data.validate(ModelScorer(self.student), self.epoch, ALONE),
            choice=self.choice(),
            probability={},
            entropy={},
            padding=0.0,
        )

    def choice(self) -> Choice:
        return {NUM_USERS: (self.student.num_users,)}

    def weights(self) -> dict[str, Tensor]:
        """For the student to inherit: all of it."""
        return self.student.state_dict()

    def snapshot(self) -> Snapshot:
        saved = Snapshot(values={"epoch": self.epoch})
        saved.put_module("student", self.student)
        return saved

    def restore(self, saved: Snapshot) -> None:
        self.epoch = int(saved.values["epoch"])
        saved.get_module("student", self.student)


def space_of(model: str) -> Callable[[Search, int], UserSpace]:
    return lambda knobs, _: UserSpace(model, knobs.width)


def costs_of(space: UserSpace, _: object = None) -> UserCosts:
    return UserCosts(space)


def student_of(num_items: int, _: Dropout, genotype: UserGenotype) -> UserModel:
    return USER_MODELS[genotype.space](genotype.num_users, num_items, genotype.width)
