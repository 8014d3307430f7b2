"""What a person sees in the terminal: the live table of a run, its plan, its result."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from distilrec.core.estimate import STEPS

if TYPE_CHECKING:
    from distilrec.core.compared import Compared
    from distilrec.core.metrics import Interval
    from distilrec.core.schedules import Found
    from distilrec.io.promotions import Entry
    from distilrec.serving.distilrec_ranker import Recommendation

console = Console()


def clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"


class RunDisplay:
    """Draws the progress lines of one scene: live in a terminal, a line per event elsewhere."""

    def __init__(self, scene: str, predicted: dict[str, float]) -> None:
        self.scene = scene
        self.predicted = predicted
        self.began: dict[str, float] = {}
        self.took: dict[str, float] = {}
        self.newest: dict[str, dict[str, Any]] = {}
        self.resumed: dict[str, int] = {}
        self.untracked = ""
        self.pace = 1.0
        self.live = (
            Live(console=console, refresh_per_second=4, get_renderable=self._table) if console.is_terminal else None
        )

    def __enter__(self) -> "RunDisplay":
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def watch(self, lines: list[dict[str, Any]]) -> None:
        """Of what is new."""
        for line in lines:
            self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        step, event = line["step"], line["event"]
        if step not in STEPS and event != "untracked":
            return
        if event == "start":
            self.began[step] = line["time"]
        elif event == "done":
            self.took[step] = line["time"] - self.began[step]
            if step == "teach" and step not in self.resumed and self.predicted[step]:
                self.pace = self.took[step] / self.predicted[step]
        elif event == "resumed":
            self.resumed[step] = line["epoch"]
        elif event == "untracked":
            is_news = not self.untracked
            self.untracked = line["why"]
            if not is_news:
                return
        else:
            self.newest[step] = {**self.newest.get(step, {}), **line}
        if not self.live and event in ("start", "done", "epoch", "resumed", "untracked"):
            self._print(step, event)

    def _print(self, step: str, event: str) -> None:
        if event == "done":
            words = f"done in {clock(self.took[step])}"
        elif event == "resumed":
            words = f"resumed after epoch {self.resumed[step]}"
        elif event == "untracked":
            words = f"not shown in MLflow yet: {self.untracked}"
        else:
            words = f"{self._detail(step) or 'started'}; {clock(self.left())} left"
        print(f"{self.scene}: {step}: {words}", flush=True, file=sys.stdout)

    def _detail(self, step: str) -> str:
        newest = self.newest.get(step)
        if not newest:
            return ""
        if newest["event"] == "storing":
            share = newest["batch"] / newest["num_batches"] if "batch" in newest else 0.0
            return f"asking the teacher once, {share:.0%}"
        parts = [f"{newest['model']} ranked"] if "model" in newest else []
        if "num_users" in newest:
            parts.append(
                f"{newest['num_users']:,} users, {newest['num_items']:,} items, {newest['num_events']:,} events"
            )
        if "loss" in newest:
            parts = [f"epoch {newest['epoch']}/{newest['num_epochs']}", f"loss {newest['loss']:.3f}"]
            if "ndcg10" in newest:
                parts.append(f"valid NDCG@10 {newest['ndcg10']:.4f}")
        return ", ".join(parts)

    def _left_in(self, step: str) -> float:
        """Seconds: by the step's own pace once it has one, by the prediction before."""
        if step in self.took:
            return 0.0
        predicted = self.predicted[step] * self.pace
        if step not in self.began:
            return predicted
        elapsed = time.time() - self.began[step]
        newest = self.newest.get(step, {})
        done = self._share_done(step, newest)
        if done > 0.03:
            return float(elapsed / done * (1 - done))
        return max(1.0, predicted - elapsed)

    def _share_done(self, step: str, newest: dict[str, Any]) -> float:
        if "num_epochs" not in newest:
            return 0.0
        skipped = self.resumed.get(step, 0)
        if newest["event"] == "batch":
            epochs = newest["epoch"] - 1 + newest["batch"] / newest["num_batches"]
        else:
            epochs = newest["epoch"]
        return float((epochs - skipped) / max(1, newest["num_epochs"] - skipped))

    def left(self) -> float:
        return sum(self._left_in(step) for step in STEPS)

    def _table(self) -> Table:
        table = Table(
            title=f"{self.scene}: about {clock(self.left())} left", title_justify="left", box=None, padding=(0, 2, 0, 0)
        )
        for name in ("step", "", "time", "left"):
            table.add_column(name, justify="right" if name in ("time", "left") else "left")
        for step in STEPS:
            detail = self._detail(step)
            if step in self.resumed:
                detail = f"{detail or 'reused'} (resumed after epoch {self.resumed[step]})"
            if step in self.took:
                row = (Text(f"✓ {step}", style="green"), detail, clock(self.took[step]), "")
            elif step in self.began:
                row = (
                    Text(f"▸ {step}", style="bold"),
                    detail,
                    clock(time.time() - self.began[step]),
                    clock(self._left_in(step)),
                )
            else:
                row = (Text(f"  {step}", style="dim"), "", "", clock(self._left_in(step)))
            table.add_row(*row)
        if self.untracked:
            table.caption, table.caption_justify = f"not shown in MLflow yet: {self.untracked}", "left"
        return table


