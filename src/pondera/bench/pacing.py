"""One budget for all problems of a cell: when each may begin, the most it may take, and what a right answer is worth to it.

What a problem was given is in its ledger, as any run's plan and budget are, so it can be replayed and gone on with by itself. What all of
them have spent is a fold over the file: a bench that was killed goes on with what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from filelock import FileLock, Timeout

from pondera.allocate.portfolio import SHARES, Pace
from pondera.allocate.table import load
from pondera.bench.file import Bench
from pondera.bench.spec import Cell
from pondera.errors import BadInput
from pondera.ledger import Ledger, Row, bills
from pondera.plan import replayed

LEAST = 64  # tokens for each problem, below which nothing can be had
LIKELY = tuple((worth, 9 * worth**0.5) for worth in (1e2, 1e3, 1e4, 1e5, 1e6))  # worth and tokens, of a model that nobody has measured


@dataclass(eq=False, slots=True)
class Pacing:
    """`pace` is none where each problem is on its own."""

    cell: Cell
    pace: Pace | None = None
    ended: asyncio.Condition = field(default_factory=asyncio.Condition)

    @classmethod
    @contextlib.contextmanager
    def of(cls, bench: Bench, cell: Cell, problems: int) -> Iterator[Pacing]:
        """For so many problems that are not done. Raises BadInput where another process is at them, or the total is too small."""
        if not cell.total or not problems:
            yield cls(cell)
            return
        place = bench.path.with_name(f"{bench.path.name}.{cell.print}.lock")
        lock = FileLock(place)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise BadInput(f"Another process is at {cell.label}: one budget for all problems is kept by one process; wait for it.")
        try:
            spent = bench.spent(cell)
            if cell.total - spent < LEAST * problems:
                least = spent + LEAST * problems
                raise BadInput(f"{cell.total:,} tokens for all leave less than {LEAST} for each problem to do: give {least:,} at least.")
            given = getattr(cell.plan.strategy_of(), "keywords", {})
            steered = "worth" in given or "table" in given
            yield cls(cell, Pace(cell.total - spent, problems, _curve(given.get("table", "")), shares=SHARES if steered else 1.0))
        finally:
            lock.release()
            place.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def turn(self, record: Ledger) -> AsyncIterator[Cell | None]:
        """The cell as one problem is to run it, as soon as it may begin; None where nothing is left for it."""
        if self.pace is None:
            yield self.cell
            return
        async with self.ended:
            while (begun := self.pace.begin()) is None:
                await self.ended.wait()
        (cap, worth), had = begun, tokens(record.rows)
        most = min(had + cap, self.cell.budget.tokens)
        try:
            plan = replace(self.cell.plan, worth=_worth(record) or float(f"{worth:.4g}"))
            yield replace(self.cell, plan=plan, budget=replace(self.cell.budget, tokens=most)) if cap else None
        finally:
            self.pace.end(cap, worth, tokens(record.rows) - had)
            async with self.ended:
                self.ended.notify_all()


def tokens(rows: Sequence[Row]) -> int:
    """What a run has generated so far."""
    return sum(one.tokens for one in bills(rows).values())


def _worth(record: Ledger) -> float:
    """What a run that has begun went by; 0 where it has not."""
    return replayed(record)[1].worth if record.rows else 0.0


def _curve(table: str) -> Sequence[tuple[float, float]]:
    """Worths, and the tokens that a question comes to at each; both rise."""
    told: list[tuple[float, float]] = []
    for point in load(table).curve if table not in ("", "none") else ():
        if not told or point.tokens > told[-1][1]:
            told.append((point.worth, point.tokens))
    return told or LIKELY
