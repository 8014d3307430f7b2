"""The AdaRec search space: a supernet over cells, and the student derived from it.

    node_n  = sum over m < n of operation_{m,n}(relu(node_m)), but operation_{0,n}(x) of the cell's input itself
    cell(x) = x + relu(norm(sum over n of softmax(a)_n * node_n))

The architecture is shared by all cells or each depth has its own; operation weights are never shared (AdaRec code;
adarec.md section 2). With a searched depth the state after the drawn cell feeds the output (AdaBERT).

The release also rectifies the cell's input, and so loses the sign of every embedding; docs/adarec.md has what that
costs. Its operation table, "as-released", keeps it.

Shapes: B sequences, L positions, D width, E edges, R rows of logits, O operations, K depths.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.decisions import Choice, mix_drawn
from distilrec.core.dropout import Dropout
from distilrec.core.genotype import TABLES, Edge, Genotype, edges_of, prune, without_zeros
from distilrec.core.genotype import Cell as Edges
from distilrec.core.operations import ZERO, Operation
from distilrec.core.rows import Row
from distilrec.core.sequence_model import Layers, SequenceModel
from distilrec.core.space import SearchedModel

OPERATION, DEPTH = "operation", "depth"


@dataclass(frozen=True)
class CellSpace:
    """What is to be decided.

    Attributes:
        max_depth: cells of the supernet.
        is_shared: one architecture for all cells; otherwise one for each depth.
        is_depth_searched: whether the number of cells is a decision too, from 1 to `max_depth`.
        table: of operations, a key of TABLES.
    """

    num_nodes: int
    max_depth: int
    width: int
    max_length: int
    is_shared: bool = True
    is_depth_searched: bool = False
    table: str = "causal"

    relaxation = "gumbel"

    @property
    def edges(self) -> list[Edge]:
        return edges_of(self.num_nodes)

    @property
    def operations(self) -> list[str]:
        return list(TABLES[self.table])

    @property
    def parts(self) -> list[str]:
        return self.operations

    @property
    def num_distinct(self) -> int:
        """Cells with an architecture of their own."""
        return 1 if self.is_shared else self.max_depth

    def decisions(self) -> dict[str, tuple[int, int]]:
        """Rows and options of each. The rows of "operation" are the edges of the first cell, of the second, ..."""
        shapes = {OPERATION: (self.num_distinct * len(self.edges), len(self.operations))}
        return shapes | ({DEPTH: (1, self.max_depth)} if self.is_depth_searched else {})

    def rows(self) -> list[Row]:
        rows = []
        for index in range(self.decisions()[OPERATION][0]):
            cell, (source, target) = index // len(self.edges), self.edges[index % len(self.edges)]
            which = f"cell {cell + 1}, " if self.num_distinct > 1 else ""
            start = f"node {source}" if source else "input"
            rows.append(Row(f"{which}{start} to node {target}", OPERATION, index, tuple(self.operations)))
        depths = tuple(f"{depth} cells" for depth in range(1, self.max_depth + 1))
        return rows + [Row("depth", DEPTH, 0, depths)] * self.is_depth_searched

    def depth_of(self, choice: Choice) -> int:
        return choice[DEPTH][0] + 1 if DEPTH in choice else self.max_depth

    def rows_of(self, cell: int) -> slice:
        first = 0 if self.is_shared else cell * len(self.edges)
        return slice(first, first + len(self.edges))

    def derive(self, choice: Choice) -> Genotype:
        """What carries nothing is dropped. As released, operations have biases: only zero edges are."""
        names, cells = self.operations, []
        for cell in range(self.depth_of(choice)):
            taken = choice[OPERATION][self.rows_of(cell)]
            picked = {edge: names[index] for edge, index in zip(self.edges, taken, strict=True)}
            is_exact = self.table == "causal"
            cells.append(prune(picked, self.num_nodes) if is_exact else without_zeros(picked))
        return Genotype(tuple(cells), self.num_nodes, self.width, self.max_length, self.table)

    def samples(self, random: np.random.Generator, count: int) -> list[Genotype]:
        """Students to measure operations of: the deepest with every edge of one operation, then `count` random ones."""

        def of_depth(depth: int) -> CellSpace:
            return replace(self, max_depth=depth, is_shared=False, is_depth_searched=False)

        deepest = of_depth(self.max_depth)
        rows, _ = deepest.decisions()[OPERATION]
        alike = [index for index, name in enumerate(self.operations) if name != ZERO]
        found = [deepest.derive({OPERATION: (index,) * rows}) for index in alike]
        for _ in range(count):
            space = of_depth(int(random.integers(1, self.max_depth + 1)))
            rows, options = space.decisions()[OPERATION]
            found.append(space.derive({OPERATION: tuple(random.integers(options, size=rows).tolist())}))
        return found


class Cell(nn.Module):
    """What the supernet's and the student's cells share: the input node and the combination of the others."""

    def __init__(self, width: int, num_nodes: int, table: str) -> None:
        super().__init__()
        self.num_nodes = num_nodes
        self.is_input_rectified = table == "as-released"
        self.node_logits = nn.Parameter(torch.zeros(num_nodes))
        self.norm = nn.LayerNorm(width)

    def input_node(self, x_BLD: Tensor) -> Tensor:
        return F.relu(x_BLD) if self.is_input_rectified else x_BLD

    def combine(self, x_BLD: Tensor, nodes: dict[int, Tensor]) -> Tensor:
        """`nodes` holds the computed nodes that are not zero; the others keep their share of the softmax."""
        share_N = self.node_logits.softmax(dim=0)
        mixed_BLD = torch.zeros_like(x_BLD)
        for node, value_BLD in nodes.items():
            mixed_BLD = mixed_BLD + share_N[node - 1] * value_BLD
        return x_BLD + F.relu(self.norm(mixed_BLD))


class SuperCell(Cell):
    """Every operation on every edge."""

    def __init__(self, width: int, num_nodes: int, table: str) -> None:
        super().__init__(width, num_nodes, table)
        self.edges = nn.ModuleList(
            nn.ModuleList(make(width) for make in TABLES[table].values()) for _ in edges_of(num_nodes)
        )

    def forward(self, x_BLD: Tensor, choice_E: Sequence[int], mixture_EO: Tensor | None) -> Tensor:
        """With a mixture every operation is evaluated; without, only the chosen one of each edge."""
        nodes: dict[int, Tensor] = {}
        inputs = {0: self.input_node(x_BLD)}
        for index, (source, target) in enumerate(edges_of(self.num_nodes)):
            if source not in inputs:
                inputs[source] = F.relu(nodes[source])
            operations, chosen = self.edges[index], choice_E[index]
            assert isinstance(operations, nn.ModuleList)
            value = operations[chosen](inputs[source])
            if mixture_EO is not None:
                value = _mixed(mixture_EO[index], chosen, value, operations, inputs[source])
            nodes[target] = nodes[target] + value if target in nodes else value
        return self.combine(x_BLD, nodes)


def _mixed(mixture_O: Tensor, chosen: int, value: Tensor, operations: nn.ModuleList, input_BLD: Tensor) -> Tensor:
    with torch.no_grad():
        values = [value if index == chosen else op(input_BLD) for index, op in enumerate(operations)]
    return mix_drawn(mixture_O, chosen, values)


class CellModel(SequenceModel):
    """What the supernet and the student share: the last cell's output, after dropout, is the state."""

    def finish(self, hidden_BLD: Tensor) -> Tensor:
        dropped_BLD: Tensor = self.dropout(hidden_BLD)
        return dropped_BLD


