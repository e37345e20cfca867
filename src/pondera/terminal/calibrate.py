"""`pondera calibrate`: sample a model on questions whose answers are known, and learn from that how to decide for it.

Every sample is in a bench's file before it is counted: a calibration that was ended goes on where it was, and another one from the same
samples costs nothing.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pondera.errors import BadInput
from pondera.models.known import DEFAULT
from pondera.terminal.given import Quiet
from pondera.terminal.recorded import on_disk
from pondera.terminal.text import INTERRUPTED, console, count, emit
from pondera.thought import Budget

if TYPE_CHECKING:
    from rich.console import Console

    from pondera.allocate.table import Table
    from pondera.bench.file import Bench, Result
    from pondera.bench.spec import Cell

BARS = 30  # cells


def calibrate(
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="The table, to be named as auto(table='FILE.json').")],
    data: Annotated[list[str] | None, typer.Option(help="Questions and answers: a file, or a task of `pondera bench tasks`.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Who thinks: a name of `pondera models`, a path, or NAME@URL.")] = DEFAULT,
    larger: Annotated[str, typer.Option(metavar="MODEL", help="A larger model: learn when it is worth asking, for --draft.")] = "",
    times: Annotated[float, typer.Option(help="How many tokens of the model one of the larger one costs; 0: as it has parameters.")] = 0.0,
    bank: Annotated[Path, typer.Option(metavar="FILE.db", help="The samples; what is there is not drawn again.")] = Path("calibrate.db"),
    n: Annotated[int, typer.Option("-n", help="Only the first so many questions of each task; 0: all.")] = 200,
    samples: Annotated[int, typer.Option(help="Samples of each question, half of them programs; `auto` looks no further.")] = 16,
    orm: Annotated[bool, typer.Option("--orm", help="Ask the model's own outcome reward model of each sample too.")] = False,
    at_once: Annotated[int, typer.Option(help="Questions side by side.")] = 8,
    quiet: Quiet = False,
) -> None:
    """Learn how to decide for a model: when more thinking pays, of which sort, and what the efforts low to max are for it.

    Without --data all samples of the model in the file of --bank are learned from, and none are drawn.
    """
    import asyncio

    from pondera.bench.file import Bench
    from pondera.bench.run import enlist
    from pondera.bench.spec import Spec
    from pondera.terminal.meter import carry_out
    from pondera.verifiers.fit import sklearn

    sklearn("linear_model")
    if samples < 4 or n < 0 or at_once < 1:
        raise BadInput("--samples is 4 or more, -n is 0 or more, and --at-once is 1 or more: fewer teach nothing of one more sample.")
    if times and not larger:
        raise BadInput("--times says how dear a larger model is: name it, as in --larger MODEL.")
    ratio = _times(model, larger, times) if larger else 0.0
    if out.is_dir() or not out.parent.is_dir():
        raise BadInput(f"--out {out} cannot be written: give a file in a folder that is there.")
    with Bench(bank, new=bool(data)) as bench:
        cells = [cell for cell in bench.cells() if cell.plan.model == model]
        if data:
            strategy = f"best_of(n={samples}, over='both', by='orm')" if orm else f"vote(n={samples}, over='both')"
            spec = Spec(tasks=tuple(data), models=(model,), strategies=(strategy,), n=n, at_once=at_once)
            listed = enlist(bench, spec)
            if not asyncio.run(carry_out(bench, spec, listed, quiet)):
                raise typer.Exit(INTERRUPTED)
            cells = list(listed.cells)
            if larger:
                beside = Spec(tasks=tuple(data), models=(larger,), strategies=("cot",), n=n, at_once=at_once)
                if not asyncio.run(carry_out(bench, beside, enlist(bench, beside), quiet)):
                    raise typer.Exit(INTERRUPTED)
        made = _made(bench, cells, model, quiet, larger, ratio)
    with on_disk(out):
        made.save(out)
    if not quiet:
        show(console(), made)
    emit(str(out))


def _times(model: str, larger: str, times: float) -> float:
    """Raises BadInput where it cannot be told."""
    from pondera.allocate.table import name_of
    from pondera.models.known import KNOWN

    if not (times >= 0 and times < float("inf")):
        raise BadInput(f"--times {times:g} is no ratio: give a number above 0.")
    small, large = KNOWN.get(name_of(model)), KNOWN.get(name_of(larger))
    if times:
        return times
    if not small or not large:
        raise BadInput(f"How much dearer {larger} is than {model} is not known: say it, as in --times 10.")
    return round(large.parameters / small.parameters, 3)


def _made(bench: Bench, cells: list[Cell], model: str, quiet: bool, larger: str, times: float) -> Table:
    from pondera.allocate import table as tables
    from pondera.bench import calibrate as learn
    from pondera.bench.bank import draws

    banks = [cell for cell in cells if draws(cell) is not None]
    pools: dict[tuple[str, str], Result] = {}
    for cell in banks:
        for result in bench.results(cell):  # strategies that only choose share their samples: the largest pool of a problem has them all
            known = pools.get((cell.task, result.problem))
            if known is None or _told(known) < _told(result):
                pools[cell.task, result.problem] = result
    if not pools:
        have = ", ".join(sorted({cell.plan.model for cell in bench.cells()})) or "nothing"
        raise BadInput(f"{bench.path} has no samples of {model} to learn from (it has {have}): name questions with --data.")
    card = {
        "data": sorted({task for task, _ in pools}),
        "strategies": sorted({cell.plan.strategy for cell in banks}),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    beside = learn.Beside(tables.name_of(larger), _answers(bench, larger), times) if larger else None
    with _bars(console(stderr=True), quiet) as tell:
        return learn.calibrate(list(pools.values()), tables.name_of(model), card, tell, beside)


def _told(result: Result) -> tuple[int, int]:
    """Samples, and how many of them the outcome reward model has judged."""
    from pondera.verifiers.learned import ORM

    return len(result.pool), sum(ORM in one["scores"] for one in result.pool)


def _answers(bench: Bench, model: str) -> dict[str, Result]:
    """A model's one chain for each problem, where nothing cut it short."""
    cells = [cell for cell in bench.cells() if (cell.plan.model, cell.plan.strategy, cell.budget) == (model, "cot", Budget())]
    return {one.problem: one for cell in cells if not cell.total for one in bench.results(cell, pools=False) if one.state == "done"}


