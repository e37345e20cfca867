"""`pondera bench`: run a bench, and see what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pondera.errors import BadInput
from pondera.terminal.given import AsJson, Quiet, caps_of
from pondera.terminal.text import INTERRUPTED, console, count, dollars, emit, one_line, seconds

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from pondera.bench.file import Bench, Result
    from pondera.bench.run import Enlisted
    from pondera.bench.spec import Cell, Spec

bench_app = typer.Typer(no_args_is_help=True, help="Find where the returns of more thinking bend.")

File = Annotated[Path, typer.Argument(metavar="FILE.db", help="A bench that `pondera bench run` wrote.")]


@bench_app.command("run", epilog='Example:  pondera bench run --task gsm8k.jsonl -n 200 -s cot -s "vote(n=16)" --out bench.db')
def run(
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC.toml", help="What to do; flags replace what it says.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="A file of problems, or a task such as gsm8k: see the README.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A name of `pondera models`, a path, 'fake', or NAME@URL.")
    ] = None,
    strategy: Annotated[list[str] | None, typer.Option("--strategy", "-s", help="How to think: see `pondera strategies`.")] = None,
    verifier: Annotated[str | None, typer.Option(help="Who judges the branches: see `pondera verifiers`.")] = None,
    judge: Annotated[str | None, typer.Option(metavar="MODEL", help="The model of the judge, where it is another one.")] = None,
    draft: Annotated[str | None, typer.Option(metavar="MODEL", help="A cheaper model, for strategies that ask one first.")] = None,
    reward: Annotated[str | None, typer.Option(metavar="NAME@URL", help="A reward model on a server.")] = None,
    tokens: Annotated[
        list[int] | None, typer.Option(help="At most so many tokens a problem; each one given is a budget of its own.")
    ] = None,
    calls: Annotated[int | None, typer.Option(help="At most so many samples a problem.")] = None,
    time_limit: Annotated[float | None, typer.Option("--seconds", help="At most so many seconds a problem.")] = None,
    usd: Annotated[float | None, typer.Option(help="At most so many US dollars a problem.")] = None,
    price: Annotated[str | None, typer.Option(metavar="PROMPT,GENERATED", help="Dollars a million tokens.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Another seed, other samples; each one given is done.")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Only the first so many problems of each task.")] = None,
    at_once: Annotated[int | None, typer.Option(help="Problems side by side.")] = None,
    parallel: Annotated[int | None, typer.Option(help="Samples in flight for one problem, at most.")] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE.db", help="The bench's file; what is in it is not done again.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Think about every problem of every task in every way that is named, and keep every sample.

    A bench that was ended, by Ctrl-C or by kill, goes on where it was; several processes may share one file.
    """
    import asyncio

    from pondera.bench import spec as specs
    from pondera.bench.file import Bench
    from pondera.bench.run import enlist

    given = specs.read(spec) if spec else {}
    caps = caps_of(None, calls, usd, time_limit)
    budgets = tuple({**caps, **caps_of(most, None, None, None)} for most in tokens) if tokens else (caps,)
    flags: dict[str, Any] = {
        "tasks": task, "models": model, "strategies": strategy, "seeds": seed, "budgets": budgets if tokens or caps else None,
        "verifier": verifier, "judge": judge, "draft": draft, "reward": reward, "price": price,
        "n": n, "at_once": at_once, "parallel": parallel, "out": out,
    }  # fmt: skip
    for name, value in flags.items():
        if value is not None:
            given[name] = tuple(value) if isinstance(value, list) else value
    wanted = specs.Spec(**given)
    with Bench(Path(wanted.out)) as bench:
        listed = enlist(bench, wanted)
        whole = asyncio.run(_run(bench, wanted, listed, quiet))
        _results(bench, listed.cells, as_json)
    if not whole:
        raise typer.Exit(INTERRUPTED)


@bench_app.command("show", epilog="Example:  pondera bench show bench.db")
def show(file: File, as_json: AsJson = False) -> None:
    """What came of every way to think: accuracy, tokens, seconds, dollars."""
    from pondera.bench.file import Bench

    with Bench(file, new=False) as bench:
        _results(bench, bench.cells(), as_json)


@bench_app.command("tasks", epilog="Example:  pondera bench run --task \"gym(name='chain_sum', n=100)\"")
def tasks_() -> None:
    """Where problems come from: a file's path, or one of these."""
    from pondera.bench.tasks import TASKS
    from pondera.terminal.catalogue import functions

    console().print(functions(TASKS))


# ---------------------------------------------------------------- running


async def _run(bench: Bench, spec: Spec, listed: Enlisted, quiet: bool) -> bool:
    """Do what is left. Says whether all of it was done: Ctrl-C ends it before."""
    import asyncio

    from pondera.bench.run import Here
    from pondera.bench.run import run as run_bench
    from pondera.terminal.session import interrupts, open_models

    out, me = console(stderr=True), asyncio.current_task()
    assert me is not None
    for name, changed in listed.changed.items():
        if changed:
            out.print(f"{name}: {count(changed, 'problem')} changed since; what came of the old ones is kept, and not counted.")
    thinker = Here(lambda plan: open_models(plan, out, quiet), spec.parallel)
    try:
        with interrupts(me.cancel), Meter(out, listed, quiet) as meter:
            try:
                await run_bench(bench, spec, listed, thinker, meter.hear)
            finally:
                await thinker.close()
    except asyncio.CancelledError:
        me.uncancel()
        out.print("Stopped. What is done is kept: the same command goes on from here.")
        return False
    return True