class Supernet(SearchedModel, CellModel):
    """Cells over all operations."""

    def __init__(self, num_items: int, dropout: Dropout, space: CellSpace) -> None:
        super().__init__(num_items, space.width, space.max_length, dropout, space.max_length)
        self.space: CellSpace = space
        self.layers = nn.ModuleList(
            SuperCell(space.width, space.num_nodes, space.table) for _ in range(space.max_depth)
        )

    def forward(self, ids_BL: Tensor) -> Layers:
        choice, mixture = self.drawn.choice, self.drawn.mixture or {}
        depth = self.space.depth_of(choice)
        got = self.run(self.embed(ids_BL), [self._cell(index) for index in range(depth)])
        if DEPTH not in mixture:
            return got
        states = [*got.hidden]
        with torch.no_grad():
            for index in range(depth, self.space.max_depth):
                states.append(self._cell(index, is_mixed=False)(states[-1]))
        mixed_BLD = mix_drawn(mixture[DEPTH][0], depth - 1, states)
        return Layers(got.embedded_BLD, got.hidden, self.finish(mixed_BLD))

    def _cell(self, index: int, is_mixed: bool = True) -> partial[Tensor]:
        rows, mixture = self.space.rows_of(index), self.drawn.mixture
        mixture_EO = mixture[OPERATION][rows] if mixture and is_mixed else None
        return partial(self.layers[index], choice_E=self.drawn.choice[OPERATION][rows], mixture_EO=mixture_EO)

    def macs_per_position(self) -> int:
        """Of the chosen path."""
        choice = self.drawn.choice
        built = [make(self.width).macs_per_position() for make in TABLES[self.space.table].values()]
        rows = [self.space.rows_of(index) for index in range(self.space.depth_of(choice))]
        return sum(built[operation] for cell in rows for operation in choice[OPERATION][cell])


