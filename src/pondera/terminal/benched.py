"""`pondera bench report`, `compare`, `replay` and `merge`: what a bench's file tells."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pondera.errors import BadInput
from pondera.terminal.bench import File, bench_app, columns
from pondera.terminal.given import AsJson, caps_of
from pondera.terminal.text import console, count, emit, one_line
from pondera.thought import Budget

if TYPE_CHECKING:
    from pondera.allocate.returns import Worth
    from pondera.bench.file import Bench
    from pondera.bench.spec import Cell
    from pondera.plan import Plan
    from pondera.thought import Price

__all__ = ["bench_app"]  # with all of its commands

Value = Annotated[float | None, typer.Option(help="What a right answer is worth, in US dollars: then bends are found.")]
ErrorCost = Annotated[float, typer.Option(help="What a wrong answer costs, in US dollars.")]
LatencyCost = Annotated[float, typer.Option(help="What a second of waiting costs, in US dollars.")]
Prices = Annotated[list[str] | None, typer.Option("--price", metavar="MODEL=PROMPT,GENERATED", help="Dollars a million tokens.")]
Sizes = Annotated[list[str] | None, typer.Option("--parameters", metavar="MODEL=NUMBER", help="Of a model that Pondera does not know.")]


@bench_app.command("exchange", epilog="Example:  pondera bench exchange bench.db --parameters mine=7e9")
def exchange(file: File, price: Prices = None, parameters: Sizes = None, as_json: AsJson = False) -> None:
    """What thinking of a smaller model is worth a larger one's single answer, in operations, seconds and dollars.

    It needs two models on the same problems: the smaller with samples (as of vote(n=16)), the larger with one (cot) or more.
    """
    from pondera.bench.file import Bench
    from pondera.bench.report import Options, gather
    from pondera.bench.tables import rates

    options = Options(prices=_prices(price), sizes=_sizes(parameters))
    with Bench(file, new=False) as bench:
        made = [one for one, _ in gather(bench, options).exchanges]
    if not made:
        what = "run two, the smaller with vote(n=16), say; --parameters tells the size of one that Pondera does not know"
        raise BadInput(f"{file} has no smaller model with samples and larger model with an answer to the same problems: {what}.")
    if as_json:
        emit(json.dumps([row for one in made for row in rates(one)], indent=2))
        return
    out = console()
    for one in made:
        single, alone = (f"{each.value:.1%} ({each.low:.1%} to {each.high:.1%})" for each in (one.single, one.alone))
        out.print(one_line(f"{one.task}, {count(one.problems, 'problem')}"), style="bold")
        out.print(
            f"{one_line(one.large)}: one answer {single}, {one.flops:.3g} operations, {one.seconds:.2g} s of the machine", soft_wrap=True
        )
        out.print(
            f"{one_line(one.small)}, {one_line(one.way)}: one answer {alone}; its cost below is by that of the larger one", soft_wrap=True
        )
        money = ("USD",) if any(rate.usd is not None for rate in one.rates) else ()
        table = columns(("with",), ("samples", "right", "against", "FLOPs", "uncached", "time", *money))
        for rate in one.rates:
            at = f"over {rate.n}"
            if some := rate.samples:
                high = "+" if math.isinf(some.high) else f", {some.high:.2g}"
                at = f"{some.value:.2g} ({some.low:.2g}{high})"
            gap = f"{rate.gap.value:+.0%} ({100 * rate.gap.low:+.0f}, {100 * rate.gap.high:+.0f})"
            ratios = [rate.flops, rate.uncached, rate.seconds, *((rate.usd,) if money else ())]
            told = [f"{ratio:.2g}" if ratio is not None else "" for ratio in ratios]
            table.add_row(one_line(rate.way), at, f"{rate.accuracy:.0%}", gap, *told)
        out.print(table)


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
    table = columns(("policy", "on the samples of"), ("problems", "right", "95 %", "tokens", "samples"))
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

    from pondera.bench.replay import replay as replayed
    from pondera.intervals import mean

    runs = [one async for one in replayed(bench, cell, plan, budget, repeats)]
    done = [one for one in runs if not one.failed]
    told: dict[str, Any] = {"policy": plan.strategy, "way": f"{cell.task}, {cell.plan.model}, {cell.label}", "done": len(done)}
    told |= {"failed": sum(one.failed for one in runs), "error": next((one.error for one in runs if one.error), "")}
    if not done:
        return told
    sure = mean(np.array([one.right for one in done]))
    told |= {"accuracy": sure.value, "low": sure.low, "high": sure.high}
    return told | {name: float(np.mean([getattr(one, name) for one in done])) for name in ("tokens", "calls")}


@bench_app.command("merge", epilog="Example:  pondera bench merge all.db here.db there.db    or    public.db bench.db --without-texts")
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT.db", help="Where it goes; what is in it stays.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE.db...", help="Benches that `pondera bench run` wrote.")],
    without_texts: Annotated[
        bool, typer.Option("--without-texts", help="Leave out questions, gold answers and ledgers; curves, rates and comparisons stay.")
    ] = False,
) -> None:
    """Put several benches into one file: of machines that share no disk, or to publish results where the questions may not be."""
    from pondera.bench.file import Bench
    from pondera.bench.merge import merge as merged

    with Bench(out) as bench:
        for file in files:
            emit(f"{file}: {count(merged(bench, file, texts=not without_texts), 'run')} new in {out}")


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
    if place.resolve() == file.resolve():
        raise BadInput(f"--out {place} is the bench itself: give the page another name, such as {file.with_suffix('.html')}.")
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
