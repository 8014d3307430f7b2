"""The AdaRec search space: a supernet over one shared cell, and the student derived from it.

    node_n  = sum over m < n of operation_{m,n}(relu(node_m))
    cell(x) = x + relu(norm(sum over n of softmax(a)_n * node_n))

Architecture logits are shared by all cells, operation weights are not (AdaRec code; adarec.md section 2).

Shapes: B sequences, L positions, D width, E edges, O operations.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distilrec.core.dropout import Dropout
from distilrec.core.genotype import Edge, Genotype, edges_of, prune
from distilrec.core.operations import OPERATIONS, Operation
from distilrec.core.sequence_model import Layers, SequenceModel


class Cell(nn.Module):
    """What the supernet's and the student's cells share: the combination of the nodes."""

    def __init__(self, width: int, num_nodes: int) -> None:
        super().__init__()
        self.num_nodes = num_nodes
        self.node_logits = nn.Parameter(torch.zeros(num_nodes))
        self.norm = nn.LayerNorm(width)

    def combine(self, x_BLD: Tensor, nodes: dict[int, Tensor]) -> Tensor:
        """`nodes` holds the computed nodes that are not zero; the others keep their share of the softmax."""
        share_N = self.node_logits.softmax(dim=0)
        mixed_BLD = torch.zeros_like(x_BLD)
        for node, value_BLD in nodes.items():
            mixed_BLD = mixed_BLD + share_N[node - 1] * value_BLD
        return x_BLD + F.relu(self.norm(mixed_BLD))


class SuperCell(Cell):
    """Every operation on every edge."""

    def __init__(self, width: int, num_nodes: int) -> None:
        super().__init__(width, num_nodes)
        self.edges = nn.ModuleList(
            nn.ModuleList(make(width) for make in OPERATIONS.values()) for _ in edges_of(num_nodes)
        )

    def forward(self, x_BLD: Tensor, choice: Sequence[int], mixture_EO: Tensor | None) -> Tensor:
        """With a mixture every operation is evaluated; without, only the chosen one of each edge."""
        nodes: dict[int, Tensor] = {}
        inputs = {0: F.relu(x_BLD)}
        for index, (source, target) in enumerate(edges_of(self.num_nodes)):
            if source not in inputs:
                inputs[source] = F.relu(nodes[source])
            operations = self.edges[index]
            assert isinstance(operations, nn.ModuleList)
            if mixture_EO is None:
                value = operations[choice[index]](inputs[source])
            else:
                value = sum(
                    weight * op(inputs[source]) for weight, op in zip(mixture_EO[index], operations, strict=True)
                )
            nodes[target] = nodes[target] + value if target in nodes else value
        return self.combine(x_BLD, nodes)


class Supernet(SequenceModel):
    """Cells over all operations. The architecture logits are not among its parameters: they have their own
    optimiser, and are passed in as a choice or a mixture."""

    def __init__(
        self, num_items: int, width: int, max_length: int, dropout: Dropout, num_cells: int, num_nodes: int
    ) -> None:
        super().__init__(num_items, width, max_length, dropout, max_length)
        self.num_nodes = num_nodes
        self.layers = nn.ModuleList(SuperCell(width, num_nodes) for _ in range(num_cells))
        self._choice: Sequence[int] = ()
        self._mixture_EO: Tensor | None = None

    def select(self, choice: Sequence[int], mixture_EO: Tensor | None = None) -> "Supernet":
        """What the next calls evaluate: the chosen operation of each edge, or, with a mixture, all of them."""
        assert len(choice) == len(edges_of(self.num_nodes)), "one operation for each edge"
        self._choice, self._mixture_EO = choice, mixture_EO
        return self

    def forward(self, ids_BL: Tensor) -> Layers:
        drawn = [partial(cell, choice=self._choice, mixture_EO=self._mixture_EO) for cell in self.layers]
        return self.run(self.embed(ids_BL), drawn)

    def macs_per_position(self) -> int:
        """Of the chosen path."""
        built = [make(self.width) for make in OPERATIONS.values()]
        return len(self.layers) * sum(built[index].macs_per_position() for index in self._choice)

    def finish(self, hidden_BLD: Tensor) -> Tensor:
        dropped_BLD: Tensor = self.dropout(hidden_BLD)
        return dropped_BLD


class StudentCell(Cell):
    """Only the edges of the genotype; module names are those of the supernet, so weights load by name."""

    def __init__(self, width: int, num_nodes: int, edges: dict[Edge, str]) -> None:
        super().__init__(width, num_nodes)
        order = edges_of(num_nodes)
        names = list(OPERATIONS)
        self.plan = sorted(edges, key=order.index)
        self.edges = nn.ModuleDict(
            {
                str(order.index(edge)): nn.ModuleDict({str(names.index(name)): OPERATIONS[name](width)})
                for edge, name in edges.items()
            }
        )
        self._operations = {edge: (str(order.index(edge)), str(names.index(name))) for edge, name in edges.items()}

    def forward(self, x_BLD: Tensor) -> Tensor:
        nodes: dict[int, Tensor] = {}
        inputs = {0: F.relu(x_BLD)}
        for source, target in self.plan:
            if source not in inputs:
                inputs[source] = F.relu(nodes[source])
            index, name = self._operations[source, target]
            operations = self.edges[index]
            assert isinstance(operations, nn.ModuleDict)
            value = operations[name](inputs[source])
            nodes[target] = nodes[target] + value if target in nodes else value
        return self.combine(x_BLD, nodes)


class Student(SequenceModel):
    """The derived student: the genotype's cells and nothing else."""

    def __init__(self, num_items: int, dropout: Dropout, genotype: Genotype) -> None:
        super().__init__(num_items, genotype.width, genotype.max_length, dropout, genotype.max_length)
        self.genotype = genotype
        self.layers = nn.ModuleList(
            StudentCell(genotype.width, genotype.num_nodes, genotype.edges) for _ in range(genotype.num_cells)
        )

    def macs_per_position(self) -> int:
        return sum(module.macs_per_position() for module in self.modules() if isinstance(module, Operation))

    def finish(self, hidden_BLD: Tensor) -> Tensor:
        dropped_BLD: Tensor = self.dropout(hidden_BLD)
        return dropped_BLD


def derive(choice: Sequence[int], num_cells: int, num_nodes: int, width: int, max_length: int) -> Genotype:
    """The genotype of one choice of operations, in the order of `edges_of`; what carries nothing is dropped."""
    names = list(OPERATIONS)
    picked = {edge: names[index] for edge, index in zip(edges_of(num_nodes), choice, strict=True)}
    return Genotype(num_cells, num_nodes, width, max_length, prune(picked, num_nodes))


def inherited(student: Student, supernet_weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The student's part of the supernet's weights: the names are the same."""
    return {name: supernet_weights[name] for name in student.state_dict()}
