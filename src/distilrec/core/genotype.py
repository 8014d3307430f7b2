"""A searched architecture as a value: which operation stands on which edge of the cell. JSON, versioned.

Node 0 is the cell's input; nodes 1 .. N are computed; node n has an edge from every earlier node.
"""

from dataclasses import dataclass
from typing import Any

from distilrec.core.errors import ArtifactError
from distilrec.core.operations import OPERATIONS, ZERO

SCHEMA_VERSION = 1

Edge = tuple[int, int]


def edges_of(num_nodes: int) -> list[Edge]:
    """Every (source, target) of a cell with `num_nodes` computed nodes, in the order of the logits."""
    return [(source, target) for target in range(1, num_nodes + 1) for source in range(target)]


@dataclass(frozen=True)
class Genotype:
    """One cell, repeated `num_cells` times. Edges that carry nothing are not in it.

    Attributes:
        edges: operation by (source, target).
    """

    num_cells: int
    num_nodes: int
    width: int
    max_length: int
    edges: dict[Edge, str]

    def live_nodes(self) -> list[int]:
        """Computed nodes that some path from the input reaches, in order."""
        reached = {0}
        for source, target in sorted(self.edges, key=lambda edge: edge[1]):
            if source in reached:
                reached.add(target)
        return sorted(reached - {0})

    def to_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "space": "adarec-cell",
            "num_cells": self.num_cells,
            "num_nodes": self.num_nodes,
            "width": self.width,
            "max_length": self.max_length,
            "edges": [
                {"from": source, "to": target, "operation": name} for (source, target), name in self.edges.items()
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Genotype":
        """Raises ArtifactError for a newer schema, an unknown operation or an edge that cannot be."""
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                "DR-ART-001", f"genotype schema_version is {version!r}; this distilrec reads {SCHEMA_VERSION}"
            )
        num_nodes = int(data["num_nodes"])
        edges = {(int(edge["from"]), int(edge["to"])): str(edge["operation"]) for edge in data["edges"]}
        possible = set(edges_of(num_nodes))
        for edge, name in edges.items():
            if edge not in possible or name not in OPERATIONS:
                raise ArtifactError("DR-ART-001", f"genotype edge {edge} with operation {name!r} is not in the space")
        return cls(int(data["num_cells"]), num_nodes, int(data["width"]), int(data["max_length"]), edges)


def prune(choice: dict[Edge, str], num_nodes: int) -> dict[Edge, str]:
    """Drop zero edges, then edges that leave a node nothing reaches: every operation maps zero to zero."""
    reached = {0}
    kept: dict[Edge, str] = {}
    for source, target in edges_of(num_nodes):
        name = choice[source, target]
        if name != ZERO and source in reached:
            kept[source, target] = name
            reached.add(target)
    return kept
