"""What ties a cell's problems together: one budget for all of them, and what the outcomes of earlier ones say of those to come.

What a problem was given by that is in its ledger, as any run's plan and budget are, so it can be replayed and gone on with by itself. What
all of them have spent, and how they ended, is a fold over the file: a bench that was killed goes on with what is left and what was learned.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from filelock import FileLock, Timeout

from pondera.allocate.learning import Learner
from pondera.allocate.portfolio import SHARES, Pace
from pondera.allocate.table import load
from pondera.bench.file import Bench, Result
from pondera.bench.grading import SURE
from pondera.bench.spec import Cell
from pondera.errors import BadInput
from pondera.ledger import Ledger, Row, bills
from pondera.plan import Plan, replayed

LEAST = 64  # tokens for each problem, below which nothing can be had
LIKELY = tuple((worth, 9 * worth**0.5) for worth in (1e2, 1e3, 1e4, 1e5, 1e6))  # worth and tokens, of a model that nobody has measured


@dataclass(eq=False, slots=True)
class Turns:
    """`pace` and `learner` are none where each problem is on its own."""

    cell: Cell
    pace: Pace | None = None
    learner: Learner | None = None
    ended: asyncio.Condition = field(default_factory=asyncio.Condition)

    @classmethod
    @contextlib.contextmanager
    def of(cls, bench: Bench, cell: Cell, problems: int) -> Iterator[Turns]:
        """For so many problems that are not done. Raises BadInput where another process is at them, or the total is too small."""
        turns = cls(cell, learner=Learner() if cell.learn else None)
        for result in bench.results(cell, pools=False) if cell.learn else ():
            turns.hear(bench.rows(cell.print, result.problem), result)
        with _alone(bench, cell) if cell.total and problems else contextlib.nullcontext():
            if cell.total and problems:
                turns.pace = _pace(bench, cell, problems)
            yield turns

    @contextlib.asynccontextmanager
    async def turn(self, record: Ledger) -> AsyncIterator[Cell | None]:
        """The cell as one problem is to run it, as soon as it may begin; None where nothing is left for it."""
        known = replayed(record)[1] if record.rows else Plan()  # what has begun goes on as it began
        plan = self.cell.plan
        if self.learner:
            plan = replace(plan, shift=known.shift if record.rows else round(self.learner.shift, 3))
        if self.pace is None:
            yield replace(self.cell, plan=plan)
            return
        async with self.ended:
            while (begun := self.pace.begin()) is None:
                await self.ended.wait()
        (cap, worth), had = begun, tokens(record.rows)
        most = min(had + cap, self.cell.budget.tokens)
        try:
            plan = replace(plan, worth=known.worth or float(f"{worth:.4g}"))
            yield replace(self.cell, plan=plan, budget=replace(self.cell.budget, tokens=most)) if cap else None
        finally:
            self.pace.end(cap, worth, tokens(record.rows) - had)
            async with self.ended:
                self.ended.notify_all()

    def hear(self, rows: Sequence[Row], result: Result) -> None:
        """A problem has ended."""
        chance = result.figures.get("confidence")
        if self.learner and rows and result.state == "done" and chance is not None:
            self.learner.hear(chance, result.figures["right"] >= SURE, replayed(Ledger(list(rows)))[1].shift)


@contextlib.contextmanager
def _alone(bench: Bench, cell: Cell) -> Iterator[None]:
    """While nobody else is at a cell. Raises BadInput where somebody is."""
    place = bench.path.with_name(f"{bench.path.name}.{cell.print}.lock")
    lock = FileLock(place)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BadInput(f"Another process is at {cell.label}: one budget for all problems is kept by one process; wait for it.")
    try:
        yield
    finally:
        lock.release()
        place.unlink(missing_ok=True)


def _pace(bench: Bench, cell: Cell, problems: int) -> Pace:
    """A strategy that takes no worth has an equal split. Raises BadInput where the total is too small."""
    spent = bench.spent(cell)
    if cell.total - spent < LEAST * problems:
        least = spent + LEAST * problems
        raise BadInput(f"{cell.total:,} tokens for all leave less than {LEAST} for each problem to do: give {least:,} at least.")
    table = getattr(cell.plan.strategy_of(), "keywords", {}).get("table", "")
    return Pace(cell.total - spent, problems, _curve(table), shares=SHARES if cell.plan.takes("worth") else 1.0)


def tokens(rows: Sequence[Row]) -> int:
    """What a run has generated so far."""
    return sum(one.tokens for one in bills(rows).values())


def _curve(table: str) -> Sequence[tuple[float, float]]:
    """Worths, and the tokens that a question comes to at each; both rise."""
    return (load(table).rising if table not in ("", "none") else []) or LIKELY
