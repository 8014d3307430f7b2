"""A supernet with one-hot architecture weights is the derived student on the same weights."""

import pytest
import torch

from distilrec.core.cell import Student, Supernet, derive, inherited
from distilrec.core.dropout import Dropout
from distilrec.core.errors import ArtifactError
from distilrec.core.genotype import Genotype, edges_of, prune
from distilrec.core.operations import OPERATIONS
from distilrec.core.sequence_model import initialise
from tests.conftest import LENGTH, NUM_EDGES, NUM_ITEMS, WIDTH, generator

NUM_OPERATIONS = len(OPERATIONS)
ZERO_INDEX = list(OPERATIONS).index("zero")


def _supernet() -> Supernet:
    supernet = Supernet(NUM_ITEMS, WIDTH, LENGTH, Dropout(0.0), num_cells=3, num_nodes=3)
    initialise(supernet, generator())
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(2)))
    return supernet.eval()


def _choices() -> list[list[int]]:
    drawn = torch.randint(NUM_OPERATIONS, (12, NUM_EDGES), generator=generator(3)).tolist()
    dead_first_node = [ZERO_INDEX, 0, 3, 1, 4, 2]
    return [[index] * NUM_EDGES for index in range(NUM_OPERATIONS)] + drawn + [dead_first_node]


@pytest.mark.parametrize("choice", _choices())
def test_one_hot_supernet_equals_derived_student(choice, ids):
    supernet = _supernet()
    one_hot = torch.nn.functional.one_hot(torch.tensor(choice), NUM_OPERATIONS).float()
    genotype = derive(choice, 3, 3, WIDTH, LENGTH)
    student = Student(NUM_ITEMS, Dropout(0.0), genotype)
    student.load_state_dict(inherited(student, supernet.state_dict()))
    student.eval()
    with torch.no_grad():
        mixed = supernet.select(choice, one_hot)(ids)
        sampled = supernet.select(choice)(ids)
        derived = student(ids)
    for got in (sampled, derived):
        torch.testing.assert_close(got.state_BLD, mixed.state_BLD, rtol=0, atol=1e-5)
        for one, other in zip(got.hidden, mixed.hidden, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_zero_edges_and_what_they_starve_are_dropped():
    edges = dict.fromkeys(edges_of(3), "conv3") | {(0, 1): "zero", (0, 2): "zero"}
    kept = prune(edges, 3)
    assert kept == {(0, 3): "conv3"}
    assert Genotype(1, 3, WIDTH, LENGTH, kept).live_nodes() == [3]


def test_a_genotype_survives_json():
    genotype = derive([0, 1, 9, 3, 6, 8], 4, 3, 16, 50)
    assert Genotype.from_json(genotype.to_json()) == genotype
    with pytest.raises(ArtifactError, match="schema_version is 99"):
        Genotype.from_json({**genotype.to_json(), "schema_version": 99})
    bad = genotype.to_json()
    bad["edges"][0]["operation"] = "conv7"
    with pytest.raises(ArtifactError, match="conv7"):
        Genotype.from_json(bad)
