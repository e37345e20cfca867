"""Running a bench: every problem of every cell that is not done yet, each a run with a ledger of its own in the bench's file.

A sample is in the file before its strategy hears of it, so a bench that was killed goes on where it was: a run that was begun is resumed
and pays for what is missing, one that is whole is graded and not run again. What came of a run is a fold over its ledger.

Strategies that only choose among samples share them: where one has been run on a problem, another that draws alike finds its samples in its
ledger, and only what judges them is paid.

A run that fails is left out of all figures, never counted as wrong, and is tried again the next time. Where one after another fails the
model has died, and the bench ends with what it said.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pondera.bench import tasks
from pondera.bench.bank import draws, is_bank
from pondera.bench.file import Bench, Result
from pondera.bench.grading import Problem
from pondera.bench.spec import Cell, Spec
from pondera.bench.tasks import Task
from pondera.bench.turns import Turns, believed, checked
from pondera.errors import BadInput, LedgerDrift, LedgerError, ModelUnavailable, NoAnswer, PonderaError, WeightsError, named
from pondera.ledger import Ledger, Row, bills, last, tree
from pondera.plain import digest
from pondera.plan import Plan
from pondera.ports import Model
from pondera.strategies.think import PROGRAM
from pondera.strategies.vote import trust
from pondera.thought import Question, Spend, Thought
from pondera.verifiers.signals import ALONE, signals

FAILURES = 8  # one after another, after which the model is taken for dead
PAUSE = 0.25  # seconds between looks at what other processes have claimed


class Thinker(Protocol):
    """Where runs are made: on this machine, or elsewhere."""

    async def think(self, cell: Cell, problem: Question, seed: int, record: Ledger) -> None:
        """Run the cell's strategy until the record is complete. Raises PonderaError."""
        ...

    async def close(self) -> None: ...


Opener = Callable[[Plan], Awaitable[Mapping[str, Model]]]
Watch = Callable[["Cell | Result"], None]


@dataclass(eq=False, slots=True)
class Here:
    """Runs in this process, on models that are opened when first wanted; those of the last plan stay open until another wants others."""

    open: Opener
    parallel: int = 64
    models: Mapping[str, Model] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def think(self, cell: Cell, problem: Question, seed: int, record: Ledger) -> None:
        async with self.lock:
            if self.named != cell.plan.roles():
                await self.close()
                self.models = await self.open(cell.plan)
                self.named = cell.plan.roles()
        run = cell.plan.run(self.models, cell.budget, seed, self.parallel)
        await run.solve(problem, cell.plan.strategy_of(), ledger=record)

    async def close(self) -> None:
        models, self.models, self.named = self.models, {}, {}
        for model in {id(m): m for m in models.values()}.values():
            await model.close()


@dataclass(frozen=True, slots=True)
class Enlisted:
    """A bench's cells, with how many problems each task has, how many of a cell's are not done, and how many have changed."""

    cells: Sequence[Cell]
    problems: Mapping[str, int]
    left: Mapping[str, int]
    tasks: Mapping[str, Task]
    changed: Mapping[str, int]
    reach: Mapping[str, int]  # lines of each task that are read: a problem may stand on several


def enlist(bench: Bench, spec: Spec) -> Enlisted:
    """Read the tasks and note in the file what is to be done. Raises BadInput."""
    found: dict[str, Task] = {}
    counts: dict[str, int] = {}
    changed: dict[str, int] = {}
    reach: dict[str, int] = {}
    for text in spec.tasks:
        one = tasks.task(text)
        if one.name in found:
            raise BadInput(f"Two tasks are named {one.name!r}: give one of them another name, as in file(path=..., name='other').")
        found[one.name] = one
        read = bench.enter(one.name, one.text, tasks.first(spec.n, one.problems), not spec.n)
        reach[one.name], counts[one.name], changed[one.name] = read
    cells = list(spec.cells(tuple(found)))
    bench.enlist(cells)
    left = {cell.print: len(bench.left(cell, reach[cell.task])) for cell in cells}
    return Enlisted(cells, counts, left, found, changed, reach)


async def run(bench: Bench, spec: Spec, listed: Enlisted, thinker: Thinker, watch: Watch) -> None:
    """Do what is left. Raises what ended it: ModelUnavailable and the like, LedgerError, BadInput from a scorer."""
    checked(bench, listed.cells, listed.left)
    for cell in listed.cells:
        watch(cell)
        with Turns.of(bench, cell, listed.reach[cell.task]) as turns:
            await _Cell(bench, cell, listed.tasks[cell.task], thinker, watch, turns).run(listed.reach[cell.task], spec.at_once)


