"""A bench at a terminal: a bar over all its runs, and a Ctrl-C that ends it in order."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from pondera.bench.file import Bench, Result
from pondera.bench.run import Enlisted, Here, Thinker, run
from pondera.bench.spec import Cell, Spec
from pondera.terminal.session import interrupts, open_models
from pondera.terminal.text import console, count, dollars, one_line, seconds


async def carry_out(bench: Bench, spec: Spec, listed: Enlisted, quiet: bool, on: str = "") -> bool:
    """Do what is left. Says whether all of it was done: Ctrl-C ends it before."""
    out, me = console(stderr=True), asyncio.current_task()
    assert me is not None
    for name, changed in listed.changed.items():
        if changed:
            out.print(f"{name}: {count(changed, 'problem')} changed since; what came of the old ones is kept, and not counted.")
    thinker = _on_ray(spec) if on == "ray" else Here(lambda plan: open_models(plan, out, quiet), spec.parallel)
    try:
        with interrupts(me.cancel), Meter(out, listed, quiet) as meter:
            try:
                await run(bench, spec, listed, thinker, meter.hear)
            finally:
                await thinker.close()
    except asyncio.CancelledError:
        me.uncancel()
        out.print("Stopped. What is done is kept: the same command goes on from here.")
        return False
    return True


def _on_ray(spec: Spec) -> Thinker:
    from pondera.bench.onray import OnRay

    thinker = OnRay(parallel=spec.parallel)
    thinker.open()
    return thinker


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
    paced: int = 0  # tokens of this cell
    usd: float = 0.0

    def __enter__(self) -> Meter:
        name = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
        rest = TextColumn("{task.fields[rest]}", table_column=Column(no_wrap=True))
        columns = (name, BarColumn(16), MofNCompleteColumn(table_column=Column(no_wrap=True)), rest)
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
        assert self.bars is not None
        if isinstance(event, Cell):
            self.cell, self.since, self.done, self.paced = event, time.monotonic(), 0, 0
            left = self.listed.left[event.print]
            if left and not self.quiet and not self.out.is_terminal:
                self.out.print(f"{event.task}, {event.plan.model}: {event.label}: {count(left, 'problem')} to do")
            self.bars.update(self.bar, description=one_line(f"{event.label} · {event.plan.model} · {event.task}"))
            return
        assert self.cell is not None
        self.done += 1
        self.usd += event.figures["usd"] - event.figures["shared_usd"]
        took = time.monotonic() - self.since
        fresh = event.figures["tokens"] - event.figures["shared"]
        self.paced += fresh
        self.tokens += fresh
        money = f", {dollars(self.usd)}" if self.usd else ""
        rate = f"{self.paced / max(took, 1e-3):,.0f} tokens/s"
        self.bars.update(self.bar, advance=1, rest=f"{self.tokens:,} tokens{money}, {rate}, {self._rest(took)}")

    def _rest(self, took: float) -> str:
        """What is left of this way to think at its own rate; of ways that were not begun nothing is known."""
        assert self.cell is not None
        own = max(0, self.listed.left[self.cell.print] - self.done)
        after = self.listed.cells[[cell.print for cell in self.listed.cells].index(self.cell.print) + 1 :]
        unknown = sum(self.listed.left[cell.print] > 0 for cell in after)
        text = f"{seconds(own * took / self.done)} left"
        return f"{text}, then {count(unknown, 'more way')}" if unknown else text
