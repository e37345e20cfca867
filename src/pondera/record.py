"""The record of a run in the making: what the ledger already holds, what is added to it, and the answer folded from both."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pondera.errors import LedgerDrift, LedgerError, PonderaError
from pondera.events import Dropped, Event, Grown, Keyed, Offered, Watch
from pondera.ledger import VERSION, Ledger, Row, bills, effective
from pondera.ops import Both, Expand, Key, Left, Offer, Op, Rng, Score
from pondera.plain import fingerprint, question_to_json, thought_from_json
from pondera.thought import Answer, Budget, Candidate, Question, Spend, Stopped, Thought

FREE = (Both, Left, Offer, Rng)  # ops that are answered at once, out of the order of the world
_FREE = {op.__name__ for op in FREE}


class Record:
    """Rows of the past by key, `order` the keys of ops still to be delivered again, and what the answer is folded from."""

    def __init__(self, ledger: Ledger, watch: Watch) -> None:
        self.ledger, self.listener = ledger, watch
        rows = effective(ledger.rows)
        self.past = {row.key: row for row in rows if row.kind == "op"}
        self.order = deque(key for key, row in self.past.items() if row.body["op"] not in _FREE and not _inside(key, self.past))
        self.noted = {row.key for row in rows if row.kind in ("offer", "drop")}
        self.samples = {row.key: row for row in rows if row.kind == "sample"}
        self.stopped: Stopped | None = next((row.body["why"] for row in rows if row.kind == "stop"), None)
        self.answered = next((row for row in rows if row.kind == "answer"), None)
        self.began = time.monotonic() - max((row.body.get("at", 0.0) for row in ledger.rows), default=0.0)
        self.spent = sum(bills(ledger.rows).values(), Spend())
        self.nodes: dict[str, Thought] = {}
        self.keys: dict[str, str | None] = {}
        self.scores: dict[str, dict[str, float]] = {}
        self.confidence: dict[str, float | None] = {}
        self.best: Thought | None = None
        self.why = ""
        self.cut: list[str] = []

    @property
    def at(self) -> float:
        """Seconds since the run began, those of earlier processes counted in."""
        return round(time.monotonic() - self.began, 4)

    def watch(self, event: Event) -> None:
        """Tell the listener. One that raises ends the run, and hears no more: the run must still be wound up."""
        listener, self.listener = self.listener, _deaf
        listener(event)
        self.listener = listener

    # ------------------------------------------------------------ writing

    def write(self, kind: str, key: str, body: Mapping[str, Any]) -> None:
        self.ledger.append(kind, key, {"at": self.at, **body})

    def open(self, question: Question, budget: Budget, seed: int, models: Mapping[str, str], origin: Mapping[str, Any]) -> None:
        if not self.ledger.rows:
            caps = {name: value for name, value in budget.caps() if math.isfinite(value)}
            body = {"version": VERSION, "question": question_to_json(question), "budget": caps, "seed": seed}
            self.write("run", "0", body | {"models": dict(models), "origin": dict(origin), "time": time.time()})

    def op(self, key: str, op: Op[Any], body: Mapping[str, Any]) -> None:
        """An op was answered."""
        self.write("op", key, {"op": type(op).__name__, "print": fingerprint(op), **body})

    def offer(self, key: str, op: Offer) -> None:
        self.best, self.why = op.node, op.why
        self.confidence[op.node.id] = op.confidence
        if key not in self.noted:
            more = {"others": op.others} if op.others is not None else {}
            self.write("offer", key, {"node": op.node.id, "confidence": op.confidence, **more, **({"why": op.why} if op.why else {})})
        self.watch(Offered(op.node, op.confidence))

    def drop(self, key: str, reason: str, *, write: bool = False) -> None:
        """A branch is given up; a sample's own row says so already, a coroutine's does not."""
        if write and key not in self.noted:
            self.noted.add(key)
            self.write("drop", key, {"reason": reason})
        self.cut.append(f"{key}: {reason}")
        self.watch(Dropped(key, reason))

    def stop(self, why: Stopped) -> None:
        if self.stopped is None:
            self.stopped = why
            self.write("stop", "0", {"why": why})

    # ------------------------------------------------------------ what was, again

    def check(self, key: str, op: Op[Any]) -> bool:
        """Whether the ledger has the answer to this op. Raises LedgerDrift where it has that of another."""
        row = self.past.get(key)
        if row and row.body.get("print") != fingerprint(op):
            raise LedgerDrift(f"The ledger has another {row.body['op']} at {key} than the strategy asks: was one of them changed?")
        return row is not None

    def grown(self, thought: Thought, op: Expand, by: str, spent: Spend) -> None:
        if thought.finish == "loop" or (thought.cut and op.until != "step"):  # a long step is gone on with
            why = ", since it said the same over and over" if thought.finish == "loop" else ""
            self.cut.append(f"{thought.id}: cut off after {thought.tokens} tokens{why}")
        self.watch(Grown(thought, by, spent))

    def children(self, key: str, op: Expand, indices: Sequence[int]) -> list[Thought]:
        """The recorded children of an op, those that were lost or failed noted again."""
        for i in range(op.n):
            row = self.samples.get(f"{key}/{i}")
            if row and row.body["status"] != "answered":
                self.drop(row.key, row.body["error"][1])
        return [self.child(f"{key}/{i}", op) for i in indices]

    def child(self, key: str, op: Expand) -> Thought:
        row = self.samples.get(key)
        if row is None or "finish" not in row.body:
            raise LedgerDrift(f"The ledger lacks the child {key}: restore it from a copy.")
        thought = thought_from_json(key, row.body, op.node)
        self.grown(thought, op, row.body["by"], self.spent)
        return thought

    # ------------------------------------------------------------ the answer

    def know(self, op: Op[Any], value: Any) -> None:
        """Keep what the answer is folded from."""
        if isinstance(op, Key):
            fresh = {node.id: key for node, key in zip(op.nodes, value, strict=True)}
            self.nodes |= {node.id: node for node in op.nodes}
            self.keys |= fresh
            self.watch(Keyed(fresh))
        if isinstance(op, Score):
            for node, score in zip(op.nodes, value, strict=True):
                if score is not None:
                    self.scores.setdefault(node.id, {})[op.by] = score

    def answer(self, node: Thought, spent: Spend) -> Answer:
        candidates = tuple(Candidate(self.nodes[i], key, dict(self.scores.get(i, {}))) for i, key in self.keys.items())
        counts: dict[str, int] = {}
        for candidate in candidates:
            if candidate.key is not None:
                counts[candidate.key] = counts.get(candidate.key, 0) + 1
        votes = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
        key, confidence = self.keys.get(node.id), self.confidence.get(node.id)
        if confidence is None and key is not None and len(candidates) > 1:
            confidence = votes[key] / len(candidates)
        return Answer(
            text=node.reply,
            key=key,
            confidence=confidence,
            thought=node,
            candidates=candidates,
            votes=votes,
            abstentions=len(candidates) - sum(votes.values()),
            spend=replace(spent, seconds=self.at),
            by_role=bills(self.ledger.rows),
            stopped=self.stopped or "done",
            cut=tuple(self.answered.body["cut"] if self.answered else self.cut),  # a replay does not hear of all that failed again
            why=self.why,
        )

    def fail(self, error: PonderaError) -> None:
        """The run ends with an error: what failed at its end is tried again where it is resumed."""
        with contextlib.suppress(LedgerError):  # it may be that very error
            self.write("failed", "0", {"error": [type(error).__name__, str(error)]})

    def close(self, answer: Answer) -> None:
        if not self.answered:
            self.write("answer", "0", {"node": answer.thought.id, **answer.to_dict()})


def _deaf(event: Event) -> None:
    """Hear nothing."""


def _inside(key: str, past: Mapping[str, Row]) -> bool:
    """Whether an op was asked by a verifier whose scores are recorded: those are delivered whole."""
    parts = key.split(".v")
    return any(".v".join(parts[:i]) in past for i in range(1, len(parts)))
