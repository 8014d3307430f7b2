"""A supernet with one-hot architecture weights is the derived student on the same weights."""

import pytest
import torch
import torch.nn.functional as F

from distilrec.core.cell import DEPTH, OPERATION, Student, Supernet
from distilrec.core.decisions import Choice, Draw
from distilrec.core.dropout import Dropout
from distilrec.core.errors import ArtifactError
from distilrec.core.genotype import Genotype, edges_of, live_nodes, prune
from distilrec.core.operations import OPERATIONS
from distilrec.core.sequence_model import initialise
from distilrec.core.space import inherited
from tests.conftest import NUM_EDGES, NUM_ITEMS, generator, space

NUM_OPERATIONS = len(OPERATIONS)
ZERO_INDEX = list(OPERATIONS).index("zero")


def _supernet(**knobs) -> Supernet:
    supernet = Supernet(NUM_ITEMS, Dropout(0.0), space(3, **knobs))
    initialise(supernet, generator())
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(2)))
    return supernet.eval()


def _drawn(num: int, rows: int, options: int) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.randint(options, (num, rows), generator=generator(3)).tolist()]


def _choices() -> list[tuple[dict, Choice]]:
    """The space's knobs, and a choice in it."""
    dead_first_node = (ZERO_INDEX, 0, 3, 1, 4, 2)
    alone = [(index,) * NUM_EDGES for index in range(NUM_OPERATIONS)]
    shared = [({}, {OPERATION: rows}) for rows in [*alone, *_drawn(6, NUM_EDGES, NUM_OPERATIONS), dead_first_node]]
    own = _drawn(4, 3 * NUM_EDGES, NUM_OPERATIONS)
    per_depth = [({"is_shared": False}, {OPERATION: rows}) for rows in own]
    searched = {"is_shared": False, "is_depth_searched": True}
    of_depth = [(searched, {OPERATION: rows, DEPTH: (depth,)}) for rows in own[:2] for depth in range(3)]
    return shared + per_depth + of_depth


@pytest.mark.parametrize(("knobs", "choice"), _choices())
def test_one_hot_supernet_equals_derived_student(knobs, choice, ids):
    supernet = _supernet(**knobs)
    sizes = {name: options for name, (_, options) in supernet.space.decisions().items()}
    one_hot = {name: F.one_hot(torch.tensor(rows), sizes[name]).float() for name, rows in choice.items()}
    student = Student(NUM_ITEMS, Dropout(0.0), supernet.space.derive(choice))
    student.load_state_dict(inherited(student, supernet.state_dict()))
    student.eval()
    with torch.no_grad():
        mixed = supernet.select(Draw(choice, one_hot))(ids)
        sampled = supernet.select(Draw(choice))(ids)
        derived = student(ids)
    assert len(derived.hidden) == supernet.space.depth_of(choice)
    for got in (sampled, derived):
        torch.testing.assert_close(got.state_BLD, mixed.state_BLD, rtol=0, atol=1e-5)
        for one, other in zip(got.hidden, mixed.hidden, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_zero_edges_and_what_they_starve_are_dropped():
    edges = dict.fromkeys(edges_of(3), "conv3") | {(0, 1): "zero", (0, 2): "zero"}
    kept = prune(edges, 3)
    assert kept == {(0, 3): "conv3"}
    assert live_nodes(kept) == [3]


def test_a_genotype_survives_json():
    genotype = space(2, is_shared=False).derive({OPERATION: (0, 1, 9, 3, 6, 8) * 2})
    assert Genotype.from_json(genotype.to_json()) == genotype
    with pytest.raises(ArtifactError, match="schema_version is 99"):
        Genotype.from_json({**genotype.to_json(), "schema_version": 99})
    bad = genotype.to_json()
    bad["cells"][0][0]["operation"] = "conv7"
    with pytest.raises(ArtifactError, match="conv7"):
        Genotype.from_json(bad)