@dataclass(eq=False, slots=True)
class _Cell:
    bench: Bench
    cell: Cell
    task: Task
    thinker: Thinker
    watch: Watch
    turns: Turns
    tried: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)  # failed the last time: that they do again tells nothing new
    alike: list[str] = field(default_factory=list)  # cells that draw the same samples
    failed: int = 0  # one after another
    at_once: int = 1

    async def run(self, n: int, at_once: int) -> None:
        self.known = self.bench.failed(self.cell)
        if mine := _drawer(self.cell):
            self.alike = [one.print for one in self.bench.cells() if one.print != self.cell.print and _drawer(one) == mine]
        while left := [name for name in self.bench.left(self.cell, n) if name not in self.tried]:
            self.at_once = min(at_once, len(left))
            before = len(self.tried)
            queue = iter(left)

            async def worker(queue: Any = queue) -> None:
                for name in queue:
                    if name not in self.tried and self.bench.claim(self.cell.print, name):
                        await self._one(name)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.at_once):
                        group.create_task(worker())
            except BaseExceptionGroup as errors:  # one sentence is enough: the first
                raise errors.exceptions[0]
            if len(self.tried) == before:  # others are at what is left
                await asyncio.sleep(PAUSE)

    async def _one(self, name: str) -> None:
        problem = self.bench.problem(self.cell.task, name)
        try:
            try:
                result = await self._result(name, problem)
            except LedgerDrift:  # begun by another version, which asked otherwise: its samples are none of this way's
                self.bench.shelve(self.cell.print, name)
                result = await self._result(name, problem)
        except BaseException:
            self.bench.release(self.cell.print, name)
            raise
        self.tried.add(name)
        self.bench.save(self.cell.print, result)
        self.watch(result)
        if result.state == "done" or name not in self.known:
            self.failed = self.failed + 1 if result.state == "failed" else 0
        if self.failed >= FAILURES:
            raise ModelUnavailable(f"{self.failed} problems failed one after another, so the bench has ended: {result.figures['error']}")

    async def _result(self, name: str, problem: Problem) -> Result:
        record = self.bench.record(self.cell.print, name, lambda: self._shared(name))
        try:
            if not _complete(record.rows):
                async with self.turns.turn(record) as own:
                    if own is None:
                        return Result(name, "done", _figures(record.rows) | {"key": None, "stopped": "budget", "right": 0.0}, [])
                    await self.thinker.think(own, problem.question, int(digest((self.cell.seed, name)), 16) >> 1, record)
        except NoAnswer:  # the budget was too small for one: an outcome
            pass
        except (BadInput, LedgerError, ModelUnavailable, WeightsError):
            raise
        except PonderaError as error:
            return Result(name, "failed", _figures(record.rows) | {"error": f"{type(error).__name__}: {error}"})
        finally:
            record.close()
        pool, answer = pool_of(record.rows, is_bank(self.cell)), last(record.rows, "answer")
        reply = answer["text"] if answer and not tree(record.rows)[answer["node"]].cut else ""
        texts = [reply, *(one.pop("text") for one in pool)]
        distinct = [text for text in dict.fromkeys(texts) if text]
        scores = dict(zip(distinct, await self.task.check(problem, distinct), strict=True)) | {"": 0.0}
        for one, text in zip(pool, texts[1:], strict=True):
            one["score"] = scores[text]
        stopped = (last(record.rows, "stop") or {"why": "budget"})["why"]
        told = {k: answer[k] for k in ("key", "confidence", "stopped")} if answer else {"key": None, "stopped": stopped}
        told |= {"believed": believed(record.rows, bool(self.cell.plan.draft))} if self.cell.learn else {}
        result = Result(name, "done", _figures(record.rows) | told | {"right": scores[reply], "at_once": self.at_once}, pool)
        self.turns.hear(result)
        return result

    def _shared(self, name: str) -> list[Row]:
        """The samples that another way to choose has drawn alike for this problem, as the beginning of a ledger."""
        for other in self.alike:
            if self.bench.state(other, name) == "done":
                if not (rows := self.bench.rows(other, name)):
                    continue  # a bench without texts
                begun = Row("run", "0", {**rows[0].body, "origin": self.cell.plan.origin()})
                drawn = [row for row in rows if row.kind == "sample" and (row.body["by"], row.body["status"]) == ("think", "answered")]
                return [begun, *(Row("sample", row.key, {**row.body, "at": 0.0, "from": other}) for row in drawn)]
        return []


