"""The loop searches any space: the transformer's, and one that is made up here, added as CONTRIBUTING says."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from distilrec.core.budget import is_between
from distilrec.core.config import Search
from distilrec.core.cost import MACS
from distilrec.core.decisions import Draw, mix_drawn, most_likely
from distilrec.core.distill import LayerDistillation
from distilrec.core.dropout import Dropout
from distilrec.core.fit import TrainingData
from distilrec.core.lessons import Distiller
from distilrec.core.operations import OPERATIONS
from distilrec.core.rows import Row
from distilrec.core.search import ArchitectureSearch
from distilrec.core.sequence_model import Layers, SequenceModel, initialise
from distilrec.core.space import SearchedModel, inherited
from distilrec.core.spaces import FAMILIES, SPACES, Family, genotype_of, space_of, student_of
from distilrec.core.teaching import LiveTeacher
from distilrec.core.transformer import DEPTH, WIDTH
from distilrec.io.drawing import DRAWINGS, draw_genotype
from tests.conftest import LENGTH, NUM_ITEMS, chain, generator, objective, sasrec
from tests.conftest import WIDTH as BROAD
from tests.core.searching import finished

KINDS = ("identity", "conv3")


@dataclass(frozen=True)
class ToyGenotype:
    kind: str
    width: int
    max_length: int
    space = "toy"

    def parts(self):
        return [{"one": self.kind}]

    def to_json(self):
        return {"space": "toy", "kind": self.kind, "width": self.width, "max_length": self.max_length}

    @classmethod
    def from_json(cls, data):
        return cls(data["kind"], data["width"], data["max_length"])


@dataclass(frozen=True)
class ToySpace:
    """One layer, of one of two operations."""

    width: int
    max_length: int
    max_depth: ClassVar[int] = 1
    relaxation: ClassVar[str] = "gumbel"
    parts: ClassVar[list[str]] = list(KINDS)

    def decisions(self):
        return {"kind": (1, 2)}

    def rows(self):
        return [Row("kind", "kind", 0, KINDS)]

    def derive(self, choice):
        return ToyGenotype(KINDS[choice["kind"][0]], self.width, self.max_length)

    def samples(self, random, count):
        return [ToyGenotype(kind, self.width, self.max_length) for kind in KINDS]


class ToyModel(SequenceModel):
    def finish(self, hidden_BLD):
        return hidden_BLD


class ToySupernet(SearchedModel, ToyModel):
    def __init__(self, num_items, dropout, space):
        super().__init__(num_items, space.width, space.max_length, dropout, space.max_length)
        self.space = space
        self.layers = torch.nn.ModuleDict({kind: OPERATIONS[kind](space.width) for kind in KINDS})

    def forward(self, ids_BL):
        embedded_BLD, (chosen,) = self.embed(ids_BL), self.drawn.choice["kind"]
        if self.drawn.mixture is None:
            return self.run(embedded_BLD, [self.layers[KINDS[chosen]]])
        values = [self.layers[kind](embedded_BLD) for kind in KINDS]
        state_BLD = mix_drawn(self.drawn.mixture["kind"][0], chosen, values)
        return Layers(embedded_BLD, (state_BLD,), state_BLD)

    def macs_per_position(self):
        return self.layers[KINDS[self.drawn.choice["kind"][0]]].macs_per_position()


class ToyStudent(ToyModel):
    def __init__(self, num_items, dropout, genotype):
        super().__init__(num_items, genotype.width, genotype.max_length, dropout, genotype.max_length)
        self.layers = torch.nn.ModuleDict({genotype.kind: OPERATIONS[genotype.kind](genotype.width)})

    def forward(self, ids_BL):
        return self.run(self.embed(ids_BL), self.layers.values())

    def macs_per_position(self):
        return sum(layer.macs_per_position() for layer in self.layers.values())


@dataclass(frozen=True)
class ToyCosts:
    space: ToySpace
    measured: object = None
    measures: ClassVar[list[str]] = [MACS]
    rest: ClassVar[dict[str, float]] = {MACS: 0.0}

    def expected(self, probabilities):
        return {MACS: probabilities["kind"][0, 1] * 3 * self.space.width**2 * self.space.max_length}

    def of(self, choice):
        return {MACS: float(choice["kind"][0]) * 3 * self.space.width**2 * self.space.max_length}

    def penalty(self, probabilities, measures):
        return probabilities["kind"][0, 1]

    def dearness(self, measures):
        return {"kind": torch.tensor([0.0, 1.0])}

    def best_between(self, logits, limits, floors):
        ranked = [most_likely(logits), {"kind": (0,)}, {"kind": (1,)}]
        return next((choice for choice in ranked if is_between(self.of(choice), limits, floors)), None)

    def smallest(self, measure):
        return 0.0

    def table(self):
        return {"conv3": 3 * self.space.width**2}


@pytest.fixture
def toy(monkeypatch):
    """A row in the table, its name in the settings, a drawing."""
    family = Family(
        lambda knobs, length: ToySpace(knobs.width, length), ToySupernet, ToyCosts, ToyGenotype.from_json, ToyStudent
    )
    monkeypatch.setitem(SPACES, "toy", family)
    monkeypatch.setitem(DRAWINGS, "toy", lambda genotype: DRAWINGS["transformer"](_transformer_genotype()))
    return lambda **knobs: Search.model_construct(**{**dict(_knobs()), "space": "toy", **knobs})


def _knobs(**knobs) -> Search:
    return Search(width=BROAD, batch_size=32, epochs=2, architecture_after=0, learning_rate=0.01, **knobs)


def transformer_knobs(**knobs) -> Search:
    own = {"num_layers": 2, "divisors": (1, 2), "inner": 1} | knobs.pop("transformer", {})
    return _knobs(space="transformer", transformer=own, **knobs)


def _transformer_genotype():
    return space_of(transformer_knobs(), LENGTH).derive({WIDTH: (0,), DEPTH: (1,)})


def search_of(knobs: Search) -> ArchitectureSearch:
    family, random, sequences, teacher = SPACES[knobs.space], generator(4), chain(0.9, num_users=60), sasrec()
    space = family.space(knobs, LENGTH)
    supernet = family.supernet(NUM_ITEMS, Dropout(0.1), space)
    layers = LayerDistillation(space.width, teacher.width, space.max_depth, teacher.num_layers, knobs.distillation)
    initialise(supernet, random)
    initialise(layers, random)
    data = TrainingData.leave_one_out(sequences, LENGTH, "kept")
    distiller = Distiller(LiveTeacher(teacher, 128), layers, knobs.distillation)
    return ArchitectureSearch(supernet, distiller, data, knobs, family.costs(space, None), random, objective())


def _require_resumes(make):
    straight, broken = make(), make()
    records = finished(straight)
    for record in broken.records():
        if getattr(record, "valid", None) and record.epoch == 1:
            saved = broken.snapshot()
            break
    resumed = make()
    resumed.restore(saved)
    assert finished(resumed) == records[1:]
    one, other = straight.snapshot(), resumed.snapshot()
    assert one.values == other.values
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name
    return straight


def _require_derived(search, ids):
    """The student of the choice, with the weights it inherits, is what validation ranked."""
    choice = search.choice()
    genotype = search.supernet.space.derive(choice)
    assert genotype_of(genotype.to_json()) == genotype
    student = student_of(NUM_ITEMS, Dropout(0.0), genotype)
    student.load_state_dict(inherited(student, search.weights()))
    supernet = search.supernet.select(Draw(choice)).eval()
    with torch.no_grad():
        expected = supernet.score(supernet(ids).state_BLD)
        torch.testing.assert_close(student.eval().score(student(ids).state_BLD), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"widths": "per-layer"},
        {"relaxation": "softmax", "attention": "softmax", "gates": False, "constraint": "static"},
    ],
)
def test_a_search_of_transformers_stops_and_resumes_to_the_same_result(options, ids):
    search = _require_resumes(lambda: search_of(transformer_knobs(transformer=options)))
    _require_derived(search, ids)


def test_a_search_of_transformers_keeps_to_its_budget_and_learns():
    limit = 8000.0
    knobs = transformer_knobs(budget={"encoder_macs": int(limit)}, cost_weight=0.0, architecture_learning_rate=0.3)
    search = search_of(knobs.model_copy(update={"epochs": 5}))
    records = finished(search)
    assert search.costs.of(search.choice())[MACS] <= limit
    assert records[-1].expected_cost[MACS] < 1.3 * limit
    assert records[-1].valid["kept"] > records[0].valid["kept"]


def test_a_dear_mixture_becomes_small():
    search = search_of(transformer_knobs(cost_weight=30.0, architecture_learning_rate=0.3))
    finished(search)
    assert search.choice() == {WIDTH: (0,), DEPTH: (0,)}


@pytest.mark.parametrize("limits", [{}, {"encoder_macs": 100}])
def test_a_space_is_added_without_touching_the_loop(toy, limits, ids):
    budget = Search(budget=limits).budget
    search = _require_resumes(lambda: search_of(toy(budget=budget)))
    _require_derived(search, ids)
    if limits:
        assert search.choice() == {"kind": (0,)}, "the convolution is dearer"
    assert draw_genotype(search.supernet.space.derive(search.choice())).startswith("<?xml")


def test_every_space_has_a_drawing_and_a_name_in_the_settings():
    names = set(Search.model_fields["space"].annotation.__args__)
    assert names == set(SPACES)
    assert set(FAMILIES) == {*DRAWINGS, "fixed"}, "what is fixed is a cell"
    assert "layer 2" in draw_genotype(_transformer_genotype())
    space = space_of(transformer_knobs(transformer={"widths": "per-layer"}), LENGTH)
    assert [row.title for row in space.rows()] == ["layer 1", "layer 2", "depth"]
    assert all(len(row.options) == space.decisions()[row.decision][1] for row in space.rows())
    assert replace(space, is_shared=True).rows()[0].options == ("4 wide", "8 wide")
