"""What ties a cell's problems together: one budget for all of them, and what the outcomes of earlier ones say of those to come.

What a problem was given by that is in its ledger, as any run's plan and budget are, so it can be replayed and gone on with by itself. What
all of them have spent, and how they ended, is a fold over the file: a bench that was killed goes on with what is left of the budget, and
with what outcomes said.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from filelock import FileLock, Timeout

from pondera.allocate.learning import Learner
from pondera.allocate.portfolio import LEAST, SHARES, Pace
from pondera.allocate.table import load
from pondera.bench.file import Bench, Result
from pondera.bench.grading import SURE
from pondera.bench.spec import Cell
from pondera.errors import BadInput
from pondera.ledger import Ledger, Row, bills, last
from pondera.plan import Plan, replayed
from pondera.strategies.guide import UNLEARNED

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
    def of(cls, bench: Bench, cell: Cell, n: int) -> Iterator[Turns]:
        """For the first `n` of its task's problems. Raises BadInput where another process is at them."""
        turns = cls(cell, learner=Learner() if cell.learn else None)
        for result in bench.results(cell, pools=False) if cell.learn else ():
            turns.hear(result)
        with _alone(bench, cell) if cell.total else contextlib.nullcontext():
            if cell.total and (problems := len(bench.left(cell, n))):
                table = getattr(cell.plan.strategy_of(), "keywords", {}).get("table", "")
                shares = SHARES if cell.plan.takes("worth") else 1.0
                turns.pace = Pace(cell.total - bench.spent(cell), problems, _curve(table), shares=shares)
            yield turns

    @contextlib.asynccontextmanager
    async def turn(self, record: Ledger) -> AsyncIterator[Cell | None]:
        """The cell as one problem is to run it, as soon as it may begin; None where nothing is left for it."""
        known = replayed(record)[1] if record.rows else Plan()  # what has begun goes on as it began
        plan = self.cell.plan
        if self.learner:
            shift, steep = (known.shift, known.steep) if record.rows else (round(one, 3) for one in self.learner.learned)
            plan = replace(plan, shift=shift, steep=steep)
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
            if cap and record.rows:
                record.append("resume", "0", {"budget": {"tokens": most}})
            yield replace(self.cell, plan=plan, budget=replace(self.cell.budget, tokens=most)) if cap else None
        finally:
            self.pace.end(cap, worth, tokens(record.rows) - had)
            async with self.ended:
                self.ended.notify_all()

    def hear(self, result: Result) -> None:
        """A problem has ended."""
        told = result.figures.get("believed")
        if self.learner and result.state == "done" and told is not None:
            chance, others = told
            self.learner.hear(chance, others, result.figures["right"] >= SURE)


def believed(rows: Sequence[Row], draft: bool) -> tuple[float, float] | None:
    """The chances that a run's answer, and all its others, had without what was learned; None of an answer that a larger model gave."""
    answer = last(rows, "answer")
    offers = [row.body for row in rows if row.kind == "offer" and "others" in row.body]
    if not answer or not offers:
        return None
    told = next((body for body in reversed(offers) if body["why"] == UNLEARNED), offers[-1])
    larger = draft and any(row.kind == "sample" and row.key == answer["node"] and row.body["by"] == "think" for row in rows)
    return None if larger or told["node"] != answer["node"] else (told["confidence"], told["others"])


def checked(bench: Bench, cells: Iterable[Cell], left: Mapping[str, int]) -> None:
    """Raises BadInput where a total is too small for the problems of a cell that has not begun."""
    for cell in cells:
        least = LEAST * left[cell.print]
        if cell.total and cell.total < least and not bench.spent(cell):
            raise BadInput(
                f"{cell.total:,} tokens for all leave less than {LEAST} for each problem of {cell.task}: give {least:,} at least."
            )


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


def tokens(rows: Sequence[Row]) -> int:
    """What a run has generated so far."""
    return sum(one.tokens for one in bills(rows).values())


def _curve(table: str) -> Sequence[tuple[float, float]]:
    """Worths, and the tokens that a question comes to at each; both rise."""
    return (load(table).rising if table not in ("", "none") else []) or LIKELY
