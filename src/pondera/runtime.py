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
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pondera.errors import BRANCH_ERRORS, BadInput, LedgerDrift, NoAnswer, PonderaError, Stop, VerifierError, named
from pondera.events import Event, Watch
from pondera.growth import Grower, Growth, Why, all_failed, seed_of
from pondera.ledger import Ledger, thought_from_json, thought_to_json
from pondera.ops import Both, Call, Expand, Key, Left, Offer, Op, Rng, Role, Score, Strategy, Verifier
from pondera.ports import Keyer, Model, Tool
from pondera.purse import Purse
from pondera.record import Record
from pondera.thought import Answer, Budget, Question, Thought, root_of
from pondera.thought import Left as Remains

GRACE = 1.0  # seconds before the deadline (at most a tenth of the time allowed) in which votes are counted and no model is asked
PATIENCE = 3  # times that Stop is thrown into a coroutine that goes on asking, before it is closed


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
        return await _Drive(self, question, ledger or Ledger(), watch or (lambda event: None)).run(strategy, stop)

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


Ended = Callable[[Any, BaseException | None], None]


@dataclass(eq=False, slots=True)
class _Frame:
    """A coroutine that is being driven. `by` is the role its calls are billed to, where it is not each op's own."""

    coro: Coroutine[Any, Any, Any]
    path: str
    by: str
    ended: Ended
    turn: int = 0
    stops: int = 0


@dataclass(frozen=True, slots=True)
class _Raise:
    """An answer that is thrown instead of sent."""

    error: BaseException


@dataclass(eq=False, slots=True)
class _Wait:
    """An op that is not answered yet, and the work under way for it."""

    key: str
    op: Op[Any]
    work: Growth | asyncio.Task[None] | None = None


