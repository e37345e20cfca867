"""Growing thoughts: children are queued, admitted when their worst case can be paid, asked of a model in batches, and billed one by one.

Every child ends in exactly one row of the ledger (answered, failed or lost), at which its bill replaces its hold in the purse.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import re
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pondera.errors import BadInput, BranchesFailed, LedgerDrift, ModelError, PonderaError, Stop, Unaffordable, Unsupported
from pondera.events import Asked, Growing
from pondera.ops import Expand
from pondera.plain import fingerprint, spend_to_json, thought_to_json
from pondera.ports import Failure, Model, Piece, Sample
from pondera.purse import NOTHING, Hold, Purse
from pondera.record import Record
from pondera.thought import Spend, Thought, dialogue, spoken

MOST = 100_000  # children of one op
BYTES = 4  # of a token, about, as some models bound a prompt: so much may what is grown now add to the prompt of what is kept for

_NESTED = re.compile(r"^All \d+ branches failed: ")
Why = Literal["budget", "deadline", "cancelled"]
Deliver = Callable[[list[int], dict[int, Thought], BaseException | None], None]


def seed_of(seed: int, key: str) -> int:
    """The seed for a place in a run: 31 bits, as every engine takes them."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=4).digest(), "big") >> 1


@dataclass(eq=False, slots=True)
class Growth:
    """An Expand that is being answered; children by index. `deliver` takes the children or the error, once."""

    key: str
    op: Expand
    by: str  # the role that it is billed to
    deliver: Deliver
    pending: set[int]
    asked: str  # the op's fingerprint
    keep: int  # tokens of the budget that are not touched
    made: dict[int, Thought] = field(default_factory=dict)
    cut: dict[int, Thought] = field(default_factory=dict)
    failed: list[PonderaError] = field(default_factory=list)
    bound: int | None = None  # of a child's prompt, in tokens; counting it may take a millisecond
    over: bool = False


@dataclass(eq=False, slots=True)
class _Ask:
    """Children of one growth that a model was asked for in one call."""

    growth: Growth
    op: Expand
    model: Model
    indices: tuple[int, ...]
    hold: Hold
    since: float
    open: set[int]
    begun: bool = False
    text: dict[int, list[str]] = field(default_factory=dict)
    thought: dict[int, list[str]] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    mused: dict[int, int] = field(default_factory=dict)  # of the tokens, those that were thinking