@dataclass(eq=False, slots=True)
class Meter:
    """A bar over all runs: what is done, at which rate, for how much, and how long the rest will take as far as that can be told."""

    out: Console
    listed: Enlisted
    quiet: bool
    bars: Progress | None = None
    bar: Any = None
    cell: Cell | None = None
    since: float = 0.0
    done: int = 0
    tokens: int = 0
    usd: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)  # seconds a run, by cell

    def __enter__(self) -> Meter:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rest]}"),
        )
        shown = self.out.is_terminal and not self.quiet
        self.bars = Progress(*columns, console=self.out, transient=True, refresh_per_second=4, disable=not shown, expand=True)
        total = sum(self.listed.problems[cell.task] for cell in self.listed.cells)
        self.bar = self.bars.add_task("", total=total, completed=total - sum(self.listed.left.values()), rest="")
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.bars is not None
        self.bars.stop()

    def hear(self, event: Cell | Result) -> None:
        from pondera.bench.spec import Cell

        assert self.bars is not None
        if isinstance(event, Cell):
            self.cell, self.since, self.done = event, time.monotonic(), 0
            left = self.listed.left[event.print]
            if left and not self.quiet and not self.out.is_terminal:
                self.out.print(f"{event.task}, {event.plan.model}: {event.label}: {count(left, 'problem')} to do")
            self.bars.update(self.bar, description=one_line(f"{event.task} · {event.plan.model} · {event.label}")[:60])
            return
        assert self.cell is not None
        self.done += 1
        self.tokens += event.figures["tokens"]
        self.usd += event.figures["usd"]
        took = time.monotonic() - self.since
        self.rates[self.cell.print] = took / self.done
        money = f", {dollars(self.usd)}" if self.usd else ""
        self.bars.update(self.bar, advance=1, rest=f"{self.tokens:,} tokens{money}, {self._rest()}")

    def _rest(self) -> str:
        """What is left of this way to think at its own rate; of ways that were not begun nothing is known."""
        assert self.cell is not None
        own = max(0, self.listed.left[self.cell.print] - self.done)
        after = self.listed.cells[[cell.print for cell in self.listed.cells].index(self.cell.print) + 1 :]
        unknown = sum(self.listed.left[cell.print] > 0 for cell in after)
        text = f"{seconds(own * self.rates[self.cell.print])} left"
        return f"{text}, then {count(unknown, 'more way')}" if unknown else text


# ---------------------------------------------------------------- what came of it


def summary(bench: Bench, cell: Cell) -> dict[str, Any]:
    """A cell's figures over its problems, as JSON values."""
    import numpy as np

    from pondera.bench.tasks import SURE
    from pondera.intervals import wilson

    results = list(bench.results(cell, pools=False))
    done = [one.figures for one in results if one.state == "done"]
    failed = [one.figures["error"] for one in results if one.state == "failed"]
    told: dict[str, Any] = {**cell.to_json(), "cell": cell.print, "label": cell.label, "done": len(done), "failed": len(failed)}
    if failed:
        told["error"] = failed[-1]
    if not done:
        return told
    right = sum(one["right"] >= SURE for one in done)
    sure = wilson(right, len(done))
    took = [one["seconds"] for one in done]
    told |= {
        "right": right,
        "accuracy": sure.value,
        "low": sure.low,
        "high": sure.high,
        "score": float(np.mean([one["right"] for one in done])),
    }
    told |= {name: sum(one[name] for one in done) / len(done) for name in ("tokens", "judging", "prompt", "cached", "calls", "usd")}
    return told | {"seconds": float(np.median(took)), "seconds_95": float(np.percentile(took, 95))}


def _results(bench: Bench, cells: Any, as_json: bool) -> None:
    told = [summary(bench, cell) for cell in cells]
    if as_json:
        emit(json.dumps(told, indent=2))
        return
    if not told:
        raise BadInput(f"{bench.path} holds no results: run it first, as in pondera bench run --out {bench.path}.")
    out = console()
    for (task, model), some in _grouped(told).items():
        out.print(_table(f"{task} · {model}", some))
    for one in told:
        if one["failed"]:
            what = f"{one['label']}: {count(one['failed'], 'problem')} failed and are not counted; the last: {one_line(one['error'])}"
            console(stderr=True).print(what, style="yellow", soft_wrap=True)


def _grouped(told: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in told:
        groups.setdefault((one["task"], one["plan"]["model"]), []).append(one)
    return groups


def _table(title: str, told: Sequence[Mapping[str, Any]]) -> Any:
    from rich.table import Table

    paid = any(one.get("usd") for one in told)
    table = Table(title=one_line(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("strategy", overflow="fold")
    for name in ("problems", "right", "95 %", "tokens", "seconds", "95th", *(("dollars",) if paid else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for one in told:
        if not one["done"]:
            table.add_row(one_line(one["label"]), "0")
            continue
        figures = [f"{one['accuracy']:.1%}", f"{one['low']:.0%} to {one['high']:.0%}", f"{one['tokens']:,.0f}"]
        money = [dollars(one["usd"])] if paid else []
        table.add_row(one_line(one["label"]), f"{one['done']:,}", *figures, f"{one['seconds']:.1f}", f"{one['seconds_95']:.1f}", *money)
    return table