class StudentCell(Cell):
    """Only the edges of the genotype; module names are those of the supernet, so weights load by name."""

    def __init__(self, width: int, num_nodes: int, edges: Edges, table: str) -> None:
        super().__init__(width, num_nodes, table)
        order = edges_of(num_nodes)
        operations = TABLES[table]
        names = list(operations)
        self.plan = sorted(edges, key=order.index)
        self.edges = nn.ModuleDict(
            {
                str(order.index(edge)): nn.ModuleDict({str(names.index(name)): operations[name](width)})
                for edge, name in edges.items()
            }
        )
        self._operations = {edge: (str(order.index(edge)), str(names.index(name))) for edge, name in edges.items()}

    def forward(self, x_BLD: Tensor) -> Tensor:
        nodes: dict[int, Tensor] = {}
        inputs = {0: self.input_node(x_BLD)}
        for source, target in self.plan:
            if source not in inputs:
                inputs[source] = F.relu(nodes[source]) if source in nodes else torch.zeros_like(x_BLD)
            index, name = self._operations[source, target]
            operations = self.edges[index]
            assert isinstance(operations, nn.ModuleDict)
            value = operations[name](inputs[source])
            nodes[target] = nodes[target] + value if target in nodes else value
        return self.combine(x_BLD, nodes)

    def look_back(self) -> int:
        """Along the path that reaches back the furthest."""
        farthest = {0: 0}
        for source, target in self.plan:
            index, name = self._operations[source, target]
            operation = self.edges[index][name]  # type: ignore[index]
            back = farthest.get(source, 0) + operation.look_back()
            farthest[target] = max(farthest.get(target, 0), back)
        return max(farthest.values())


class Student(CellModel):
    """The derived student: the genotype's cells and nothing else."""

    def __init__(self, num_items: int, dropout: Dropout, genotype: Genotype) -> None:
        super().__init__(num_items, genotype.width, genotype.max_length, dropout, genotype.max_length)
        self.genotype = genotype
        self.layers = nn.ModuleList(
            StudentCell(genotype.width, genotype.num_nodes, cell, genotype.table) for cell in genotype.cells
        )

    def macs_per_position(self) -> int:
        return sum(module.macs_per_position() for module in self.modules() if isinstance(module, Operation))

    @property
    def reach(self) -> int:
        return min(self.max_length, 1 + sum(cell.look_back() for cell in self.layers if isinstance(cell, StudentCell)))