@contextlib.contextmanager
def _bars(out: Console, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    if quiet or not out.is_terminal:
        yield lambda stage, done, total: None
        return
    with Progress(TextColumn("{task.description:<10}"), BarColumn(BARS), TimeRemainingColumn(), console=out, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            task = tasks[stage] if stage in tasks else tasks.setdefault(stage, bars.add_task(stage, total=total))
            bars.update(task, completed=done)

        yield tell


def show(out: Console, table: Table) -> None:
    """The returns curve of questions that were held out, with the efforts on it."""
    from pondera.terminal.bench import columns

    named = {worth: [name for name, own in table.efforts.items() if own == worth] for worth in table.efforts.values()}
    shown = columns(
        ("effort",),
        ("worth", "right", "samples", "tokens"),
        f"{table.model}: what thinking comes to, as a right answer is worth more tokens",
    )
    for point in table.curve:
        efforts = ", ".join(named.get(point.worth, []))
        shown.add_row(efforts, f"{point.worth:,.0f}", f"{point.right:.1%}", f"{point.samples:.1f}", f"{point.tokens:,.0f}")
    out.print(shown)
    for name, one in table.larger.items():
        asked = ", ".join(f"{chance + one.gain(chance):.0%} where {chance:.0%}" for chance in (0.1, 0.5, 0.9))
        out.print(f"{name} is right in {asked} is expected of {table.model}, for {one.price:,.0f} of its tokens.")
    held = table.card.get("held out", {})
    if held:
        words = f"Of {count(table.card['questions'], 'question')}, held out in turn, at medium effort: {held['right']:.1%} right, "
        out.print(f"{words}{held['expected']:.1%} expected, calibration error {held['calibration error']:.3f}.", soft_wrap=True)
    if "verifier" in table.card:
        out.print(f"Verifier: {table.card['verifier']}.", style="yellow", soft_wrap=True)
