"""One run at a terminal: models are opened with a progress bar, the run is watched, and Ctrl-C asks for the best answer so far.

The first Ctrl-C winds the run down; the second cancels it. While a model is still being opened there is nothing to wind down, so the
first one leaves at once. Models open in a thread that the interpreter does not wait for: a download cannot be called off otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from pondera.errors import PonderaError
from pondera.ledger import Ledger, Row, bills, thought_of
from pondera.models.fetch import Progress
from pondera.plan import Plan
from pondera.ports import Keyer, Model
from pondera.terminal.live import Screen, show
from pondera.thought import Answer, Budget, Question, Spend, Thought, root_of

ABANDONED: list[threading.Thread] = []  # threads that went on opening a model when nobody waited for it any more
READS = 2.0  # times a second that answers of branches which are done are read, so that votes show before they are counted
SAID = {"waiting": "waiting for another process", "fetching": "fetching", "converting": "converting (once)"}

T = TypeVar("T")


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """What is to be run, and what has come of it: `ledger` has the record, `stopped` says that the user wound it down."""

    plan: Plan
    question: Question
    budget: Budget
    seed: int = 0
    parallel: int = 64
    quiet: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    stopped: bool = False

    @property
    def seconds(self) -> float:
        """How long the run has taken up to its last row."""
        return float(max((row.body.get("at", 0.0) for row in self.ledger.rows), default=0.0))

    @property
    def spent(self) -> Spend:
        return replace(sum(bills(self.ledger.rows).values(), Spend()), seconds=self.seconds)


def think(job: Job, console: Console) -> Answer:
    """Run the job, watched on `console`. Raises what Run.solve raises, and asyncio.CancelledError when the user left at once."""
    return asyncio.run(_think(job, console))


async def _think(job: Job, console: Console) -> Answer:
    strategy = job.plan.strategy_of()
    job.plan.run({}, job.budget, job.seed, job.parallel)  # what is wrong with it is said before a model is opened
    me, stop = asyncio.current_task(), asyncio.Event()
    assert me is not None

    def leave() -> None:
        if not me.cancelling():  # once is enough; a second time would cut the cleaning up short
            me.cancel()

    with interrupts(leave) as on_interrupt:
        models = await open_models(job.plan, console, job.quiet)
        try:
            run = job.plan.run(models, job.budget, job.seed, job.parallel)
            title = f"{job.plan.model} · {job.plan.strategy}"
            screen = Screen(title, job.question.text, job.budget, spent=job.spent, before=job.seconds)

            def wind_down() -> None:
                if stop.is_set():
                    return leave()
                job.stopped = screen.stopping = True
                return stop.set()

            on_interrupt(wind_down)
            async with _watched(screen, job, run.keyer, console):
                return await run.solve(job.question, strategy, ledger=job.ledger, watch=screen.hear, stop=stop)
        finally:
            for model in {id(m): m for m in models.values()}.values():
                await model.close()


@contextlib.contextmanager
def interrupts(first: Callable[[], object]) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Ctrl-C calls `first`, until the function that is given out is called with another one."""
    loop, act = asyncio.get_running_loop(), [first]
    restore: Callable[[], object] = bool
    try:
        loop.add_signal_handler(signal.SIGINT, lambda: act[0]())
        restore = partial(loop.remove_signal_handler, signal.SIGINT)
    except (NotImplementedError, RuntimeError, ValueError):  # no such thing on this system, or not the main thread
        with contextlib.suppress(ValueError):
            old = signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(act[0]))
            restore = partial(signal.signal, signal.SIGINT, old)
    try:
        yield lambda then: act.__setitem__(0, then)
    finally:
        restore()


@contextlib.asynccontextmanager
async def _watched(screen: Screen, job: Job, keyer: Keyer, console: Console) -> AsyncIterator[None]:
    """The live view beside a run, on a terminal only."""
    live = console.is_terminal and not job.quiet
    views = [show(screen, console), read_votes(screen, job.question, job.ledger, keyer)] if live else []
    tasks = [asyncio.ensure_future(view) for view in views]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# ---------------------------------------------------------------- opening models


