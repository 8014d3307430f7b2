"""A searched architecture of the cell space as a value: which operation stands on which edge of each cell. JSON,
versioned, tagged with its space as those of every space are.

Node 0 is a cell's input; nodes 1 .. N are computed; node n has an edge from every earlier node.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distilrec.core.errors import ArtifactError
from distilrec.core.operations import OPERATIONS, ZERO, Operation
from distilrec.core.released_operations import RELEASED_OPERATIONS

SCHEMA_VERSION = 4
"""4 names the space as the settings do. Of the genotypes of all spaces."""

TABLES: dict[str, dict[str, Callable[[int], Operation]]] = {"causal": OPERATIONS, "as-released": RELEASED_OPERATIONS}

Edge = tuple[int, int]
Cell = dict[Edge, str]
"""Operation by (source, target); edges that carry nothing are not in it."""


def edges_of(num_nodes: int) -> list[Edge]:
    """Every (source, target) of a cell with `num_nodes` computed nodes, in the order of the logits."""
    return [(source, target) for target in range(1, num_nodes + 1) for source in range(target)]


def require_schema(data: dict[str, Any]) -> None:
    """Raises ArtifactError."""
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            "DR-ART-001", f"genotype schema_version is {version!r}; this distilrec reads {SCHEMA_VERSION}"
        )


@dataclass(frozen=True)
class Genotype:
    """Attributes:
    cells: first to last; alike where one cell is shared by all depths.
    table: of operations, a key of TABLES.
    """

    cells: tuple[Cell, ...]
    num_nodes: int
    width: int
    max_length: int
    table: str = "causal"

    @property
    def space(self) -> str:
        return "cell" if self.table == "causal" else "adarec-as-released"

    def parts(self) -> tuple[Cell, ...]:
        """Of each cell, what a latency table prices."""
        return self.cells

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "space": self.space,
            "table": self.table,
            "num_nodes": self.num_nodes,
            "width": self.width,
            "max_length": self.max_length,
            "cells": [
                [{"from": source, "to": target, "operation": name} for (source, target), name in cell.items()]
                for cell in self.cells
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Genotype":
        """Raises ArtifactError for another schema, an unknown operation or an edge that cannot be."""
        require_schema(data)
        num_nodes, table = int(data["num_nodes"]), str(data["table"])
        known = TABLES.get(table, {})
        possible = set(edges_of(num_nodes))
        cells = [
            {(int(edge["from"]), int(edge["to"])): str(edge["operation"]) for edge in edges} for edges in data["cells"]
        ]
        for edge, name in (item for cell in cells for item in cell.items()):
            if edge not in possible or name not in known:
                raise ArtifactError("DR-ART-001", f"genotype edge {edge} with operation {name!r} is not in the space")
        return cls(tuple(cells), num_nodes, int(data["width"]), int(data["max_length"]), table)


def live_nodes(cell: Cell) -> list[int]:
    """Computed nodes that some path from the input reaches, in order."""
    reached = {0}
    for source, target in sorted(cell, key=lambda edge: edge[1]):
        if source in reached:
            reached.add(target)
    return sorted(reached - {0})


def without_zeros(choice: Cell) -> Cell:
    return {edge: name for edge, name in choice.items() if name != ZERO}


def prune(choice: Cell, num_nodes: int) -> Cell:
    """Drop zero edges, then edges that leave a node nothing reaches: every operation maps zero to zero."""
    reached = {0}
    kept: Cell = {}
    for source, target in edges_of(num_nodes):
        name = choice[source, target]
        if name != ZERO and source in reached:
            kept[source, target] = name
            reached.add(target)
    return kept
