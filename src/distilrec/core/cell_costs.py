"""What a choice in the cell space will cost, and the most likely choice within limits.

Shapes: R rows of logits, O operations, K depths.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distilrec.core.budget import is_between
from distilrec.core.cell import DEPTH, OPERATION, Cell, CellSpace
from distilrec.core.cost import MACS, PARAMS, count_params
from distilrec.core.decisions import Choice, log_probability, most_likely
from distilrec.core.genotype import TABLES
from distilrec.core.latency import LatencyTable
from distilrec.core.operations import ZERO
from distilrec.core.space import certain, dearest, normalised

SLACK = 4e-6
"""Of a limit: HiGHS keeps to its rows within a millionth."""


@dataclass(frozen=True)
class CellCosts:
    """Of everything that the cell space can choose, at the student's own width and length, by measure: "params" and
    "macs" of the encoder, and what was measured of a whole request.

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
        for measure, prices in measured.prices.items() if measured else ():
            per_operation[measure] = tuple(prices.part[name] for name in space.operations)
            per_cell[measure], rest[measure] = prices.layer, prices.rest
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
        expected = self.expected(certain(choice, self.space))
        return {measure: float(cost) for measure, cost in expected.items()}

    def largest(self, measure: str) -> float:
        edges = len(self.space.edges) * max(self.per_operation[measure])
        return self.rest[measure] + self.space.max_depth * (self.per_cell[measure] + edges)

    def penalty(self, probabilities: Mapping[str, Tensor], measures: tuple[str, ...]) -> Tensor:
        return normalised(self.expected(probabilities), self.rest, self.largest, measures)

    def dearness(self, measures: Iterable[str]) -> dict[str, Tensor]:
        """Of the operations; a deeper student is not dear of itself."""
        return {OPERATION: dearest(self.per_operation, measures)}

    def best_between(
        self, logits: Mapping[str, Tensor], limits: Mapping[str, float], floors: Mapping[str, float]
    ) -> Choice | None:
        """The most likely choice that leaves no cell dead and costs at most `limits` and at least `floors`.

        A cell is dead if no operation leads out of its input: it would add a constant. The most likely choice of all is
        taken if it keeps the rules; otherwise an integer linear program per depth finds the best that does (HiGHS).
        """
        logits = {name: rows.detach().double() for name, rows in logits.items()}
        free = most_likely(logits)
        if all(self.space.derive(free).cells) and is_between(self.of(free), limits, floors):
            return free
        depths = range(1, self.space.max_depth + 1) if DEPTH in logits else [self.space.max_depth]
        each = [self._best_of_depth(logits, limits, floors, depth) for depth in depths]
        found = [choice for choice in each if choice]
        return max(found, key=lambda choice: float(log_probability(logits, choice))) if found else None

    def _best_of_depth(
        self,
        logits: Mapping[str, Tensor],
        limits: Mapping[str, float],
        floors: Mapping[str, float],
        depth: int,
    ) -> Choice | None:
        """Exactly, but for what is above a limit by the solver's tolerance: then of what is below it by as much."""
        log_p_RO = logits[OPERATION].log_softmax(dim=1).numpy()
        for slack in (0.0, SLACK):
            rows_R = self._solve(log_p_RO, limits, floors, depth, slack)
            if rows_R is None:
                return None
            choice: Choice = {OPERATION: tuple(rows_R)} | ({DEPTH: (depth - 1,)} if DEPTH in logits else {})
            if is_between(self.of(choice), limits, {}):
                return choice
        raise AssertionError("the solver's tolerance")

    def smallest(self, measure: str) -> float:
        """Without a dead cell: one operation, the cheapest, in each of the fewest cells."""
        space = self.space
        depth = 1 if space.is_depth_searched else space.max_depth
        named = zip(space.operations, self.per_operation[measure], strict=True)
        return self.rest[measure] + depth * (self.per_cell[measure] + min(cost for name, cost in named if name != ZERO))

    def table(self) -> dict[str, Any]:
        per = {"per_operation": self.per_operation, "per_cell": self.per_cell, "rest": self.rest}
        return {"operations": self.space.operations, **per}

    def _cell(self, measure: str, probability_EO: Tensor) -> Tensor:
        cost_O = torch.tensor(self.per_operation[measure], dtype=probability_EO.dtype)
        return self.per_cell[measure] + (probability_EO @ cost_O).sum()

    def _depths(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        if DEPTH in probabilities:
            return probabilities[DEPTH][0]
        last = torch.zeros(self.space.max_depth, dtype=probabilities[OPERATION].dtype)
        last[-1] = 1.0
        return last

    def _solve(
        self,
        log_p_RO: NDArray[np.float64],
        limits: Mapping[str, float],
        floors: Mapping[str, float],
        depth: int,
        slack: float,
    ) -> list[int] | None:
        """One operation for each row: maximise the log-probability; None if nothing keeps the rules. `slack`: a share
        of each limit that is left."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # here, because importing it takes half a second

        space = self.space
        num_rows, num_options = log_p_RO.shape
        used = np.zeros(num_rows)
        for cell in range(depth):
            used[space.rows_of(cell)] += 1.0
        one_each = np.kron(np.eye(num_rows), np.ones(num_options))
        constraints = [LinearConstraint(one_each, 1.0, 1.0)]
        for measure, limit in limits.items():
            fixed = self.rest[measure] + depth * self.per_cell[measure]
            row = np.kron(used, np.array(self.per_operation[measure]))
            scale = max(abs(limit), *self.per_operation[measure], 1e-9)
            least = (floors[measure] - fixed) / scale if measure in floors else -np.inf
            constraints.append(LinearConstraint(row[None] / scale, least, (limit - fixed) / scale - slack))
        zero = np.array([float(name == ZERO) for name in space.operations])
        from_input = np.array([float(source == 0) for source, _ in space.edges])
        for cell in range(min(depth, space.num_distinct)):
            leaving = np.zeros(num_rows)
            leaving[space.rows_of(cell)] = from_input
            constraints.append(LinearConstraint(np.kron(leaving, zero)[None], -np.inf, from_input.sum() - 1.0))
        solved = milp(
            -log_p_RO.ravel(),
            integrality=np.ones(log_p_RO.size),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0},
        )
        if solved.x is None:
            return None
        rows: list[int] = solved.x.reshape(num_rows, num_options).argmax(axis=1).tolist()
        return rows
