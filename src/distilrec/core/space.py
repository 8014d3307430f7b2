"""What a search space is to the loop that searches (search.py), to budgets (budget.py) and to the steps. The table of
those that there are is in spaces.py.

Shapes: R rows of logits, O options.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from distilrec.core.decisions import Choice, Draw
from distilrec.core.recommender import Recommender
from distilrec.core.rows import Row
from distilrec.core.sequence_model import SequenceModel


class Genotype(Protocol):
    """A searched architecture as a value: all that its student is built from, but the catalogue."""

    @property
    def space(self) -> str:
        """The family it is of, a key of SPACES."""

    @property
    def width(self) -> int: ...

    @property
    def max_length(self) -> int: ...

    def parts(self) -> Iterable[Mapping[Any, str]]:
        """Of each layer, what a latency table prices."""

    def to_json(self) -> dict[str, Any]: ...


class SearchSpace(Protocol):
    """What is to be decided. A frozen dataclass of plain values: the search writes it beside its result."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def width(self) -> int:
        """The largest of a student."""

    @property
    def max_depth(self) -> int:
        """The most layers that distillation sees."""

    @property
    def relaxation(self) -> str:
        """How an architecture is sampled, a key of RELAXATIONS."""

    @property
    def parts(self) -> list[str]:
        """What a latency table must price."""

    def decisions(self) -> dict[str, tuple[int, int]]:
        """Rows and options of each."""

    def rows(self) -> list[Row]:
        """Every row of every decision, as the report names it."""

    def derive(self, choice: Choice) -> Genotype: ...

    def samples(self, random: np.random.Generator, count: int) -> list[Any]:
        """Genotypes that a latency table is fitted to; of which the last `count` are random."""


class SearchedModel(SequenceModel):
    """A supernet: one model of all students of its space. The logits are not among its parameters: they have their
    own optimiser, and are passed in as what was drawn from them."""

    space: SearchSpace
    drawn = Draw({})

    def select(self, drawn: Draw) -> Self:
        """What the next calls evaluate: the drawn path, or, with a mixture, all options."""
        assert {name: len(rows) for name, rows in drawn.choice.items()} == {
            name: rows for name, (rows, _) in self.space.decisions().items()
        }, "an option for every row"
        self.drawn = drawn
        return self

    @abstractmethod
    def macs_per_position(self) -> int:
        """Of the chosen path."""


class Costs(Protocol):
    """Of everything that a space can choose, by measure: "params" and "macs" of the encoder, and "p50_ms" of a whole
    request and "joules" of a thousand if they were measured."""

    @property
    def space(self) -> SearchSpace: ...

    @property
    def measures(self) -> list[str]: ...

    @property
    def rest(self) -> Mapping[str, float]:
        """By measure: what every student pays."""

    def expected(self, probabilities: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By measure, of independent draws, differentiable."""

    def of(self, choice: Choice) -> dict[str, float]:
        """By measure; the derived student costs at most this."""

    def penalty(self, probabilities: Mapping[str, Tensor], measures: tuple[str, ...]) -> Tensor:
        """What a weight on cost weighs: in [0, 1], differentiable."""

    def dearness(self, measures: Iterable[str]) -> dict[str, Tensor]:
        """By decision, in [0, 1], shape (O,): how dear each option is. What is free of cost is left out."""

    def best_between(
        self, logits: Mapping[str, Tensor], limits: Mapping[str, float], floors: Mapping[str, float]
    ) -> Choice | None:
        """The most likely choice of at most `limits` and at least `floors`; None if there is none."""

    def smallest(self, measure: str) -> float:
        """The least that a student costs."""

    def table(self) -> dict[str, Any]:
        """As JSON, to be read by people."""


def certain(choice: Choice, space: SearchSpace) -> dict[str, Tensor]:
    """The distributions that leave nothing else."""
    sizes = {name: options for name, (_, options) in space.decisions().items()}
    return {name: nn.functional.one_hot(torch.tensor(rows), sizes[name]).double() for name, rows in choice.items()}


def normalised(
    expected: Mapping[str, Tensor],
    rest: Mapping[str, float],
    largest: Callable[[str], float],
    measures: Iterable[str],
) -> Tensor:
    """The mean over the measures of the expected over the largest possible cost, without what all pay: in [0, 1]."""
    return torch.stack([(expected[m] - rest[m]) / (largest(m) - rest[m]) for m in measures]).mean()


def dearest(per_option: Mapping[str, tuple[float, ...]], measures: Iterable[str]) -> Tensor:
    """Of each option the largest share of the dearest one's cost, over the measures; shape (O,)."""
    return torch.stack([torch.tensor(per_option[m]) / max(per_option[m]) for m in measures]).amax(dim=0)


def inherited(student: Recommender, supernet_weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The student's part of the supernet's weights: the names are the same, and what is smaller is the beginning."""
    return {
        name: supernet_weights[name][tuple(slice(size) for size in tensor.shape)].clone()
        for name, tensor in student.state_dict().items()
    }
