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
from pondera.thought import Budget

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from pondera.allocate.returns import Worth
    from pondera.bench.file import Bench, Result
    from pondera.bench.run import Enlisted
    from pondera.bench.spec import Cell, Spec
    from pondera.plan import Plan
    from pondera.thought import Price

bench_app = typer.Typer(no_args_is_help=True, help="Find where the returns of more thinking bend.")

File = Annotated[Path, typer.Argument(metavar="FILE.db", help="A bench that `pondera bench run` wrote.")]


Value = Annotated[float | None, typer.Option(help="What a right answer is worth, in US dollars: then bends are found.")]
ErrorCost = Annotated[float, typer.Option(help="What a wrong answer costs, in US dollars.")]
LatencyCost = Annotated[float, typer.Option(help="What a second of waiting costs, in US dollars.")]
Prices = Annotated[list[str] | None, typer.Option("--price", metavar="MODEL=PROMPT,GENERATED", help="Dollars a million tokens.")]
Sizes = Annotated[list[str] | None, typer.Option("--parameters", metavar="MODEL=NUMBER", help="Of a model that Pondera does not know.")]


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


@bench_app.command("compare", epilog="Example:  pondera bench compare before.db after.db    or    bench.db:cot bench.db:vote(n=16)")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="FILE.db, or FILE.db:WAY where it holds several ways to think.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What it is compared with, on the problems that both have done.")],
    as_json: AsJson = False,
) -> None:
    """Is B better than A? A paired test, problem by problem."""
    from dataclasses import asdict

    from pondera.bench.compare import compare as compared

    found = compared(a, b)
    if as_json:
        emit(json.dumps([{"task": task, "a": one, "b": other, **asdict(told)} for task, one, other, told in found], indent=2))
        return
    for task, one, other, told in found:
        gap = told.difference
        sure = "B is better" if gap.low > 0 else "A is better" if gap.high < 0 else "no difference is seen"
        out = console()
        out.print(f"{one_line(task)}, {count(told.problems, 'problem')}", style="bold")
        out.print(f"  A  {told.a:.1%}  {one_line(one)}\n  B  {told.b:.1%}  {one_line(other)}")
        out.print(f"  B - A  {gap.value:+.1%} ({gap.low:+.1%} to {gap.high:+.1%}), p = {told.p:.2g}: {sure}")
        out.print(f"  only A is right {told.only_a} times, only B {told.only_b} times")


