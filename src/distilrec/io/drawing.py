"""The picture of a genotype."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from distilrec.core.genotype import TABLES, Cell, live_nodes
from distilrec.core.genotype import Genotype as CellGenotype
from distilrec.core.space import Genotype
from distilrec.core.transformer import TransformerGenotype
from distilrec.core.user_students import UserGenotype
from distilrec.io.pictures import STYLE, new_figure, operation_colours, svg_of


def draw_genotype(genotype: Genotype) -> str:
    """As SVG text. Raises KeyError for a space without a drawing."""
    with matplotlib.rc_context(STYLE):
        return svg_of(DRAWINGS[genotype.space](genotype))


def _cells(genotype: CellGenotype) -> Figure:
    """Each cell as a graph, cells that are alike and follow each other once: the input left, computed nodes in
    order, an arc per operation that is left."""
    colours = operation_colours(list(TABLES[genotype.table]))
    alike = [list(group) for _, group in groupby(enumerate(genotype.cells), key=lambda one: one[1])]
    figure, panels = new_figure(8.5, 2.9 * len(alike), len(alike))
    for axes, group in zip(panels, alike, strict=True):
        (first, cell), last = group[0], group[-1][0]
        _draw_cell(axes, cell, genotype.num_nodes, colours)
        which = f"cell {first + 1}" if first == last else f"cells {first + 1} to {last + 1}, alike,"
        axes.set_title(f"{which} of {len(genotype.cells)}; {genotype.width} wide", loc="left")
    rule = "output = input + relu(norm(weighted sum of the nodes))"
    panels[-1].text(2 * genotype.num_nodes + 2.5, -1.5, rule, ha="right", fontsize=8, color="#555555")
    return figure


def _layers(genotype: TransformerGenotype) -> Figure:
    """The layers from left to right, each as high as it is wide beside the others."""
    shape, widths = genotype.shape, genotype.widths
    figure, (axes,) = new_figure(8.5, 2.6)
    axes.set_axis_off()
    axes.set_xlim(-0.9, len(widths) + 0.9)
    axes.set_ylim(-0.75, 0.75)
    for index, width in enumerate(widths):
        height = width / genotype.width
        place = (index + 0.08, -height / 2)
        axes.add_patch(Rectangle(place, 0.84, height, facecolor="#d8ebe4", edgecolor="#0b6e4f", zorder=2))
        heads = width // shape.head_width
        words = f"layer {index + 1}: {width} wide\n{heads} head{'s' * (heads > 1)}, inner {shape.inner * width}"
        axes.text(index + 0.5, 0, words, ha="center", va="center", fontsize=7.5, zorder=3)
    axes.plot((-0.5, len(widths) + 0.5), (0, 0), color="#222222", linewidth=1.0, zorder=1)
    for x, word in ((-0.5, "items and\npositions"), (len(widths) + 0.5, "state")):
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#222222"}
        axes.text(x, 0, word, ha="center", va="center", bbox=box, zorder=3)
    layers = "1 layer" if len(widths) == 1 else f"{len(widths)} layers"
    gates = "data-aware gates" if shape.has_gates else "no gates"
    axes.set_title(f"{layers} in a stream {genotype.width} wide; {shape.attention} attention, {gates}", loc="left")
    return figure


def _tables(genotype: UserGenotype) -> Figure:
    """What is looked up on the left, what is made of it on the right."""
    vectors, score = SCORES[genotype.space]
    figure, (axes,) = new_figure(8.5, 1.8)
    axes.set_axis_off()
    axes.set_xlim(-0.6, 2.6)
    axes.set_ylim(-0.9, 0.9)
    box = {"boxstyle": "round,pad=0.5", "facecolor": "#d8ebe4", "edgecolor": "#0b6e4f"}
    for height, owner in ((0.5, "user"), (-0.5, "item")):
        words = f"{vectors} of the {owner}, {genotype.width} wide"
        axes.text(0, height, words, ha="center", va="center", fontsize=8, bbox=box)
        arrow = FancyArrowPatch((0.5, height), (1.45, 0.25 * height), arrowstyle="-|>", mutation_scale=12)
        arrow.set(color="#222222", linewidth=1.0)
        axes.add_patch(arrow)
    axes.text(2, 0, score, ha="center", va="center", fontsize=8, bbox={**box, "facecolor": "white"})
    axes.set_title(f"{genotype.num_users:,} users, by number; nothing was searched", loc="left")
    return figure


SCORES = {
    "bpr": ("a vector", "inner product"),
    "neumf": ("two vectors", "one pair's products beside\na hidden layer on the other pair"),
}
"""What a user and an item have, and what a score is made of it."""
DRAWINGS: dict[str, Callable[[Any], Figure]] = {
    "cell": _cells,
    "adarec-as-released": _cells,
    "transformer": _layers,
    "bpr": _tables,
    "neumf": _tables,
}
"""By the space of a genotype."""


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