@dataclass(eq=False, slots=True)
class Grower:
    """Owns all that is asked of models in one run. `tell` puts a call into the run's inbox, `spawn` starts a task of the run."""

    models: Mapping[str, Model]
    seed: int
    parallel: int
    purse: Purse
    record: Record
    tell: Callable[..., None]
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    queue: deque[tuple[Growth, int]] = field(default_factory=deque)
    asks: dict[_Ask, asyncio.Task[None]] = field(default_factory=dict)

    def begin(self, key: str, op: Expand, by: str, keep: int, deliver: Deliver) -> Growth:
        """Queue the children that the ledger does not have yet."""
        if op.n < 1 or op.max_tokens < 1:
            raise BadInput(f"Expand(n={op.n}, max_tokens={op.max_tokens}) asks for nothing: give 1 or more of each.")
        if op.n > MOST:
            raise BadInput(f"Expand(n={op.n:,}) asks for more branches than can be kept in mind: give at most {MOST:,}.")
        if not 0 <= op.temperature < math.inf:
            raise BadInput(f"A temperature of {op.temperature} draws nothing: give 0, which is greedy, or more.")
        if isinstance(op.until, int) and op.until < 1:
            raise BadInput(f"Expand(until={op.until}) asks for nothing: give 1 token or more.")
        growth = Growth(key, op, by, deliver, set(range(op.n)), fingerprint(op), keep)
        for i in range(op.n):
            row = self.record.samples.get(f"{key}/{i}")
            # Paid before the run was cut: not asked again, unless the strategy, going another way now, asks something else here.
            if row and row.body["status"] == "answered" and row.body.get("print", growth.asked) == growth.asked:
                growth.made[i] = self.record.child(row.key, op)
                growth.pending.discard(i)
            else:
                self.queue.append((growth, i))
        self._settle(growth)
        return growth

    def model(self, op: Expand) -> Model:
        if not self.models:
            raise LedgerDrift("The ledger ends before the run does, and a replay asks no model: resume it instead.")
        if op.by == "reward" and op.by not in self.models:
            raise BadInput("No reward model was given to this run: name one, as in --reward NAME@URL.")
        return self.models.get(op.by) or self.models["think"]

    def admit(self) -> None:
        """Ask for what can be paid, first come first served; give up what cannot be paid even when nothing is held."""
        while self.queue:
            growth, _ = self.queue[0]
            model, wanted = self.model(growth.op), growth.op.max_tokens
            try:
                bound = growth.bound = model.prompt_bound(growth.op) if growth.bound is None else growth.bound
            except ModelError as error:
                self._refuse(growth, error)
                continue
            batch, hold = self._payable(growth, self.purse.worst(wanted, bound, model.price))
            if batch:
                self._call(model, growth, wanted, batch, hold)
            elif self.purse.held_calls:
                return  # others may give back what they hold
            elif length := self.purse.longest(wanted, bound, model.price, self._spare(growth)):
                hold = self.purse.worst(length, bound, model.price)
                self.purse.hold(hold)
                self._call(model, growth, length, [self.queue.popleft()[1]], hold)
            elif growth.keep:
                self.record.stop("budget")
                self._refuse(growth, Unaffordable(f"What is left of the budget is kept for an answer ({growth.keep} tokens)."))
            else:
                self.record.stop("budget")
                self.close(growth, "budget")

    def _refuse(self, growth: Growth, error: ModelError | Unaffordable) -> None:
        """A conversation that the model cannot be asked about, or may not: all that was still to be grown fails, unasked."""
        self._unqueue(growth)
        growth.failed.append(error)
        growth.pending.clear()
        self.record.drop(growth.key, str(error), write=True)
        self._settle(growth)

    def _unqueue(self, growth: Growth) -> None:
        self.queue = deque((g, i) for g, i in self.queue if g is not growth)

    def _spare(self, growth: Growth) -> Hold:
        """What is kept beside a growth: its tokens, and the call and the dollars that the model which answers takes for them.

        No call where the run has one alone, and may have a whole answer for it.
        """
        if not growth.keep:
            return NOTHING
        spare = self.purse.worst(growth.keep, (growth.bound or 0) + BYTES * growth.op.max_tokens, self.models["think"].price)
        first = growth.op.until == "done" and not self.purse.spent.calls and not self.purse.held_calls
        return replace(spare, calls=0) if first else spare

    def _payable(self, growth: Growth, hold: Hold) -> tuple[list[int], Hold]:
        """Take from the queue's head, and hold, as many children of one growth as can be paid and run now."""
        batch: list[int] = []
        while self.queue and self.queue[0][0] is growth and self.purse.held_calls < self.parallel:
            if not self.purse.affords(hold, self._spare(growth)):
                break
            self.purse.hold(hold)
            batch.append(self.queue.popleft()[1])
        return batch, hold

    def _call(self, model: Model, growth: Growth, length: int, batch: Sequence[int], hold: Hold) -> None:
        op = replace(growth.op, n=len(batch), max_tokens=length)
        ask = _Ask(growth, op, model, tuple(batch), hold, time.monotonic(), set(batch))
        keys = tuple(f"{growth.key}/{i}" for i in batch)
        seeds = [seed_of(self.seed, key) for key in keys]

        async def listen() -> None:
            error: Exception | None = None
            ask.begun = True
            try:
                said = model.sample(op, seeds)
                try:
                    async for one in said:
                        self.tell(self._hear, ask, one)
                finally:
                    await said.aclose()  # type: ignore[attr-defined]
            except Exception as fault:
                error = fault
            except asyncio.CancelledError:
                if ask not in self.asks:  # hung up
                    raise
                error = ModelError(f"The call of {model.name} was cancelled by something else than this run.")
            self.tell(self._end, ask, error)

        self.record.watch(Asked(keys, growth.by, length))
        self.asks[ask] = self.spawn(listen())

    # ------------------------------------------------------------ what a model says

    def _hear(self, ask: _Ask, one: Piece | Sample | Failure) -> None:
        index = ask.indices[one.index]
        if index not in ask.open:
            return
        match one:
            case Piece(_, text, tokens, thinking):
                said, counts = (ask.thought, (ask.tokens, ask.mused)) if thinking else (ask.text, (ask.tokens,))
                said.setdefault(index, []).append(text)
                for count in counts:
                    count[index] = count.get(index, 0) + tokens
                self.record.watch(Growing(f"{ask.growth.key}/{index}", one))
            case Failure(_, error, spend):
                self._fail(ask, index, error, spend)
            case Sample():
                self._gain(ask, index, one)

    def _gain(self, ask: _Ask, index: int, sample: Sample) -> None:
        op = ask.op
        thinking, text = _forced(op)
        thought = Thought(
            f"{ask.growth.key}/{index}",
            op.node,
            said=op.say,
            text=text + sample.text,
            forced=op.force,
            thinking=thinking + sample.thinking,
            finish=sample.finish,
            tokens=sample.spend.tokens,
            model=ask.model.name,
            ids=sample.ids,
            logprobs=tuple(round(p, 4) for p in sample.logprobs),
            state=sample.state,
        )
        self._bill(ask, index, "answered", sample.spend, thought_to_json(thought))
        ask.growth.made[index] = thought
        self.record.grown(thought, op, ask.growth.by, self.purse.spent)
        self._settle(ask.growth)

    def _fail(self, ask: _Ask, index: int, error: PonderaError, spend: Spend) -> None:
        self._bill(ask, index, "failed", spend, {"error": [type(error).__name__, str(error)]})
        ask.growth.failed.append(error)
        self.record.drop(f"{ask.growth.key}/{index}", str(error))
        self._settle(ask.growth)

    def _lose(self, ask: _Ask, index: int, why: str) -> None:
        """A child cut in flight: billed by what it was seen to generate where the model counts every token, else at its worst."""
        op, key, name = ask.op, f"{ask.growth.key}/{index}", ask.model.name
        text, thinking = ("".join(said.get(index, ())) for said in (ask.text, ask.thought))
        tokens, mused = (ask.tokens.get(index, 0), ask.mused.get(index, 0)) if ask.model.exact else (ask.hold.tokens, 0)
        body: dict[str, Any] = {"error": ["Stop", f"cut off in flight ({why})"]}
        if text or thinking:
            thought, spoke = _forced(op)
            made = Thought(key, op.node, op.say, spoke + text, op.force, thought + thinking, "length", tokens, name)
            ask.growth.cut[index] = made
            body |= thought_to_json(made)
        bill = Spend(prompt=ask.growth.bound or 0, thinking=mused, answer=tokens - mused, estimated=True)
        self._bill(ask, index, "lost", bill, body)
        self.record.drop(key, body["error"][1])

    def _bill(self, ask: _Ask, index: int, status: str, spend: Spend, body: Mapping[str, Any]) -> None:
        price = ask.model.price
        bill = replace(spend, calls=1, usd=price.of(spend.prompt, spend.cached, spend.tokens) if price else 0.0)
        if ask.growth.by in ("judge", "reward"):
            bill = replace(bill, judging=spend.tokens, thinking=0, answer=0)
        ask.open.discard(index)
        ask.growth.pending.discard(index)
        self.purse.settle(ask.hold, bill)
        timed = replace(bill, seconds=round(time.monotonic() - ask.since, 4))
        row = {"status": status, "by": ask.growth.by, "print": ask.growth.asked, "parent": ask.op.node.id, "spend": spend_to_json(timed)}
        self.record.write("sample", f"{ask.growth.key}/{index}", {**row, **body})

    def _end(self, ask: _Ask, error: Exception | None) -> None:
        self.asks.pop(ask, None)
        if error is not None and not isinstance(error, PonderaError):
            raise error
        for index in sorted(ask.open):
            silent = ModelError(f"The model {ask.model.name} ended its call without an answer for this branch.")
            seen = ask.tokens.get(index, 0)
            self._fail(ask, index, error or silent, Spend(prompt=ask.growth.bound or 0, answer=seen, estimated=True) if seen else Spend())

    # ------------------------------------------------------------ endings

    def _settle(self, growth: Growth) -> None:
        made, first = growth.made, growth.op.first
        if growth.pending and 0 < first <= len(made) and first <= sum(not child.cut for child in made.values()):
            self._let_go(growth, "enough others had ended")
            growth.pending.clear()
        if not growth.pending and not growth.over:
            growth.over = True
            error = None if growth.made else all_failed(growth.failed)
            growth.deliver(sorted(growth.made), growth.made, error)

    def _let_go(self, growth: Growth, why: str) -> None:
        """Ask no more of a growth's children, and cut those in flight."""
        self._unqueue(growth)
        for ask in [a for a in self.asks if a.growth is growth]:
            self._hang_up(ask, why)

    def close(self, growth: Growth, why: Why) -> None:
        """Deliver the children that are there; where there are none, those cut in flight; else Stop."""
        self._let_go(growth, why)
        growth.over = True
        alive = growth.made or growth.cut
        if len(growth.pending) and alive:
            self.record.cut.append(f"{growth.key}: {len(growth.pending)} of {growth.op.n} branches not asked ({why})")
        growth.deliver(sorted(alive), alive, None if alive else Stop(why))

    def _hang_up(self, ask: _Ask, why: str) -> None:
        self.asks.pop(ask).cancel()
        for index in sorted(ask.open):
            if ask.begun:
                self._lose(ask, index, why)
            else:  # the model never heard of it
                self.purse.settle(ask.hold, Spend())

    def lose_all(self, why: str) -> None:
        """The run ends at once: what is in flight is lost, and recorded as such where that is still possible."""
        for ask in list(self.asks):
            with contextlib.suppress(PonderaError):
                self._hang_up(ask, why)


def _forced(op: Expand) -> tuple[str, str]:
    """What of an op's forced text is thinking, and what is answer."""
    return spoken("" if op.say else dialogue(op.node)[1], op.force) if op.force else ("", "")


def all_failed(causes: Sequence[BaseException]) -> PonderaError:
    if len(causes) == 1 and isinstance(causes[0], PonderaError):
        return causes[0]
    reasons = list(dict.fromkeys(_NESTED.sub("", str(cause)) for cause in causes))
    if causes and all(isinstance(cause, Unsupported) for cause in causes):  # a strategy may know another way
        return Unsupported(reasons[0])
    return BranchesFailed(f"All {len(causes)} branches failed: {'; '.join(reasons[:3])}", causes)
