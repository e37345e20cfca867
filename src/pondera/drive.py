"""The loop that owns a run; the idea is told in :mod:`pondera.runtime`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pondera.coroutines import Coroutines, Frame, Raise
from pondera.errors import BRANCH_ERRORS, BadInput, CallFailed, LedgerDrift, NoAnswer, PonderaError, Stop, named
from pondera.events import Watch
from pondera.growth import Grower, Growth, Why
from pondera.judging import guarded, judged, to_json, verdicts
from pondera.ledger import Ledger
from pondera.ops import Call, Expand, Key, Op, Score, Strategy
from pondera.plain import thought_from_json, thought_to_json
from pondera.purse import Purse
from pondera.record import Record
from pondera.thought import Answer, Question, Thought, root_of

if TYPE_CHECKING:
    from pondera.runtime import Run

GRACE = 1.0  # seconds before the deadline (at most a tenth of the time allowed) in which votes are counted and no model is asked


@dataclass(eq=False, slots=True)
class _Wait:
    """An op that is not answered yet, and the work under way for it."""

    key: str
    op: Op[Any]
    work: Growth | asyncio.Task[None] | None = None


class Drive:
    """One run. Answers lie in `delivered`, in the order of the ledger; each is followed through (`ready`) before the next is looked at."""

    def __init__(self, run: Run, question: Question, ledger: Ledger, watch: Watch) -> None:
        self.cfg, self.root = run, root_of(question)
        self.record = Record(ledger, watch)
        self.purse = Purse(run.budget, self.record.spent)
        self.end = self.record.began + run.budget.seconds
        self.margin = min(GRACE, run.budget.seconds / 10)
        self.kept = 0  # the fewest tokens that the strategy has ever set aside: those no verifier touches
        self.closing: Why | None = None
        self.expired = False
        self.inbox: asyncio.Queue[tuple[Callable[..., None], tuple[Any, ...]]] = asyncio.Queue()
        self.tasks: set[asyncio.Task[None]] = set()
        self.grower = Grower(run.models, run.seed, run.parallel, self.purse, self.record, self.tell, self.task)
        self.coroutines = Coroutines(self.record, run.seed, lambda: self.purse.left(self.end - time.monotonic()), self._take)
        self.delivered: deque[tuple[Frame, Any]] = deque()
        self.waits: dict[Frame, _Wait] = {}
        self.parked: dict[str, Frame] = {}
        self.later: list[Callable[[], None]] = []
        self.result: list[Any] = []

    # ------------------------------------------------------------ the loop

    async def run(self, strategy: Strategy, stop: asyncio.Event | None) -> Answer:
        models = {role: model.name for role, model in self.cfg.models.items()}
        self.record.open(self.root.about, self.cfg.budget, self.cfg.seed, models, self.cfg.origin)
        if stop:
            self.task(self._obey(stop))
        self.coroutines.spawn(self._whole(strategy), "0", "", lambda value, error: self.result.extend((value, error)))
        try:
            while not self.result:
                await self._pump()
                if not self.result:
                    await self._hear()
            return self._answer(*self.result)
        except PonderaError as error:
            if error.answer is None and self.record.best:
                error.answer = self.record.answer(self.record.best, self.purse.spent)
            if self.cfg.models:  # a replay writes nothing
                self.record.fail(error)
            raise
        finally:
            try:
                self.grower.lose_all("the run ended")
            finally:
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
        self.record.best = node  # the answer, even where there is no time left to read its key
        if node.id not in self.record.keys:
            await Key((node,))
        return node

    async def _pump(self) -> None:
        """Follow every answer through, then take what the ledger has next, then what is new; give the clock a look now and then."""
        turn = 0
        while True:
            if self.coroutines.ready:
                self.coroutines.step()
            elif self.delivered:
                self.coroutines.ready.append(self.delivered.popleft())
            elif self.record.order:
                self._replay(self.record.order.popleft())
            elif self.later:
                begun, self.later = self.later, []
                for begin in begun:
                    begin()
            else:
                self._clock()
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
        first: tuple[Callable[..., None], tuple[Any, ...]] | None = None
        with contextlib.suppress(TimeoutError):  # the clock's alone: what a message raises is not for here
            async with asyncio.timeout(None if math.isinf(due) else max(0.0, due - time.monotonic())):
                first = await self.inbox.get()
        if first:
            act, given = first
            act(*given)
        while not self.inbox.empty() and not self.delivered:
            self._act()
        self._clock()

    def _act(self) -> None:
        act, given = self.inbox.get_nowait()
        act(*given)

    def _clock(self) -> None:
        now = time.monotonic()
        if self.record.order or not self.cfg.models:
            return  # a replay has no clock
        if now >= self.end - self.margin:
            self._close("deadline")
        if now >= self.end and not self.expired:
            self.expired = True
            self.coroutines.over = self.closing or "deadline"
            for frame in list(self.waits):
                self._cut(frame, self.closing or "deadline")

    def tell(self, act: Callable[..., None], *given: Any) -> None:
        self.inbox.put_nowait((act, given))

    def task(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coro)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # ------------------------------------------------------------ ops that need the world

    def _take(self, frame: Frame, key: str, op: Op[Any]) -> None:
        """An op that the ledger answers waits for its turn, another one is begun."""
        if not isinstance(op, Expand | Score | Key | Call):
            raise TypeError(f"unknown op {op!r}")
        self.waits[frame] = _Wait(key, op)
        if isinstance(op, Expand) and op.keep and frame.by != "judge":
            self.kept = min(op.keep, self.kept or op.keep)
        if self.record.check(key, op):
            self.parked[key] = frame
        elif self.record.order and not isinstance(op, Score):  # what a verifier asked may be in the ledger, so it starts now
            self.later.append(lambda: self._begin(frame) if frame in self.waits else None)
        else:
            self._begin(frame)

    def _begin(self, frame: Frame) -> None:
        """Start the work of an op."""
        wait = self.waits[frame]
        if self.expired or (self.closing and isinstance(wait.op, Expand)):
            return self._cut(frame, self.closing or "deadline")
        match wait.op:
            case Expand() as op:
                billed = op.by if op.by != "think" else frame.by or op.by
                keep = op.keep or (self.kept if frame.by == "judge" else 0)
                wait.work = self.grower.begin(wait.key, op, billed, keep, lambda alive, made, error: self._grown(frame, alive, made, error))
            case Score(nodes, by):
                verifier = _given(self.cfg.verifiers, by, "verifier")
                told = guarded(verifier, nodes)
                self.coroutines.spawn(told, f"{wait.key}.v", "judge", lambda value, error: self._scored(frame, wait, value, error))
            case Key(nodes):
                wait.work = self.task(self._work(frame, wait, lambda: self._read(nodes)))
            case Call(_, tool, argument):
                run = _given(self.cfg.tools, tool, "tool")
                wait.work = self.task(self._work(frame, wait, lambda: run(argument)))
        return None

    def _reply(self, frame: Frame, value: Any, body: Mapping[str, Any]) -> None:
        """Record an op's answer and deliver it."""
        wait = self.waits.pop(frame)
        self.record.op(wait.key, wait.op, body)
        self._deliver(frame, wait.op, value)

    def _raise(self, frame: Frame, error: BaseException) -> None:
        body: dict[str, Any] = {"stop": error.why} if isinstance(error, Stop) else {"error": [type(error).__name__, str(error)]}
        if isinstance(op := self.waits[frame].op, Call):
            body["node"] = op.node.id
        self._reply(frame, Raise(error), body)

    def _deliver(self, frame: Frame, op: Op[Any], value: Any) -> None:
        if not isinstance(value, Raise) and frame.by != "judge":  # what a verifier reads for itself is no candidate
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
            value = Raise(Stop(body["stop"]))
        elif "error" in body:
            value = Raise(named(*body["error"]))
        elif isinstance(op, Expand):
            value = self.record.children(key, op, body["value"])
        elif isinstance(op, Score):
            value = verdicts(value, body.get("why", ()))
        elif isinstance(op, Call):
            value = thought_from_json(f"{key}/0", body["made"], op.node)
        self._deliver(frame, op, value)

    def _grown(self, frame: Frame, alive: Sequence[int], made: Mapping[int, Thought], error: BaseException | None) -> None:
        if error is not None:
            return self._raise(frame, error)
        return self._reply(frame, [made[i] for i in alive], {"value": list(alive)})

    async def _read(self, nodes: tuple[Thought, ...]) -> list[str | None]:
        """Keys in order; a thought that was cut off has none."""
        whole = [node.reply for node in nodes if not node.cut]
        keys = iter(await self.cfg.keyer(self.root.about, whole) if whole else [])
        return [None if node.cut else next(keys) for node in nodes]

    async def _work(self, frame: Frame, wait: _Wait, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            self.tell(self._worked, frame, wait, await work(), None)
        except Exception as error:
            self.tell(self._worked, frame, wait, None, error)
        except asyncio.CancelledError:  # not by this run, where anybody still waits for it
            what = f"The work of {type(wait.op).__name__} was cancelled by something else than this run."
            self.tell(self._worked, frame, wait, None, CallFailed(what))

    def _worked(self, frame: Frame, wait: _Wait, value: Any, error: Exception | None) -> None:
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

    def _scored(self, frame: Frame, wait: _Wait, value: Any, error: BaseException | None) -> None:
        if self.waits.get(frame) is not wait:
            return None  # it was stopped in the meantime
        op = cast(Score, wait.op)
        if isinstance(error, Stop):
            return self._raise(frame, error)
        scores, fault = judged(op, value, error)
        if fault:
            self.record.drop(wait.key, fault, write=True)
        return self._reply(frame, scores, {**to_json(scores), "by": op.by, "nodes": [node.id for node in op.nodes]})

    # ------------------------------------------------------------ endings

    def _cut(self, frame: Frame, why: Why) -> None:
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
        while not self.inbox.empty():  # what was said before this counts
            self._act()
        self.record.stop(why)
        self.end = min(self.end, time.monotonic() + GRACE)
        for frame, wait in list(self.waits.items()):
            if isinstance(wait.work, Growth):
                self._cut(frame, why)

    async def _abandon(self) -> None:
        """Leave nothing behind: no task, no request at a server, no coroutine."""
        for task in self.tasks:
            task.cancel()
        try:
            while self.tasks:
                await asyncio.wait(self.tasks)
        finally:
            self.coroutines.close()

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
