"""Many runs side by side at a terminal: models opened once, a bar with the time that is left, and a Ctrl-C that ends them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pondera.plan import Plan
from pondera.ports import Model
from pondera.terminal.session import interrupts, open_models
from pondera.terminal.text import console

T = TypeVar("T")
Work = Callable[[T, Mapping[str, Model]], Awaitable[None]]


async def side_by_side(
    plan: Plan | None, items: Sequence[T], work: Work[T], *, verb: str, at_once: int, quiet: bool, before: int = 0
) -> bool:
    """Do `work` on each item with the models of `plan` (none where that is None), `at_once` of them together; `before` were done earlier.

    Says whether all of it was done: Ctrl-C ends it before. Raises the first error of any.
    """
    me, out = asyncio.current_task(), console(stderr=True)
    assert me is not None
    models: Mapping[str, Model] = {}
    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    queue = iter(items)
    try:
        with interrupts(me.cancel):
            try:
                models = await open_models(plan, out, quiet) if plan else {}
                with Progress(*columns, console=out, transient=True, refresh_per_second=4, disable=quiet or not out.is_terminal) as bars:
                    bar = bars.add_task(verb, total=before + len(items), completed=before)

                    async def worker() -> None:
                        for item in queue:
                            await work(item, models)
                            bars.advance(bar)

                    async with asyncio.TaskGroup() as group:
                        for _ in range(at_once):
                            group.create_task(worker())
            finally:
                for model in {id(m): m for m in models.values()}.values():
                    await model.close()
    except asyncio.CancelledError:
        me.uncancel()
        return False
    except BaseExceptionGroup as errors:  # one sentence is enough: the first
        raise errors.exceptions[0]
    return True
