"""The pictures of the report, as SVG text. One palette, no decoration that carries no information."""

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

COLOURS = {
    "teacher": "#8a5a00",
    "student": "#0b6e4f",
    "champion": "#34508c",
    "markov": "#8c8c8c",
    "popularity": "#bdbdbd",
}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "distilrec",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "legend.frameon": False,
}


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(rows, columns)).ravel())


def operation_colours(operations: list[str]) -> dict[str, Any]:
    """The same colour for the same operation in every picture of a report."""
    return {name: matplotlib.colormaps["tab10"](index % 10) for index, name in enumerate(operations)}


def draw_genotype(genotype: dict[str, Any], live_nodes: list[int], operations: list[str]) -> str:
    """The cell as a graph: the input left, computed nodes in order, an arc per operation that is left.

    `genotype` is its JSON form.
    """
    colours = operation_colours(operations)
    num_nodes = int(genotype["num_nodes"])
    output = 2 * num_nodes + 2
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = _figure(8.5, 2.9)
        axes.set_axis_off()
        axes.set_xlim(-0.5, output + 0.6)
        axes.set_ylim(-1.55, 1.75)
        for edge in genotype["edges"]:
            _arc(axes, edge["from"], edge["to"], edge["operation"].replace("_", " "), colours[edge["operation"]])
        for node in live_nodes:
            bend = 0.0 if node == num_nodes else -0.25
            axes.add_patch(_arrow(2 * node, output, bend, "#bbbbbb", width=1.0))
        for node in range(num_nodes + 1):
            _node(axes, 2 * node, f"node {node}" if node else "input", is_live=not node or node in live_nodes)
        _node(axes, output, "output", is_live=True)
        rule = "output = input + relu(norm(weighted sum of the nodes))"
        axes.text(output + 0.5, -1.5, rule, ha="right", fontsize=8, color="#555555")
        title = f"one cell, repeated {genotype['num_cells']} times, {genotype['width']} wide"
        axes.set_title(title, loc="left")
        return _svg(figure)


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


def quality_bars(ndcg10: dict[str, dict[str, float]], deciding: str) -> str:
    """NDCG@10 of every model with its 95 % interval."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = _figure(5, 3)
        names = [name for name in COLOURS if name in ndcg10]
        values = np.array([ndcg10[name]["value"] for name in names])
        spread = np.array(
            [
                [ndcg10[name]["value"] - ndcg10[name]["low"], ndcg10[name]["high"] - ndcg10[name]["value"]]
                for name in names
            ]
        )
        axes.bar(
            names, values, yerr=np.maximum(spread, 0).T, color=[COLOURS[name] for name in names], capsize=4, width=0.6
        )
        for index, (value, reach) in enumerate(zip(values, spread[:, 1], strict=True)):
            axes.text(index, value + reach, f"{value:.4f}", ha="center", va="bottom", fontsize=8)
        axes.set_ylabel(f"NDCG@10, seen items {deciding}")
        axes.margins(y=0.15)
        axes.set_title("Quality on the test users, 95 % intervals", loc="left")
        return _svg(figure)


def _plain_log_axis(axes: Axes) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5, written as plain numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def quality_against_latency(ndcg10: dict[str, dict[str, float]], latency: dict[str, dict[str, float]]) -> str:
    """Each served form as a point: further left is faster, higher is better."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = _figure(5, 3)
        for form, marker in (("eager", "o"), ("onnx", "D")):
            for name in ("teacher", "student"):
                x, y = latency[f"{name}_{form}"]["p50_ms"], ndcg10[name]["value"]
                axes.plot(x, y, marker, color=COLOURS[name], markersize=8)
                axes.annotate(f"{name}, {form}", (x, y), xytext=(6, 6), textcoords="offset points", fontsize=8)
        if "markov" in ndcg10:
            axes.axhline(ndcg10["markov"]["value"], color=COLOURS["markov"], linestyle="--", linewidth=1)
            axes.annotate("Markov floor", (0.0, ndcg10["markov"]["value"]), xycoords=("axes fraction", "data"),
                          xytext=(4, 3), textcoords="offset points", fontsize=8, color="#666666")  # fmt: skip
        axes.margins(x=0.25, y=0.25)
        _plain_log_axis(axes)
        axes.set_xlabel("milliseconds a request, median, one user")
        axes.set_ylabel("NDCG@10")
        axes.set_title("Quality against latency", loc="left")
        return _svg(figure)


def latency_distribution(samples_ms: dict[str, NDArray[np.float64]]) -> str:
    """The share of requests answered within a time."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = _figure(5, 3)
        for name, samples in samples_ms.items():
            model, form = name.split("_")
            share = np.arange(1, len(samples) + 1) / len(samples)
            axes.step(
                np.sort(samples),
                share,
                color=COLOURS[model],
                linestyle="-" if form == "onnx" else ":",
                label=f"{model}, {form}",
            )
        _plain_log_axis(axes)
        axes.set_xlabel("milliseconds, one user")
        axes.set_ylabel("share of requests")
        axes.legend(fontsize=8)
        axes.set_title("Latency distribution", loc="left")
        return _svg(figure)


def training_curves(histories: dict[str, list[dict[str, Any]]], deciding: str) -> str:
    """Loss (left) and validation NDCG@10 (right) of each training."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(9, 1.9 * len(histories), len(histories), 2)
        for row, (name, history) in enumerate(histories.items()):
            epochs = [record["epoch"] for record in history]
            left, right = axes[2 * row], axes[2 * row + 1]
            left.plot(epochs, [record["losses"]["total"] for record in history], color="#222222", label="total")
            if history and history[-1]["losses"]["soft"]:
                for part, style in (("task", "--"), ("soft", "-."), ("hidden", ":")):
                    left.plot(
                        epochs, [record["losses"][part] for record in history], style, color="#777777", label=part
                    )
                left.legend(fontsize=7, ncols=2)
            for variant, style in (("kept", ":"), ("removed", "-")):
                right.plot(
                    epochs,
                    [record["valid"][variant] for record in history],
                    style,
                    color="#222222",
                    label=f"seen {variant}",
                )
            for panel in (left, right):
                panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            left.set_title(f"{name}: loss", loc="left")
            right.set_title(f"{name}: validation NDCG@10 (deciding: {deciding})", loc="left")
            right.legend(fontsize=7)
        axes[-1].set_xlabel("epoch")
        axes[-2].set_xlabel("epoch")
        return _svg(figure)


def architecture_curves(history: list[dict[str, Any]], edges: list[list[int]], operations: list[str]) -> str:
    """The probability of every operation on every edge over the epochs, and each edge's entropy."""
    epochs = [record["epoch"] for record in history]
    probability = np.array([record["probability_EO"] for record in history])
    colours = operation_colours(operations)
    columns = 3
    rows = -(-len(edges) // columns)
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(9, 2.0 * rows + 0.7, rows, columns)
        for index, (source, target) in enumerate(edges):
            panel = axes[index]
            for operation, name in enumerate(operations):
                line = probability[:, index, operation]
                panel.plot(epochs, line, color=colours[name], label=name.replace("_", " "))
            panel.axhline(1 / len(operations), color="#bbbbbb", linewidth=0.8, linestyle="--")
            panel.set_ylim(0, 1)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            start = f"node {source}" if source else "input"
            panel.set_title(f"{start} to node {target}: entropy {history[-1]['entropy_E'][index]:.2f}", loc="left")
        for panel in axes[len(edges) :]:
            panel.set_axis_off()
        lines, labels = axes[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=5, fontsize=8)
        return _svg(figure)
