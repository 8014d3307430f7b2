"""The pictures of the report, as SVG text. One palette, no decoration that carries no information."""

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from distilrec.core.floors import FLOORS
from distilrec.core.rows import Row

COLOURS = {
    "teacher": "#8a5a00",
    "student": "#0b6e4f",
    "student_int8": "#62ab92",
    "champion": "#34508c",
    "markov": "#8c8c8c",
    "popularity": "#bdbdbd",
}
LINES = {"onnx": "-", "int8": "--", "eager": ":", "indexed": "-."}
BESIDE = {"teacher_onnx": (-6, 6, "right"), "student_onnx": (6, -13, "left")}
"""Where a point's label stands that would be in another's way: points across and up, and which end of it is there."""
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


def svg_of(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(rows, columns)).ravel())


def operation_colours(operations: list[str]) -> dict[str, Any]:
    """The same colour for the same operation in every picture of a report."""
    return {name: matplotlib.colormaps["tab10"](index % 10) for index, name in enumerate(operations)}


def quality_bars(ndcg10: dict[str, dict[str, float]], deciding: str) -> str:
    """NDCG@10 of every model with its 95 % interval."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(5, 3)
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
        return svg_of(figure)


def _plain_log_axis(axes: Axes) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5, written as plain numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def quality_against_latency(ndcg10: dict[str, dict[str, float]], latency: dict[str, dict[str, float]]) -> str:
    """Each served form as a point: further left is faster, higher is better."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(5, 3)
        for form, marker in (("eager", "o"), ("onnx", "D"), ("int8", "s")):
            for name in ("teacher", "student"):
                measured = f"{name}_{form}" if f"{name}_{form}" in ndcg10 else name
                if form == "int8" and measured == name:
                    continue  # its quality is not known
                x, y = latency[f"{name}_{form}"]["p50_ms"], ndcg10[measured]["value"]
                axes.plot(x, y, marker, color=COLOURS[name], markersize=8)
                across, up, side = BESIDE.get(f"{name}_{form}", (6, 6, "left"))
                words = f"{name}, {form}"
                axes.annotate(words, (x, y), xytext=(across, up), ha=side, textcoords="offset points", fontsize=8)
        floor, name = max((ndcg10[name]["value"], name) for name in FLOORS)
        axes.axhline(floor, color=COLOURS[name], linestyle="--", linewidth=1)
        axes.annotate(FLOORS[name], (0.0, floor), xycoords=("axes fraction", "data"),
                      xytext=(4, 3), textcoords="offset points", fontsize=8, color="#666666")  # fmt: skip
        axes.margins(x=0.25, y=0.25)
        _plain_log_axis(axes)
        axes.set_xlabel("milliseconds a request, median, one user")
        axes.set_ylabel("NDCG@10")
        axes.set_title("Quality against latency", loc="left")
        return svg_of(figure)


def latency_distribution(samples_ms: dict[str, NDArray[np.float64]]) -> str:
    """The share of requests answered within a time."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = new_figure(5, 3)
        for name, samples in samples_ms.items():
            model, form = name.split("_")
            share = np.arange(1, len(samples) + 1) / len(samples)
            axes.step(
                np.sort(samples),
                share,
                color=COLOURS[model],
                linestyle=LINES[form],
                label=f"{model}, {form}",
            )
        _plain_log_axis(axes)
        axes.set_xlabel("milliseconds, one user")
        axes.set_ylabel("share of requests")
        axes.legend(fontsize=8)
        axes.set_title("Latency distribution", loc="left")
        return svg_of(figure)


def throughput_by_batch(timings: list[dict[str, Any]]) -> str:
    """Users answered in a second against users in a request, for each number of threads."""
    with matplotlib.rc_context(STYLE):
        all_threads = sorted({row["threads"] for row in timings})
        figure, axes = new_figure(4.5 * len(all_threads), 3, 1, len(all_threads))
        for panel, threads in zip(axes, all_threads, strict=True):
            for candidate in dict.fromkeys(row["candidate"] for row in timings):
                model, form = candidate.split("_")
                rows = [row for row in timings if (row["candidate"], row["threads"]) == (candidate, threads)]
                sizes = [row["batch_size"] for row in rows]
                users = [row["batch_size"] * row["requests_per_second"] for row in rows]
                panel.plot(
                    sizes,
                    users,
                    marker=".",
                    color=COLOURS[model],
                    linestyle=LINES[form],
                    label=f"{model}, {form}",
                )
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_xticks(sizes, [str(size) for size in sizes])
            panel.minorticks_off()
            panel.set_xlabel("users in a request")
            panel.set_ylabel("users a second")
            panel.set_title(f"{threads} thread{'s' if threads > 1 else ''}", loc="left")
        axes[0].legend(fontsize=7)
        return svg_of(figure)


def training_curves(histories: dict[str, list[dict[str, Any]]], deciding: str) -> str:
    """Loss (left) and validation NDCG@10 (right) of each training."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(9, 1.9 * len(histories), len(histories), 2)
        for row, (name, history) in enumerate(histories.items()):
            epochs = [record["epoch"] for record in history]
            left, right = axes[2 * row], axes[2 * row + 1]
            left.plot(epochs, [record["losses"]["total"] for record in history], color="#222222", label="total")
            _plot_parts(left, epochs, [record["losses"] for record in history])
            for variant in ("kept", "removed"):
                values = [record["valid"][variant] for record in history]
                style = "-" if variant == deciding else ":"
                right.plot(epochs, values, style, color="#222222", label=f"seen {variant}")
            if best := [record for record in history if record.get("is_best")]:
                kept = best[-1]
                right.plot(kept["epoch"], kept["valid"][deciding], "o", color="#222222", label="what is kept")
            for panel in (left, right):
                panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            left.set_title(f"{name}: loss", loc="left")
            right.set_title(f"{name}: validation NDCG@10 (deciding: {deciding})", loc="left")
            right.legend(fontsize=7)
        axes[-1].set_xlabel("epoch")
        axes[-2].set_xlabel("epoch")
        return svg_of(figure)


