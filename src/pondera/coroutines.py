"""The coroutines of a run: each is run from op to op, and every answer is followed through before the next is looked at.

Ops that need no world (chance, offers, the budget, running side by side) are answered here; all others are handed on.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pondera.errors import BRANCH_ERRORS, Stop
from pondera.growth import all_failed, seed_of
from pondera.ops import Both, Left, Offer, Op, Rng
from pondera.record import FREE, Record
from pondera.thought import Left as Remains

PATIENCE = 3  # times that Stop is thrown into a coroutine that goes on asking, before it is closed
Ended = Callable[[Any, BaseException | None], None]


@dataclass(eq=False, slots=True)
class Frame:
    """A coroutine that is being driven. `by` is the role its calls are billed to, where it is not each op's own."""

    coro: Coroutine[Any, Any, Any]
    path: str
    by: str
    ended: Ended
    turn: int = 0
    stops: int = 0


@dataclass(frozen=True, slots=True)
class Raise:
    """An answer that is thrown instead of sent."""

    error: BaseException


@dataclass(eq=False, slots=True)
class Coroutines:
    """`ask` takes the ops that need the world, `left` tells what is left of the budget; answers come back by `send`."""

    record: Record
    seed: int
    left: Callable[[], Remains]
    ask: Callable[[Frame, str, Op[Any]], None]
    over: str = ""  # why no op is answered any more, once the deadline has passed
    frames: set[Frame] = field(default_factory=set)
    ready: deque[tuple[Frame, Any]] = field(default_factory=deque)

    def spawn(self, coro: Coroutine[Any, Any, Any], path: str, by: str, ended: Ended) -> None:
        frame = Frame(coro, path, by, ended)
        self.frames.add(frame)
        self.ready.append((frame, None))

    def step(self) -> None:
        """Run the first coroutine that has an answer to its next op."""
        frame, value = self.ready.popleft()
        try:
            if isinstance(value, Raise):
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
            forget(op)
            return self._leave(frame, None, Stop(self.record.stopped or "budget"))
        key = f"{frame.path}.{frame.turn}"
        frame.turn += 1
        return self._take(frame, key, op)

    def _leave(self, frame: Frame, value: Any, error: BaseException | None) -> None:
        self.frames.discard(frame)
        _shut(frame.coro)
        frame.ended(value, error)

    def _take(self, frame: Frame, key: str, op: Op[Any]) -> None:
        if not isinstance(op, FREE):
            return self.ask(frame, key, op)
        row = self.record.past.get(key)
        if why := self.over or (row and row.body.get("stop")):
            return self._refuse(frame, key, op, why)
        match op:
            case Rng():
                self.ready.appendleft((frame, random.Random(seed_of(self.seed, key))))
            case Offer():
                self.record.offer(key, op)
                self.ready.appendleft((frame, None))
            case Left():
                self.ready.appendleft((frame, self._remains(key, op)))
            case Both(coros):
                self._both(frame, key, coros)
        return None

    def _refuse(self, frame: Frame, key: str, op: Op[Any], why: str) -> None:
        if key not in self.record.past:
            self.record.write("op", key, {"op": type(op).__name__, "stop": why})
        forget(op)
        self.ready.appendleft((frame, Raise(Stop(why))))

    def _remains(self, key: str, op: Left) -> Remains:
        if self.record.check(key, op):
            body = self.record.past[key].body
            return replace(Remains(*(math.inf if v is None else v for v in body["value"])), elapsed=body["at"])
        left, at = self.left(), self.record.at
        value = [None if math.isinf(v) else v for v in (left.tokens, left.calls, left.usd, left.seconds, left.paid)]
        self.record.op(key, op, {"at": at, "value": value})
        return replace(left, elapsed=at)

    def _both(self, frame: Frame, key: str, coros: Sequence[Coroutine[Any, Any, Any]]) -> None:
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
            self.ready.append((frame, values if values else Raise(stop or all_failed(faults))))

        if not coros:
            self.ready.append((frame, []))
        for i, coro in enumerate(coros):
            self.spawn(coro, f"{key}.{i}", frame.by, lambda value, error, i=i: ended(i, value, error))  # type: ignore[misc]

    def close(self) -> None:
        for frame in self.frames:
            _shut(frame.coro)


def _shut(coro: Coroutine[Any, Any, Any]) -> None:
    """Close a coroutine, which may await (an offer, in a `finally`) on its way out."""
    for _ in range(PATIENCE):
        with contextlib.suppress(Exception):  # it awaited, and nothing is answered any more
            coro.close()
            break


def forget(op: Op[Any]) -> None:
    """The coroutines of an op that is not answered never run."""
    for coro in op.coros if isinstance(op, Both) else ():
        coro.close()
