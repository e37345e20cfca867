"""The runtime: drives a strategy's coroutine and does all the rest once, for every strategy.

One loop owns a run. It sends answers into coroutines, takes the op that each asks next, and starts the work of those that need the
world. Work ends in an inbox; the loop takes one message at a time, writes it to the ledger, and goes on. So the order in which answers
were delivered is all that there is of time: replaying the ledger in that order gives the same run, shared state and all.

A run winds down when its deadline nears or it is cancelled: calls in flight are cut, each op is answered with what survived (or Stop),
ops that need a model are refused, and the strategy may still count its votes. At the deadline itself whatever is unanswered is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pondera.drive import Drive
from pondera.errors import BadInput, PonderaError
from pondera.events import Event, Watch
from pondera.ledger import Ledger
from pondera.ops import Strategy, Verifier
from pondera.ports import Keyer, Model, Tool
from pondera.thought import Answer, Budget, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How to think: the models by role, what answers are compared and judged by, and what may be spent on one question.

    `models` needs "think"; a missing "draft" or "judge" falls back to it; with none at all a ledger can be replayed. `parallel` caps
    the samples in flight. `origin` is recorded with the run, so that a command line can find its models and strategy again.
    """

    models: Mapping[str, Model]
    keyer: Keyer
    verifiers: Mapping[str, Verifier] = field(default_factory=dict)
    tools: Mapping[str, Tool] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    parallel: int = 64
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.models and "think" not in self.models:
            raise BadInput("A run needs a model for the role 'think'.")
        if self.parallel < 1:
            raise BadInput(f"parallel={self.parallel} asks nothing: give 1 or more.")
        if math.isfinite(self.budget.usd) and any(m.price is None for m in self.models.values()):
            raise BadInput("A budget in dollars needs the model's price: give it (--price PROMPT,GENERATED in dollars a million tokens).")

    async def solve(
        self,
        question: Question,
        strategy: Strategy,
        *,
        ledger: Ledger | None = None,
        watch: Watch | None = None,
        stop: asyncio.Event | None = None,
    ) -> Answer:
        """Think about the question and answer it; with rows in `ledger`, replay them and go on where they end.

        `stop`, when set, winds the run down: the answer is the best that can be had of what is there. Raises NoAnswer when the run was
        stopped before there was one, BranchesFailed or another PonderaError when nothing survived, LedgerError when it cannot record.
        """
        return await Drive(self, question, ledger or Ledger(), watch or (lambda event: None)).run(strategy, stop)

    async def stream(self, question: Question, strategy: Strategy, *, ledger: Ledger | None = None) -> AsyncIterator[Event | Answer]:
        """As solve, yielding what happens as it happens and the answer last. Closing the iterator cancels the run."""
        heard: asyncio.Queue[Event | None] = asyncio.Queue()
        task = asyncio.ensure_future(self.solve(question, strategy, ledger=ledger, watch=heard.put_nowait))
        task.add_done_callback(lambda _: heard.put_nowait(None))
        try:
            while (event := await heard.get()) is not None:
                yield event
            yield await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, PonderaError):
                await task