class _Drive:
    """One run. Answers lie in `delivered`, in the order of the ledger; each is followed through (`ready`) before the next is looked at."""

    def __init__(self, run: Run, question: Question, ledger: Ledger, watch: Watch) -> None:
        self.cfg, self.root = run, root_of(question)
        self.record = Record(ledger, watch)
        self.purse = Purse(run.budget, self.record.spent)
        self.end = self.record.began + run.budget.seconds
        self.margin = min(GRACE, run.budget.seconds / 10)
        self.closing: Why | None = None
        self.expired = False
        self.inbox: asyncio.Queue[tuple[Callable[..., None], tuple[Any, ...]]] = asyncio.Queue()
        self.tasks: set[asyncio.Task[None]] = set()
        self.grower = Grower(run.models, run.seed, run.parallel, self.purse, self.record, self.tell, self.task)
        self.frames: set[_Frame] = set()
        self.ready: deque[tuple[_Frame, Any]] = deque()
        self.delivered: deque[tuple[_Frame, Any]] = deque()
        self.waits: dict[_Frame, _Wait] = {}
        self.parked: dict[str, _Frame] = {}
        self.later: list[Callable[[], None]] = []
        self.result: list[Any] = []

    # ------------------------------------------------------------ the loop

    async def run(self, strategy: Strategy, stop: asyncio.Event | None) -> Answer:
        models = {role: model.name for role, model in self.cfg.models.items()}
        self.record.open(self.root.about, self.cfg.budget, self.cfg.seed, models, self.cfg.origin)
        if stop:
            self.task(self._obey(stop))
        self._spawn(self._whole(strategy), "0", "", lambda value, error: self.result.extend((value, error)))
        try:
            while not self.result:
                await self._pump()
                if not self.result:
                    await self._hear()
            return self._answer(*self.result)
        except PonderaError as error:
            if error.answer is None and self.record.best:
                error.answer = self.record.answer(self.record.best, self.purse.spent)
            raise
        finally:
            self.grower.lose_all("the run ended")
            await self._abandon()

    async def _obey(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.tell(self._close, "cancelled")

    async def _whole(self, strategy: Strategy) -> Thought:
        """The strategy, and the key of what it returns; a strategy that was stopped returns the best that it offered."""
        try:
            node = await strategy(self.root)
        except Stop:
            if (best := self.record.best) is None:
                raise
            node = best
        if not isinstance(node, Thought):
            raise TypeError(f"a strategy returns a Thought, got {node!r}")
        if node.id not in self.record.keys:
            await Key((node,))
        return node

    async def _pump(self) -> None:
        """Follow every answer through, then take what the ledger has next, then what is new; give the clock a look now and then."""
        turn = 0
        while True:
            if self.ready:
                self._step(*self.ready.popleft())
            elif self.delivered:
                self.ready.append(self.delivered.popleft())
            elif self.record.order:
                self._replay(self.record.order.popleft())
            elif self.later:
                begun, self.later = self.later, []
                for begin in begun:
                    begin()
            else:
                if not self.closing:
                    self.grower.admit()
                if not self.delivered:
                    return
            turn += 1
            if turn % 256 == 0:  # a strategy of free ops alone must not outrun its deadline
                self._clock()
                await asyncio.sleep(0)

    async def _hear(self) -> None:
        """Wait for a message or for the clock."""
        due = self.end if self.closing else self.end - self.margin
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(due) else max(0.0, due - time.monotonic())):
                act, given = await self.inbox.get()
                act(*given)
        while not self.inbox.empty() and not self.delivered:
            act, given = self.inbox.get_nowait()
            act(*given)
        self._clock()

    def _clock(self) -> None:
        now = time.monotonic()
        if self.record.order or not self.cfg.models:
            return  # a replay has no clock
        if now >= self.end - self.margin:
            self._close("deadline")
        if now >= self.end and not self.expired:
            self.expired = True
            for frame in list(self.waits):
                self._cut(frame, self.closing or "deadline")

    def tell(self, act: Callable[..., None], *given: Any) -> None:
        self.inbox.put_nowait((act, given))

    def task(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coro)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # ------------------------------------------------------------ coroutines

    def _spawn(self, coro: Coroutine[Any, Any, Any], path: str, by: str, ended: Ended) -> None:
        frame = _Frame(coro, path, by, ended)
        self.frames.add(frame)
        self.ready.append((frame, None))

    def _step(self, frame: _Frame, value: Any) -> None:
        """Run a coroutine to its next op."""
        try:
            if isinstance(value, _Raise):
                frame.stops += isinstance(value.error, Stop)
                op = frame.coro.throw(value.error)
            else:
                op = frame.coro.send(value)
        except StopIteration as end:
            return self._leave(frame, end.value, None)
        except (Stop, *BRANCH_ERRORS) as error:
            return self._leave(frame, None, error)
        if not isinstance(op, Op):
            raise TypeError(f"a strategy may await only ops, got {op!r}")
        if frame.stops > PATIENCE:
            return self._leave(frame, None, Stop(self.closing or "budget"))
        key = f"{frame.path}.{frame.turn}"
        frame.turn += 1
        return self._take(frame, key, op)

    def _leave(self, frame: _Frame, value: Any, error: BaseException | None) -> None:
        self.frames.discard(frame)
        frame.coro.close()
        frame.ended(value, error)

    def _take(self, frame: _Frame, key: str, op: Op[Any]) -> None:
        match op:
            case Rng():
                self.ready.appendleft((frame, random.Random(seed_of(self.cfg.seed, key))))
            case Offer(node, confidence):
                self.record.offer(key, node, confidence)
                self.ready.appendleft((frame, None))
            case Left():
                self.ready.appendleft((frame, self._left(key, op)))
            case Both(coros):
                self._both(frame, key, coros)
            case Expand() | Score() | Key() | Call():
                self.waits[frame] = _Wait(key, op)
                if self.record.check(key, op):
                    self.parked[key] = frame
                elif self.record.order and not isinstance(op, Score):  # what a verifier asked may be in the ledger, so it starts now
                    self.later.append(lambda: self._begin(frame) if frame in self.waits else None)
                else:
                    self._begin(frame)
            case _:
                raise TypeError(f"unknown op {op!r}")

    def _left(self, key: str, op: Left) -> Remains:
        if self.record.check(key, op):
            return Remains(*(math.inf if v is None else v for v in self.record.past[key].body["value"]))
        left = self.purse.left(self.end - time.monotonic())
        self.record.op(key, op, {"value": [None if math.isinf(v) else v for v in (left.tokens, left.calls, left.usd, left.seconds)]})
        return left

    def _both(self, frame: _Frame, key: str, coros: Sequence[Coroutine[Any, Any, Any]]) -> None:
        """Children run side by side and all end before this does; those that failed or were stopped are dropped."""
        ends: dict[int, tuple[Any, BaseException | None]] = {}

        def ended(i: int, value: Any, error: BaseException | None) -> None:
            ends[i] = (value, error)
            if error is not None and not isinstance(error, Stop):
                self.record.drop(f"{key}.{i}", str(error), write=True)
            if len(ends) < len(coros):
                return
            whole = [ends[i] for i in range(len(coros))]
            values = [value for value, fault in whole if fault is None]
            faults = [fault for _, fault in whole if fault is not None]
            stop = next((fault for fault in faults if isinstance(fault, Stop)), None)
            self.ready.append((frame, values if values else _Raise(stop or all_failed(faults))))

        if not coros:
            self.ready.append((frame, []))
        for i, coro in enumerate(coros):
            self._spawn(coro, f"{key}.{i}", frame.by, lambda value, error, i=i: ended(i, value, error))  # type: ignore[misc]

    # ------------------------------------------------------------ ops that need the world

    def _begin(self, frame: _Frame) -> None:
        """Start the work of an op."""
        wait = self.waits[frame]
        if self.expired or (self.closing and isinstance(wait.op, Expand)):
            return self._cut(frame, self.closing or "deadline")
        match wait.op:
            case Expand() as op:
                op = replace(op, by=cast(Role, frame.by)) if frame.by else op
                wait.work = self.grower.begin(wait.key, op, lambda alive, made, error: self._grown(frame, alive, made, error))
            case Score(nodes, by):
                verifier = _given(self.cfg.verifiers, by, "verifier")
                self._spawn(verifier(nodes), f"{wait.key}.v", "judge", lambda value, error: self._scored(frame, wait, value, error))
            case Key(nodes):
                wait.work = self.task(self._work(frame, wait, self._read(nodes)))
            case Call(_, tool, argument):
                wait.work = self.task(self._work(frame, wait, _given(self.cfg.tools, tool, "tool")(argument)))
        return None

    def _reply(self, frame: _Frame, value: Any, body: Mapping[str, Any]) -> None:
        """Record an op's answer and deliver it."""
        wait = self.waits.pop(frame)
        self.record.op(wait.key, wait.op, body)
        self._deliver(frame, wait.op, value)

    def _raise(self, frame: _Frame, error: BaseException) -> None:
        body = {"stop": error.why} if isinstance(error, Stop) else {"error": [type(error).__name__, str(error)]}
        self._reply(frame, _Raise(error), body)

    def _deliver(self, frame: _Frame, op: Op[Any], value: Any) -> None:
        if not isinstance(value, _Raise):
            self.record.know(op, value)
        self.delivered.append((frame, value))

    def _replay(self, key: str) -> None:
        """Deliver what the ledger has next."""
        frame = self.parked.pop(key, None)
        if frame is None:
            raise LedgerDrift(f"The ledger has an answer at {key} that the strategy does not ask for: was one of them changed?")
        op, body = self.waits.pop(frame).op, self.record.past[key].body
        value: Any = body.get("value")
        if "stop" in body:
            value = _Raise(Stop(body["stop"]))
        elif "error" in body:
            value = _Raise(named(*body["error"]))
        elif isinstance(op, Expand):
            value = self.record.children(key, op, body["value"])
        elif isinstance(op, Call):
            value = thought_from_json(f"{key}/0", body["made"], op.node)
        self._deliver(frame, op, value)

    def _grown(self, frame: _Frame, alive: Sequence[int], made: Mapping[int, Thought], error: BaseException | None) -> None:
        if error is not None:
            return self._raise(frame, error)
        return self._reply(frame, [made[i] for i in alive], {"value": list(alive)})

    async def _read(self, nodes: tuple[Thought, ...]) -> list[str | None]:
        """Keys in order; a thought that was cut off has none."""
        whole = [node.reply for node in nodes if not node.cut]
        keys = iter(await self.cfg.keyer(self.root.about, whole) if whole else [])
        return [None if node.cut else next(keys) for node in nodes]

    async def _work(self, frame: _Frame, wait: _Wait, work: Awaitable[Any]) -> None:
        try:
            self.tell(self._worked, frame, wait, await work, None)
        except Exception as error:
            self.tell(self._worked, frame, wait, None, error)

    def _worked(self, frame: _Frame, wait: _Wait, value: Any, error: Exception | None) -> None:
        if self.waits.get(frame) is not wait:
            return None  # it was stopped in the meantime
        if isinstance(error, BRANCH_ERRORS):
            return self._raise(frame, error)
        if error is not None:
            raise error
        if isinstance(wait.op, Call):
            made = Thought(f"{wait.key}/0", wait.op.node, text=value, finish="done", tool=wait.op.tool)
            return self._reply(frame, made, {"made": thought_to_json(made)})
        return self._reply(frame, value, {"value": value, "nodes": [node.id for node in cast(Key, wait.op).nodes]})

    def _scored(self, frame: _Frame, wait: _Wait, value: Any, error: BaseException | None) -> None:
        if self.waits.get(frame) is not wait:
            return None  # it was stopped in the meantime
        op = cast(Score, wait.op)
        if error is None and (not isinstance(value, list) or len(value) != len(op.nodes)):
            error = VerifierError(f"The verifier {op.by!r} gave {value!r} for {len(op.nodes)} nodes: it must give one score a node.")
        if error is not None:
            whole = isinstance(error, Stop | VerifierError)
            return self._raise(frame, error if whole else VerifierError(f"The verifier {op.by!r} failed: {error}"))
        scores = [None if score is None or not math.isfinite(score) else float(score) for score in value]
        return self._reply(frame, scores, {"value": scores, "by": op.by, "nodes": [node.id for node in op.nodes]})

    # ------------------------------------------------------------ endings

    def _cut(self, frame: _Frame, why: Why) -> None:
        """Answer a waiting op with what survived, or with Stop."""
        wait = self.waits[frame]
        if isinstance(wait.work, Growth):
            return self.grower.close(wait.work, why)
        if wait.work is not None:
            wait.work.cancel()
        return self._raise(frame, Stop(why))

    def _close(self, why: Why) -> None:
        """Wind down: what is in flight is cut, what survived is delivered, no model is asked any more."""
        if self.closing:
            return
        self.closing = why
        self.record.stop(why)
        self.end = min(self.end, time.monotonic() + GRACE)
        for frame, wait in list(self.waits.items()):
            if isinstance(wait.work, Growth):
                self._cut(frame, why)

    async def _abandon(self) -> None:
        """Leave nothing behind: no task, no request at a server, no coroutine."""
        for task in self.tasks:
            task.cancel()
        while self.tasks:
            await asyncio.wait(self.tasks)
        for frame in self.frames:
            frame.coro.close()

    def _answer(self, node: Thought | None, error: BaseException | None) -> Answer:
        if error is not None and not isinstance(error, Stop):
            raise error
        node = node or self.record.best
        if node is None:
            spent, why = self.purse.spent, self.record.stopped or "budget"
            raise NoAnswer(
                f"The run was stopped ({why}) after {spent.tokens} tokens and {self.record.at:.1f} s, without an answer: allow more."
            )
        answer = self.record.answer(node, self.purse.spent)
        self.record.close(answer)
        return answer


def _given(found: Mapping[str, Any], name: str, sort: str) -> Any:
    if name not in found:
        raise BadInput(f"No {sort} {name!r} was given to this run (given: {', '.join(sorted(found)) or 'none'}).")
    return found[name]