def print_plan(plans: list[dict[str, Any]]) -> None:
    for plan in plans:
        counts = plan["counts"]
        total = sum(plan["predicted_seconds"].values())
        console.print(
            f"[bold]{plan['scene']}[/]: {counts['num_users']:,} users, {counts['num_items']:,} items, "
            f"{counts['num_events']:,} events; seen items {plan['deciding']}; about {clock(total)} minutes"
        )
        if plan["num_duplicates"]:
            console.print(f"{plan['num_duplicates']:,} rows say again what another one says, and are left out")
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("step")
        table.add_column("minutes", justify="right")
        table.add_column("what")
        for step in STEPS:
            done, limit = plan["epochs"].get(step, (0, 0))
            what = f"up to {limit} epoch{'s' * (limit > 1)}" if limit else ""
            if done:
                what = "reused from its checkpoint" if done >= limit else f"resumes after epoch {done} of {limit}"
            table.add_row(step, clock(plan["predicted_seconds"][step]), what)
        console.print(table)


def print_result(summaries: list[dict[str, Any]]) -> None:
    for summary in summaries:
        verdict, deciding = summary["verdict"], summary["deciding"]
        style = "green" if verdict["promote"] else "yellow"
        console.print(f"\n[bold]{summary['scene']}[/]: [{style}]{verdict['word']}[/] as version {verdict['version']}")
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("", "HR@10", "NDCG@10", "MRR@10", "encoder params", "multiply-adds", "p50 ms, exported"):
            table.add_column(name, justify="left" if not name else "right")
        for name, model in summary["models"].items():
            row = [f"{model[deciding][metric]:.4f}" for metric in ("hr@10", "ndcg@10", "mrr@10")]
            if name.split("_")[0] in summary["cost"]:
                cost = summary["cost"][name.split("_")[0]]
                row += [
                    f"{cost['encoder_params']:,}",
                    f"{cost['encoder_macs']:,}",
                    f"{summary['latency'][name if '_' in name else f'{name}_onnx']['p50_ms']:.3f}",
                ]
            table.add_row(name, *row)
        console.print(table)
        for check in verdict["checks"]:
            mark = "[dim]-[/]" if check["passed"] is None else "[green]✓[/]" if check["passed"] else "[red]✗[/]"
            console.print(f" {mark} {check['sentence']}", highlight=False)
        console.print(summary["standing"], style="dim", highlight=False)


def print_comparison(compared: "list[Compared]", model: str) -> None:
    console.print(f"NDCG@10 of the {model}, with 95 % intervals over test users, paired", style="dim")
    for one in compared:
        console.print(", ".join(one.runs), soft_wrap=True, highlight=False, markup=False)
        words = [_with_interval(one.mean, ".4f")]
        words += [f"beyond the first {_with_interval(one.beyond, '+.4f')}"] if one.beyond else []
        words += [f"by run {', '.join(f'{value:.4f}' for value in one.by_run)}"] if len(one.by_run) > 1 else []
        console.print(f"  {'; '.join(words)}", soft_wrap=True, highlight=False, markup=False)


def _with_interval(interval: "Interval", form: str) -> str:
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left, for whoever says how many are done of how many; nothing where nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_finding(name: str, is_well: bool, sentence: str, fix: str) -> None:
    word, style = ("well", "green") if is_well else ("wrong", "bold red")
    line = Text.assemble((f"{word:<6}", style), f"{name}: {sentence}")
    console.print(line, soft_wrap=True)
    if fix:
        console.print(Text(f"      fix: {fix}"), soft_wrap=True)


def print_history(entries: "list[Entry]") -> None:
    """Newest first."""
    for entry in reversed(entries):
        when, champion = entry.when.replace("T", " ")[:16], entry.champion or "none"
        console.print(
            f"{entry.number:>4}  {when}  version {entry.version} [bold]{entry.verdict}[/] by {escape(entry.who)}; "
            f"champion: {champion}",
            highlight=False,
        )
        for reason in entry.reasons:
            console.print(Padding(Text(reason), (0, 0, 0, 6)))


def print_schedules(runs: "list[Found]") -> None:
    widths = [max((len(text) for text in column), default=0) for column in zip(*map(_columns, runs), strict=True)]
    for run in runs:
        cells = [text.ljust(width) for text, width in zip(_columns(run), widths, strict=True)]
        console.print(Text("  ".join(cells), style="" if run.is_enabled else "dim"), soft_wrap=True)
    if not runs:
        print("nothing is scheduled")


def _columns(run: "Found") -> tuple[str, ...]:
    made = time.strftime("%Y-%m-%d %H:%M", time.gmtime(run.created))
    word = "enabled" if run.is_enabled else "disabled"
    return run.scene, word, run.cron, f"pipeline {run.name.rpartition(' ')[2]}", f"made {made} UTC", run.id


def print_answer(scene: str, version: str, found: "Recommendation", titles: list[str]) -> None:
    console.print(f"[bold]{scene}[/], version {version}", highlight=False)
    if found.is_fallback:
        console.print("nothing is known of this user, so these are the scene's most popular items", style="yellow")
    if found.num_unknown:
        console.print(f"unknown ids in the history, skipped: {found.num_unknown}", style="yellow", highlight=False)
    has_titles = any(title != str(item) for title, item in zip(titles, found.items, strict=True))
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    if has_titles:
        table.add_column("title", overflow="fold")
    table.add_column("events" if found.is_fallback else "score", justify="right")
    for rank, (item, title, score) in enumerate(zip(found.items, titles, found.scores, strict=True), start=1):
        shown = f"{score:.0f}" if found.is_fallback else f"{score:.3f}"
        table.add_row(str(rank), Text(str(item)), *([Text(title)] if has_titles else []), shown)
    console.print(table)
