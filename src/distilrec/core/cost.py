"""What a model costs: parameters and multiply-adds, counted from its definition; and what a choice in the cell space
will cost, predicted before it is built.

Multiply-adds are those of one full sequence of the model's length, ids to last state: convolutions, linear
layers and both products of attention (the whole L x L square, which is what is computed). Embedding look-up
has none; scoring the catalogue is listed apart. Checked against torch's own counter.

Shapes: R rows of logits, O operations, K depths.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distilrec.core.cell import DEPTH, OPERATION, Cell, CellSpace
from distilrec.core.decisions import Choice
from distilrec.core.genotype import TABLES
from distilrec.core.latency import LatencyTable
from distilrec.core.sequence_model import SequenceModel

PARAMS, MACS, P50_MS = "params", "macs", "p50_ms"


@dataclass(frozen=True)
class ModelCost:
    """Attributes:
    encoder_params: parameters without item and position embeddings.
    embedding_params: those of the embeddings (shared by input and output).
    encoder_macs: multiply-adds of one full sequence, ids to last state.
    scoring_macs: multiply-adds of scoring the whole catalogue from one state.
    """

    encoder_params: int
    embedding_params: int
    encoder_macs: int
    scoring_macs: int


def count_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def model_cost(model: SequenceModel) -> ModelCost:
    embedding_params = sum(count_params(module) for module in model.modules() if isinstance(module, nn.Embedding))
    return ModelCost(
        encoder_params=count_params(model) - embedding_params,
        embedding_params=embedding_params,
        encoder_macs=model.max_length * model.macs_per_position(),
        scoring_macs=model.num_items * model.width,
    )


@dataclass(frozen=True)
class CellCosts:
    """Of everything that the cell space can choose, at the student's own width and length, by measure: "params" and
    "macs" of the encoder, and "p50_ms" of a whole request if it was measured.

    Attributes:
        per_operation: one edge, in the order of the table.
        per_cell: what a cell costs without its operations.
        rest: what every student pays: look-up, scoring.
    """

    space: CellSpace
    per_operation: dict[str, tuple[float, ...]]
    per_cell: dict[str, float]
    rest: dict[str, float]

    @classmethod
    def of_space(cls, space: CellSpace, measured: LatencyTable | None = None) -> "CellCosts":
        built = [make(space.width) for make in TABLES[space.table].values()]
        per_operation: dict[str, tuple[float, ...]] = {
            PARAMS: tuple(float(count_params(op)) for op in built),
            MACS: tuple(float(op.macs_per_position() * space.max_length) for op in built),
        }
        per_cell = {PARAMS: float(count_params(Cell(space.width, space.num_nodes, space.table))), MACS: 0.0}
        rest = {PARAMS: 0.0, MACS: 0.0}
        if measured:
            per_operation[P50_MS] = tuple(measured.operation_ms[name] for name in space.operations)
            per_cell[P50_MS], rest[P50_MS] = measured.cell_ms, measured.rest_ms
        return cls(space, per_operation, per_cell, rest)

    @property
    def measures(self) -> list[str]:
        return list(self.per_operation)

    def expected(self, probabilities: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By measure, differentiable. A cell is paid for by the chance that the student is as deep."""
        depth_K = self._depths(probabilities)
        operation_RO = probabilities[OPERATION]
        expected = {}
        for measure in self.measures:
            cells = [self._cell(measure, operation_RO[self.space.rows_of(cell)]) for cell in range(len(depth_K))]
            paid = [depth_K[cell:].sum() * cost for cell, cost in enumerate(cells)]
            expected[measure] = self.rest[measure] + torch.stack(paid).sum()
        return expected

    def of(self, choice: Choice) -> dict[str, float]:
        """By measure; edges that derivation will prune are counted, so the student costs at most this."""
        options = {name: size for name, (_, size) in self.space.decisions().items()}
        certain = {
            name: nn.functional.one_hot(torch.tensor(rows), options[name]).double() for name, rows in choice.items()
        }
        return {measure: float(cost) for measure, cost in self.expected(certain).items()}

    def normalised(self, expected: Mapping[str, Tensor], measures: tuple[str, ...]) -> Tensor:
        """The mean over the measures of the expected over the largest possible cost: in [0, 1]."""
        shares = [(expected[m] - self.rest[m]) / (self.largest(m) - self.rest[m]) for m in measures]
        return torch.stack(shares).mean()

    def largest(self, measure: str) -> float:
        edges = len(self.space.edges) * max(self.per_operation[measure])
        return self.rest[measure] + self.space.max_depth * (self.per_cell[measure] + edges)

    def _cell(self, measure: str, probability_EO: Tensor) -> Tensor:
        cost_O = torch.tensor(self.per_operation[measure], dtype=probability_EO.dtype)
        return self.per_cell[measure] + (probability_EO @ cost_O).sum()

    def _depths(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        if DEPTH in probabilities:
            return probabilities[DEPTH][0]
        last = torch.zeros(self.space.max_depth, dtype=probabilities[OPERATION].dtype)
        last[-1] = 1.0
        return last