async def open_models(plan: Plan, console: Console, quiet: bool = False) -> dict[str, Model]:
    """The model of each role, what takes long shown on `console`. Raises what open_model raises."""
    models: dict[str, Model] = {}
    with progress_bar(console, quiet) as progress:
        for role, spec in plan.roles().items():
            if role != "reward" and spec == plan.model and models:
                models[role] = models["think"]
            else:
                models[role] = await _in_thread(partial(plan.open, role, progress))
    return models


async def _in_thread(work: Callable[[], T]) -> T:
    """The result of a blocking function, run in a thread that dies with the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as fault:
            error = fault
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            loop.call_soon_threadsafe(settle, value, error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return await done
    except asyncio.CancelledError:
        ABANDONED.append(thread)
        raise


def leave_now(code: int) -> None:
    """End the process at once where a model is still being opened: its native code must not outlive the interpreter's end."""
    if any(thread.is_alive() for thread in ABANDONED):
        os._exit(code)


@contextlib.contextmanager
def progress_bar(console: Console, quiet: bool = False) -> Iterator[Progress]:
    """What `weights` reports, as a bar with bytes, rate and time to go; off a terminal, a line for each stage that takes long."""
    if quiet:
        yield lambda stage, done, total: None
        return
    if not console.is_terminal:
        said: set[str] = set()

        def tell(stage: str, done: int, total: int) -> None:
            if stage in SAID and stage not in said:
                said.add(stage)
                console.print(Text(SAID[stage] + (f" {total / 1e6:,.0f} MB" if total else "")))

        yield tell
        return
    known = [_Known(column) for column in (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True))]
    columns = (SpinnerColumn(), TextColumn("{task.description:<10.10}"), BarColumn(max(4, min(40, console.width - 56))), *known)
    with Bars(*columns, _Known(TimeElapsedColumn(), False), console=console, transient=True, refresh_per_second=5) as bars:
        tasks = {"opening": bars.add_task("opening", total=None)}

        def draw(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for old in tasks.values():
                    bars.remove_task(old)
                tasks.clear()
                tasks[stage] = bars.add_task(stage, total=None)
            if total > 1:  # bytes; a stage that cannot count says 0 or 1
                bars.update(tasks[stage], completed=done, total=total if done else None)

        yield draw


class _Known(ProgressColumn):
    """Another column, only while how much is done of how much is known (or only while it is not)."""

    def __init__(self, column: ProgressColumn, wanted: bool = True) -> None:
        super().__init__()
        self.column, self.wanted = column, wanted

    def render(self, task: Task) -> RenderableType:
        return self.column(task) if bool(task.total) is self.wanted else Text()


# ---------------------------------------------------------------- votes before they are counted


async def read_votes(screen: Screen, question: Question, ledger: Ledger, keyer: Keyer) -> None:
    """Read the answers of branches that are done as they end, for display only. Ends when the keyer fails; else runs until cancelled."""
    nodes = {"0": root_of(question)}
    leaves: dict[str, Thought] = {}
    seen = 0
    while True:
        rows, seen = ledger.rows[seen:], len(ledger.rows)
        if _take(rows, nodes, leaves, screen.leaf_of):
            try:
                keys = await keyer(question, [leaf.reply for leaf in leaves.values()])
            except PonderaError:
                return
            screen.early = dict(zip(leaves, keys, strict=True))
        await asyncio.sleep(1 / READS)


def _take(rows: Iterable[Row], nodes: dict[str, Thought], leaves: dict[str, Thought], leaf_of: dict[str, str]) -> bool:
    """Add the thoughts of new rows, and keep the ends of paths. Says whether there is anything new to read."""
    fresh = False
    for row in rows:
        node = thought_of(row, nodes)
        if node is None or row.body.get("by") in ("judge", "reward"):
            continue
        nodes[node.id] = replace(node, ids=(), logprobs=())
        if node.parent:
            leaves.pop(node.parent.id, None)
            if node.tool:
                leaf_of[node.parent.id] = node.id
        if node.done and node.parent and not node.forced:  # a forced beginning: a program to be run, or an answer to be gone on with
            leaves[node.id] = node
            fresh = True
    return fresh