def _plot_parts(panel: Any, epochs: list[int], losses: list[dict[str, float]]) -> None:
    """What a loss is made of, where that is more than the task: each part as it is before `share` and weights."""
    parts = {"task": "--", "soft": "-.", "embedding": (0, (1, 3)), "hidden": ":", "terms": (0, (5, 1, 1, 1, 1, 1))}
    said = [part for part in parts if any(of_epoch[part] for of_epoch in losses)]
    if said != ["task"]:
        for part in said:
            values = [of_epoch[part] for of_epoch in losses]
            panel.plot(epochs, values, linestyle=parts[part], color="#777777", label=part)
        panel.legend(fontsize=7, ncols=2)


MOST_PANELS = 12
"""Rows of a decision that get a panel each; more are shown as they ended."""


def architecture_curves(history: list[dict[str, Any]], rows: list[Row]) -> str:
    """The probability of every option over the epochs, a panel for each row; of many rows, as a map of where they
    ended, beside every row's entropy over the epochs."""
    with matplotlib.rc_context(STYLE):
        return _panels(history, rows) if len(rows) <= MOST_PANELS else _map(history, rows)


def _panels(history: list[dict[str, Any]], rows: list[Row]) -> str:
    columns = 3
    lines = -(-len(rows) // columns)
    figure, axes = new_figure(9, 2.0 * lines + 0.7, lines, columns)
    epochs = [record["epoch"] for record in history]
    for panel, row in zip(axes, rows, strict=False):
        colours = operation_colours(list(row.options))
        over_time = np.array([record["probability"][row.decision][row.index] for record in history])
        for option, name in enumerate(row.options):
            panel.plot(epochs, over_time[:, option], color=colours[name], label=name.replace("_", " "))
        panel.axhline(1 / len(row.options), color="#bbbbbb", linewidth=0.8, linestyle="--")
        panel.set_ylim(0, 1)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_title(f"{row.title}: entropy {history[-1]['entropy'][row.decision][row.index]:.2f}", loc="left")
        if row.decision != rows[0].decision:
            panel.legend(fontsize=7)
    for panel in axes[len(rows) :]:
        panel.set_axis_off()
    drawn, labels = axes[0].get_legend_handles_labels()
    figure.legend(drawn, labels, loc="outside lower center", ncols=5, fontsize=8)
    return svg_of(figure)


def _map(history: list[dict[str, Any]], rows: list[Row]) -> str:
    first = [row for row in rows if row.decision == rows[0].decision]
    figure, (ended, entropy) = new_figure(9, 0.17 * len(first) + 1.6, 1, 2)
    last = np.array([history[-1]["probability"][row.decision][row.index] for row in first])
    ended.imshow(last, vmin=0, vmax=1, aspect="auto", cmap="Greens")
    options = [name.replace("_", " ") for name in first[0].options]
    ended.set_xticks(range(len(options)), options, rotation=60, ha="right", fontsize=7)
    ended.set_yticks(range(len(first)), [row.title for row in first], fontsize=6)
    ended.set_title("Probability at the end (white 0, green 1)", loc="left")
    epochs = [record["epoch"] for record in history]
    for row in rows:
        values = [record["entropy"][row.decision][row.index] for record in history]
        style = {"color": "#0b6e4f", "alpha": 0.4} if row in first else {"color": "#8a5a00", "label": row.title}
        entropy.plot(epochs, values, linewidth=1.0 if row in first else 2.0, **style)
    entropy.set_ylim(0, 1.02)
    entropy.xaxis.set_major_locator(MaxNLocator(integer=True))
    entropy.set_xlabel("epoch")
    entropy.set_title("Entropy of every row (1 uniform, 0 decided)", loc="left")
    if len(first) < len(rows):
        entropy.legend(fontsize=7)
    return svg_of(figure)
