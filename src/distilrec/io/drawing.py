"""The picture of a genotype."""

from itertools import groupby
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from distilrec.core.genotype import Cell, Genotype, live_nodes
from distilrec.io.pictures import STYLE, new_figure, operation_colours, svg_of


def draw_genotype(genotype: Genotype, operations: list[str]) -> str:
    """Each cell as a graph, cells that are alike and follow each other once: the input left, computed nodes in
    order, an arc per operation that is left."""
    colours = operation_colours(operations)
    alike = [list(group) for _, group in groupby(enumerate(genotype.cells), key=lambda one: one[1])]
    with matplotlib.rc_context(STYLE):
        figure, panels = new_figure(8.5, 2.9 * len(alike), len(alike))
        for axes, group in zip(panels, alike, strict=True):
            (first, cell), last = group[0], group[-1][0]
            _draw_cell(axes, cell, genotype.num_nodes, colours)
            which = f"cell {first + 1}" if first == last else f"cells {first + 1} to {last + 1}, alike,"
            axes.set_title(f"{which} of {len(genotype.cells)}; {genotype.width} wide", loc="left")
        rule = "output = input + relu(norm(weighted sum of the nodes))"
        panels[-1].text(2 * genotype.num_nodes + 2.5, -1.5, rule, ha="right", fontsize=8, color="#555555")
        return svg_of(figure)


def _draw_cell(axes: Axes, cell: Cell, num_nodes: int, colours: dict[str, Any]) -> None:
    output, alive = 2 * num_nodes + 2, live_nodes(cell)
    axes.set_axis_off()
    axes.set_xlim(-0.5, output + 0.6)
    axes.set_ylim(-1.55, 1.75)
    for (source, target), name in cell.items():
        _arc(axes, source, target, name.replace("_", " "), colours[name])
    for node in alive:
        bend = 0.0 if node == num_nodes else -0.25
        axes.add_patch(_arrow(2 * node, output, bend, "#bbbbbb", width=1.0))
    for node in range(num_nodes + 1):
        _node(axes, 2 * node, f"node {node}" if node else "input", is_live=not node or node in alive)
    _node(axes, output, "output", is_live=True)


def _node(axes: Axes, x: float, label: str, is_live: bool) -> None:
    colour = "#222222" if is_live else "#bbbbbb"
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": colour}
    axes.text(x, 0, label if is_live else f"{label} (dead)", ha="center", va="center", color=colour, bbox=box, zorder=3)


def _arrow(start: float, stop: float, bend: float, colour: Any, width: float) -> FancyArrowPatch:
    arrow = FancyArrowPatch((start, 0), (stop, 0), connectionstyle=f"arc3,rad={-bend}", arrowstyle="-|>")
    arrow.set(mutation_scale=12, color=colour, linewidth=width)
    arrow.shrinkA = arrow.shrinkB = 24  # points: so that it ends at the box
    return arrow


def _arc(axes: Axes, source: int, target: int, label: str, colour: Any) -> None:
    """Neighbours are joined by a straight line; longer edges arch, above from the input, below from a node."""
    span = target - source
    bend = 0.0 if span == 1 else (0.36 if source == 0 else -0.36)
    axes.add_patch(_arrow(2 * source, 2 * target, bend, colour, width=1.8))
    height = 0.24 if span == 1 else bend * span  # a quadratic arc rises to half of its control point
    behind = {"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none"}
    axes.text(source + target, height, label, ha="center", va="center", fontsize=7.5, color="#222222", bbox=behind)
