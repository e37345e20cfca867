"""`pondera bench`: run a bench, and see what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pondera.errors import BadInput
from pondera.terminal.given import AsJson, Quiet, caps_of
from pondera.terminal.text import INTERRUPTED, console, count, dollars, emit, one_line

if TYPE_CHECKING:
    from pondera.bench.file import Bench

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
    total_tokens: Annotated[int | None, typer.Option(help="At most so many tokens for all problems of a task together.")] = None,
    price: Annotated[str | None, typer.Option(metavar="PROMPT,GENERATED", help="Dollars a million tokens.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Another seed, other samples; each one given is done.")] = None,
    learn: Annotated[bool | None, typer.Option("--learn", help="For `auto`: learn from outcomes how hard the task is, as it goes.")] = None,
    n: Annotated[int | None, typer.Option("-n", help="Only the first so many problems of each task.")] = None,
    at_once: Annotated[int | None, typer.Option(help="Problems side by side.")] = None,
    parallel: Annotated[int | None, typer.Option(help="Samples in flight for one problem, at most.")] = None,
    out: Annotated[str | None, typer.Option(metavar="FILE.db", help="The bench's file; what is in it is not done again.")] = None,
    on: Annotated[str, typer.Option(help="'ray' spreads the problems over the Ray cluster that this machine is in.")] = "",
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
    from pondera.terminal.meter import carry_out

    if on not in ("", "ray"):
        raise BadInput(f"--on {on}: a bench runs on this machine, or with --on ray.")
    if total_tokens is not None and total_tokens < 1:
        raise BadInput(f"--total-tokens {total_tokens} allows nothing: give a number above 0, or leave it out.")
    given = specs.read(spec) if spec else {}
    caps = caps_of(None, calls, usd, time_limit)
    budgets = tuple({**caps, **caps_of(most, None, None, None)} for most in tokens) if tokens else (caps,)
    flags: dict[str, Any] = {
        "tasks": task, "models": model, "strategies": strategy, "seeds": seed, "budgets": budgets if tokens or caps else None,
        "verifier": verifier, "judge": judge, "draft": draft, "reward": reward, "price": price,
        "n": n, "total_tokens": total_tokens, "learn": learn, "at_once": at_once, "parallel": parallel, "out": out,
    }  # fmt: skip
    for name, value in flags.items():
        if value is not None:
            given[name] = tuple(value) if isinstance(value, list) else value
    wanted = specs.Spec(**given)
    if on and (wanted.total_tokens or wanted.learn):
        raise BadInput("One budget for all problems, and what is learned from them, is kept by one process: leave out --on ray.")
    with Bench(Path(wanted.out)) as bench:
        listed = enlist(bench, wanted)
        whole = asyncio.run(carry_out(bench, wanted, listed, quiet, on))
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


# ---------------------------------------------------------------- what came of it


def _results(bench: Bench, cells: Any, as_json: bool) -> None:
    from pondera.bench.summary import summary

    told = [summary(cell, list(bench.results(cell, pools=False))) for cell in cells]
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


def columns(words: Sequence[str], figures: Sequence[str], title: str = "") -> Any:
    """A table without lines: columns of words, which may fold, and then of figures."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in words:
        table.add_column(name, overflow="fold", min_width=12)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _table(title: str, told: Sequence[Mapping[str, Any]]) -> Any:
    paid = any(one.get("usd") for one in told)
    names = ("problems", "right", "95 %", "tokens", "seconds", "95th", *(("dollars",) if paid else ()))
    table = columns(("strategy",), names, one_line(title))
    for one in told:
        if not one["done"]:
            table.add_row(one_line(one["label"]), "0")
            continue
        figures = [f"{one['accuracy']:.1%}", f"{one['low']:.0%} to {one['high']:.0%}", f"{one['tokens']:,.0f}"]
        money = [dollars(one["usd"])] if paid else []
        table.add_row(one_line(one["label"]), f"{one['done']:,}", *figures, f"{one['seconds']:.1f}", f"{one['seconds_95']:.1f}", *money)
    return table
