"""The search spaces, in one table. To add one: a row here, its name in `Search.space` (config.py), its drawing in
io/drawing.py. The loop (search.py), budgets, the steps and the report know no space by name. Beside them stand the
students of user models, which are not searched.
"""

from collections import ChainMap
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from distilrec.core import user_students
from distilrec.core.cell import CellSpace, Student, Supernet
from distilrec.core.cell_costs import CellCosts
from distilrec.core.config import SceneConfig, Search
from distilrec.core.dropout import Dropout
from distilrec.core.errors import ArtifactError
from distilrec.core.factors import USER_MODELS
from distilrec.core.genotype import Genotype as CellGenotype
from distilrec.core.latency import LatencyTable
from distilrec.core.recommender import Recommender
from distilrec.core.released import ReleasedStudent, ReleasedSupernet
from distilrec.core.sequence_model import SequenceModel
from distilrec.core.space import Costs, Genotype, SearchedModel, SearchSpace
from distilrec.core.transformer import (
    Shape,
    TransformerGenotype,
    TransformerSpace,
    TransformerStudent,
    TransformerSupernet,
)
from distilrec.core.transformer_costs import TransformerCosts


@dataclass(frozen=True)
class Family:
    """One search space: from the settings to the space, its supernet and its costs, and from a genotype to its student.

    Each maker takes what the others of its family make, and nothing else.
    """

    space: Callable[[Search, int], SearchSpace]
    supernet: Callable[[int, Dropout, Any], SearchedModel]
    costs: Callable[[Any, LatencyTable | None], Costs]
    genotype: Callable[[dict[str, Any]], Genotype]
    student: Callable[[int, Dropout, Any], SequenceModel]


def _cells(knobs: Search, max_length: int) -> CellSpace:
    return CellSpace(
        num_nodes=knobs.num_nodes,
        max_depth=knobs.num_cells,
        width=knobs.width,
        max_length=max_length,
        is_shared=knobs.cells == "shared",
        is_depth_searched=knobs.depth == "searched",
        table="as-released" if knobs.space == "adarec-as-released" else "causal",
    )


def _transformers(knobs: Search, max_length: int) -> TransformerSpace:
    own = knobs.transformer
    widths = own.widths_of(knobs.width)
    shape = Shape(own.head_width or widths[0], own.inner, max_length, own.attention, own.gates)
    return TransformerSpace(
        widths=widths,
        max_depth=own.num_layers,
        shape=shape,
        is_shared=own.widths == "shared",
        relaxation=own.relaxation,
        is_dynamic=own.constraint == "dynamic",
    )


SPACES: dict[str, Family] = {
    "cell": Family(_cells, Supernet, CellCosts.of_space, CellGenotype.from_json, Student),
    "adarec-as-released": Family(_cells, ReleasedSupernet, CellCosts.of_space, CellGenotype.from_json, ReleasedStudent),
    "fixed": Family(_cells, Supernet, CellCosts.of_space, CellGenotype.from_json, Student),
    "transformer": Family(
        _transformers, TransformerSupernet, TransformerCosts.of_space, TransformerGenotype.from_json, TransformerStudent
    ),
}


@dataclass(frozen=True)
class Students:
    """As Family, of students that are not searched: the space has one."""

    space: Callable[[Search, int], Any]
    costs: Callable[[Any, LatencyTable | None], Any]
    genotype: Callable[[dict[str, Any]], Genotype]
    student: Callable[[int, Dropout, Any], Recommender]


GIVEN: dict[str, Students] = {
    name: Students(
        user_students.space_of(name),
        user_students.costs_of,
        user_students.UserGenotype.from_json,
        user_students.student_of,
    )
    for name in USER_MODELS
}
FAMILIES: MutableMapping[str, Any] = ChainMap(SPACES, GIVEN)
"""Of all students, a Family or Students, by the space of their genotypes."""


def family_of(config: SceneConfig) -> Family | Students:
    """Of a scene's students."""
    family: Family | Students = FAMILIES[config.students]
    return family


def space_of(knobs: Search, max_length: int) -> SearchSpace:
    return SPACES[knobs.space].space(knobs, max_length)


def student_of(num_items: int, dropout: Dropout, genotype: Genotype) -> Recommender:
    model: Recommender = FAMILIES[genotype.space].student(num_items, dropout, genotype)
    return model


def genotype_of(data: dict[str, Any]) -> Genotype:
    """From JSON. Raises ArtifactError for a space, a schema or a value that this version does not have."""
    family = FAMILIES.get(str(data.get("space")))
    if family is None:
        raise ArtifactError("DR-ART-001", f"genotype space {data.get('space')!r} is none of {list(FAMILIES)}")
    genotype: Genotype = family.genotype(data)
    return genotype