def _drawer(cell: Cell) -> str | None:
    """How a strategy that only chooses draws its samples, to the letter: 1 and 1.0 are asked differently.

    None for one that does more, and where time is short: what was drawn in time is no measure of what would be.
    """
    drawn = draws(cell)
    if drawn is None or not math.isinf(cell.budget.seconds):  # nor where all problems share a budget, which draws() says
        return None
    return repr((cell.task, cell.plan.model, list(cell.budget.caps()), cell.seed, drawn))


# ---------------------------------------------------------------- folds


def _complete(rows: Sequence[Row]) -> bool:
    """Whether a run came to its end: an answer that nothing cut off, or none within its budget."""
    kinds = [row.kind for row in rows]
    at = max((i for i, kind in enumerate(kinds) if kind in ("answer", "failed")), default=-1)
    if at < 0:
        return False
    body = rows[at].body
    return body["stopped"] != "cancelled" if kinds[at] == "answer" else isinstance(named(*body["error"]), NoAnswer)


def _figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The bill, by role too, and the seconds that the run took."""
    roles = bills(rows)
    spend, answer = sum(roles.values(), Spend()), last(rows, "answer")
    seconds = answer["spend"]["seconds"] if answer else max((row.body.get("at", 0.0) for row in rows), default=0.0)
    by_role = {role: {name: getattr(one, name) for name in ("tokens", "prompt", "cached", "usd")} for role, one in roles.items()}
    told = {name: getattr(spend, name) for name in ("tokens", "judging", "prompt", "cached", "calls", "usd")}
    shares = [Spend(**row.body["spend"]) for row in rows if row.kind == "sample" and "from" in row.body]
    shared = sum(shares, Spend())
    seconds += max((one.seconds for one in shares), default=0.0)  # as long as they took, side by side, when they were drawn
    return told | {"shared": shared.tokens, "shared_usd": shared.usd, "seconds": seconds, "by_role": by_role}


def pool_of(rows: Sequence[Row], every: bool) -> list[dict[str, Any]]:
    """What the answer was chosen from: each candidate with its key, scores and trust, and what its path cost.

    With `every` it is a bank: samples that came to no candidate, a program that failed, say, are in it too, without an answer, and the
    candidates have the signals that they have alone, so that what judges them beside each other can judge some of them.
    """
    answer = last(rows, "answer")
    nodes = tree(rows)
    samples = {row.key: row.body for row in rows if row.kind == "sample" and row.body["by"] == "think" and row.body["status"] == "answered"}
    said = [one for one in answer["candidates"] if one["id"] in nodes] if answer else []
    seen = {step.id for one in said for step in nodes[one["id"]].path}
    if every:
        told = signals([nodes[one["id"]] for one in said], [one["key"] for one in said])
        said = [{**one, "signals": _signals(row)} for one, row in zip(said, told, strict=True)]
        bare: dict[str, Any] = {"key": None, "text": "", "scores": {}}
        said = said + [{"id": key, **bare} for key in samples if key in nodes and key not in seen]
    spent = {key: body["spend"] for key, body in samples.items()}
    return [_candidate(nodes[one["id"]], one, spent) for one in said]


def _signals(row: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else float(f"{value:.6g}") for value in row[ALONE]]


def _candidate(node: Thought, said: Mapping[str, Any], spent: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    path = [spent[step.id] for step in node.path if step.id in spent]
    return {
        "id": node.id,
        "key": said["key"],
        "text": "" if node.cut else said["text"],
        "scores": said["scores"],
        **({"signals": said["signals"]} if "signals" in said else {}),
        "program": any(step.said == PROGRAM for step in node.path),
        "trust": trust(node),
        "tokens": sum(one.get("answer", 0) + one.get("thinking", 0) for one in path),
        "prompt": sum(one.get("prompt", 0) for one in path),
        "cached": sum(one.get("cached", 0) for one in path),
        "seconds": sum(one.get("seconds", 0.0) for one in path),
        "usd": sum(one.get("usd", 0.0) for one in path),
    }