@bench_app.command("replay", epilog="Example:  pondera bench replay bench.db --strategy \"vote(n=4, over='chains')\"")
def replay(
    file: File,
    strategy: Annotated[list[str], typer.Option("--strategy", "-s", help="A policy: see `pondera strategies`.")],
    verifier: Annotated[str, typer.Option(help="Who judges the branches: see `pondera verifiers`.")] = "",
    way: Annotated[str, typer.Option(help="Whose samples, where the bench holds several ways to think.")] = "",
    tokens: Annotated[int | None, typer.Option(help="At most so many tokens a problem.")] = None,
    calls: Annotated[int | None, typer.Option(help="At most so many samples a problem.")] = None,
    repeats: Annotated[int, typer.Option(help="Draw so many times from the record.")] = 8,
    as_json: AsJson = False,
) -> None:
    """What other policies would have made of the samples that are recorded, with no model call."""
    import asyncio

    from pondera.bench.compare import ways
    from pondera.bench.file import Bench
    from pondera.plan import Plan

    if repeats < 1:
        raise BadInput(f"--repeats {repeats} draws nothing: give 1 or more.")
    budget = Budget(**caps_of(tokens, calls, None, None))
    plans = [Plan(strategy=one, verifier=verifier) for one in strategy]
    for plan in plans:
        plan.run({}, budget)
    with Bench(file, new=False) as bench:
        told = [asyncio.run(_replayed(bench, cell, plan, budget, repeats)) for cell in ways(bench, way) for plan in plans]
    if as_json:
        emit(json.dumps(told, indent=2))
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("policy", overflow="fold")
    table.add_column("on the samples of", overflow="fold")
    for name in ("problems", "right", "95 %", "tokens", "samples"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in told:
        if one["done"]:
            figures = (f"{one['accuracy']:.1%}", f"{one['low']:.0%} to {one['high']:.0%}", f"{one['tokens']:,.0f}", f"{one['calls']:.1f}")
            table.add_row(one_line(one["policy"]), one_line(one["way"]), f"{one['done']:,}", *figures)
    console().print(table)
    for one in told:
        if one["failed"]:
            console(stderr=True).print(
                f"{one['policy']}, {one['way']}: {count(one['failed'], 'run')} failed: {one['error']}", style="yellow"
            )


async def _replayed(bench: Bench, cell: Cell, plan: Plan, budget: Budget, repeats: int) -> dict[str, Any]:
    """A policy's figures over a cell's problems, as JSON values; a problem where a run failed is left out."""
    import numpy as np

    from pondera.allocate.returns import interval
    from pondera.bench.replay import replay as replayed

    runs = [one async for one in replayed(bench, cell, plan, budget, repeats)]
    done = [one for one in runs if not one.failed]
    told: dict[str, Any] = {"policy": plan.strategy, "way": f"{cell.task}, {cell.plan.model}, {cell.label}", "done": len(done)}
    told |= {"failed": sum(one.failed for one in runs), "error": next((one.error for one in runs if one.error), "")}
    if not done:
        return told
    right = np.array([one.right for one in done])
    sure = interval(float(right.mean()), right[np.random.default_rng(0).integers(0, len(right), (1000, len(right)))].mean(axis=1))
    told |= {"accuracy": sure.value, "low": sure.low, "high": sure.high}
    return told | {name: float(np.mean([getattr(one, name) for one in done])) for name in ("tokens", "calls")}


@bench_app.command(
    "report", epilog="Example:  pondera bench report bench.db --out report.html --value 0.01 --price qwen2.5-coder-0.5b=0.02,0.06"
)
def report(
    file: File,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="The page; FILE.html beside the bench by default.")] = None,
    folder: Annotated[Path | None, typer.Option("--tables", metavar="FOLDER", help="Also every table, as CSV and Parquet.")] = None,
    pictures: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also every picture, as PNG.")] = None,
    value: Value = None,
    error_cost: ErrorCost = 0.0,
    latency_cost: LatencyCost = 0.0,
    price: Prices = None,
    parameters: Sizes = None,
    problems: Annotated[int, typer.Option(help="Show the trees of at most so many problems of each way to think.")] = 100,
) -> None:
    """Write what came of a bench as one HTML page: fronts, curves and their bends, difficulty, exchange rates, latencies, trees."""
    from pondera.bench import page
    from pondera.bench.file import Bench
    from pondera.bench.report import Options, gather

    options = Options(worth=_worth(value, error_cost, latency_cost), prices=_prices(price), sizes=_sizes(parameters), problems=problems)
    place = out or file.with_suffix(".html")
    with Bench(file, new=False) as bench:
        made = gather(bench, options)
        _write(place, page.page(bench, made, options).encode("utf-8", "replace"))
    emit(str(place))
    drawn = [*(one for some in made.pictures.values() for one in some), *(picture for _, picture in made.exchanges)]
    for picture in drawn if pictures else ():
        assert pictures is not None
        _write(pictures / f"{picture.name}.png", picture.png())
        emit(str(pictures / f"{picture.name}.png"))
    if folder:
        from pondera.bench.tables import write

        for written in write(made, folder):
            emit(str(written))


def _write(place: Path, data: bytes) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    except OSError as error:
        raise BadInput(f"{place} cannot be written ({error.strerror}): give another place.")


def _worth(value: float | None, error_cost: float, latency_cost: float) -> Worth | None:
    from pondera.allocate.returns import Worth

    for name, one in (("value", value or 0.0), ("error-cost", error_cost), ("latency-cost", latency_cost)):
        if not 0 <= one < float("inf"):
            raise BadInput(f"--{name} {one} is no sum of dollars: give a number that is not negative.")
    if value is None:
        if error_cost or latency_cost:
            raise BadInput("A bend needs what a right answer is worth: give --value in dollars.")
        return None
    return Worth(value, error_cost, latency_cost)


def _prices(given: list[str] | None) -> dict[str, Price]:
    from pondera.plan import Plan

    found = {}
    for one in given or ():
        model, _, price = one.rpartition("=")
        if not model or (made := Plan(price=price).price_of()) is None:
            raise BadInput(f"{one!r} is no price of a model: write MODEL=PROMPT,GENERATED, dollars a million tokens.")
        found[model] = made
    return found


def _sizes(given: list[str] | None) -> dict[str, float]:
    found = {}
    for one in given or ():
        model, _, size = one.rpartition("=")
        try:
            found[model] = float(size)
        except ValueError:
            found[model] = 0.0
        if not model or not 0 < found[model] < float("inf"):
            raise BadInput(f"{one!r} is no size of a model: write MODEL=NUMBER of parameters, as in --parameters mine=7e9.")
    return found


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


def _results(bench: Bench, cells: Any, as_json: bool) -> None:
    from pondera.bench.summary import summary

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
