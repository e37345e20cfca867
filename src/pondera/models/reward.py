"""A reward model behind a server: a model that answers with numbers, one for each step of a reasoning path or one for all of it.

An outcome reward model (ORM; Cobbe et al. 2021, arXiv 2110.14168) scores a whole answer; a process reward model (PRM; Lightman et al.
2023, arXiv 2305.20050) scores each step, reading what precedes it. vLLM serves both under `/pooling`, sequence classifiers under
`/classify` too, cross-encoders under `/score` and `/rerank`; other servers have one or the other.

What is asked is `Expand(node, by="reward", max_tokens=1)`: the turn that the node ends is what is scored, each of its thoughts one step.
The sample is a JSON list of probabilities, one for each step, or a single one where the model scores the whole answer. Nothing is
generated: the bill is the prompt. So budget, retries, record, replay and cancelling are the runtime's, as for any model.

Found out by asking, with the first answer that is to be scored, and remembered: the endpoint; whether it applies the chat template; the
token at which a PRM scores a step; and what a lone number means. A row of two or more numbers is the probabilities of classes, or logits
that softmax makes probabilities. A lone number is asked for a second time without the server's activation (`use_activation`): if it
differs, it is a logit, and the sigmoid is taken here in double precision, since in the server's single precision every reward above 17
becomes 1. If it does not differ, it is a probability where it lies between 0 and 1, and else a logit.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from pondera.errors import BadInput, ModelError, ModelUnavailable, PonderaError
from pondera.models.openai_call import Caller
from pondera.models.openai_probe import Server, overflows
from pondera.models.openai_wire import Broken, Refused, Wire, pause
from pondera.models.reward_reply import KINDS, Told, Way, bill, marked, parts, read, sigmoid, size, softmax, ways
from pondera.ops import Expand
from pondera.ports import Failure, Sample
from pondera.thought import Message, Price, Spend

MARKS = ("", "<extra_0>")  # after each step, where nobody names one: none, and that of Qwen's PRMs
PROBES = len(MARKS) + 1  # requests that the first answer may be billed for: each mark, and a lone number's second
UNKNOWN = re.compile(r"model.*(not exist|not found|unknown)|(unknown|no such|invalid) model", re.I)


class Reward:
    """A reward model behind a server.

    `base_url` is the server's address, with or without `/v1` (default: OPENAI_BASE_URL); `api_key` defaults to OPENAI_API_KEY. `step` is
    the token at whose place the model scores a step; None has it found out. `kind` is the endpoint: "pooling", "classify", "score" (or
    rerank), or "auto". `good` is the place of the class that means right, where there are several. The rest is as for the OpenAI model.
    `findings` tells in words what the server was found to do. Raises BadInput for an address, key, name or number that cannot be used.
    """

    exact = True  # nothing is generated, so a cancelled call owes no tokens

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        price: Price | None = None,
        concurrency: int = 32,
        retries: int = 5,
        timeout: float = 120.0,
        step: str | None = None,
        kind: str = "auto",
        good: int = -1,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        base = base_url or os.environ.get("OPENAI_BASE_URL")
        if not model.strip() or not base:
            raise BadInput("A reward model needs a name and a server: write NAME@URL, as in prm@http://localhost:8000.")
        if kind not in KINDS:
            raise BadInput(f"kind={kind!r} is no endpoint of a reward model: use {', '.join(KINDS)}.")
        if retries < 0 or step == "":
            raise BadInput("retries must be 0 or more, and step a token or None.")
        self.name = model
        self.price = price
        self.findings: dict[str, str] = {}
        self._wire = Wire(base, api_key or os.environ.get("OPENAI_API_KEY") or "none", concurrency, timeout)
        self._caller = Caller(model, self._wire, Server(), retries, {}, sleep)
        self._kind, self._good, self._given = kind, good, step is not None
        self._marks = MARKS if step is None else (step,)
        self._way: Way | None = None
        self._raw = False  # the server is asked for logits
        self._logits: bool | None = None  # what a lone number is
        self._settled = False

    def __repr__(self) -> str:
        return f"Reward({self.name!r}, server={self._wire.host!r})"

    def prompt_bound(self, op: Expand) -> int:
        """No token is shorter than a byte; each message costs its template; the first answers may be asked about several times."""
        turns, steps = parts(op.node)
        marks = len(steps) * max(len(mark.encode()) + 2 for mark in self._marks)
        return (size(turns, "".join(steps)) + marks + 64 * (len(turns) + 2)) * (1 if self._settled else PROBES)

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._wire.close()

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncGenerator[Sample | Failure, None]:
        """See :class:`pondera.ports.Model`: the text is a JSON list of probabilities. Children are alike, so one pays for all."""
        bills: list[Spend] = []
        error: PonderaError | None = None
        scores: list[float] = []
        try:
            turns, steps = parts(op.node)
            if not steps:
                raise ModelError("There is nothing to score: the branch has no text.")
            async with nullcontext() if self._settled else self._wire.here().probing:
                scores = await self._scores(turns, steps, bills)
        except Refused as refusal:
            error = await self._caller.refused(refusal)
        except PonderaError as fault:
            error = fault
        for i in range(op.n):
            spend = sum(bills, Spend()) if i == 0 else Spend()
            yield Failure(i, error, spend) if error else Sample(i, json.dumps(scores), "done", replace(spend, calls=1))

    async def _scores(self, turns: Sequence[Message], steps: Sequence[str], bills: list[Spend]) -> list[float]:
        """A probability for each step, or one for the whole answer; what each request cost is put into `bills`."""
        counts: list[int] = []
        for mark in self._marks:
            answer = marked(steps, mark)
            told = await self._told(turns, answer, bills)
            if not told.whole and self._is_every_token(told, bills[-1]):  # the last token has read the whole answer
                told = Told(told.rows[-1:], True)
            counts.append(len(told.rows))
            if not told.whole and counts[-1] != len(steps):
                continue
            if self._logits is None and len(told.rows[0]) == 1:
                told = await self._meaning(told, turns, answer, bills)
            scores = [self._probability(row) for row in told.rows]
            at = f", at {mark!r}" if mark else ""
            self.findings["steps"] = "one score for the whole answer" if told.whole else f"one score for each step{at}"
            self._marks, self._settled = (mark,), True
            return scores
        raise ModelError(
            f"{self.name} gave {' and '.join(map(str, counts))} scores for {len(steps)} steps: name the token at which it scores a step "
            "(Reward(step=...)), and the server that token's id (vLLM: step_tag_id in --pooler-config)."
        )

    def _is_every_token(self, told: Told, cost: Spend) -> bool:
        """Whether there is a lone number for each token of the prompt: an outcome model that is served without its last pooling."""
        lone = all(len(row) == 1 for row in told.rows)
        return lone and not self._given and not cost.estimated and len(told.rows) == cost.prompt > 1

    async def _told(self, turns: Sequence[Message], answer: str, bills: list[Spend]) -> Told:
        """What the server says, in the way that is known to work or else in the first that does. Raises Refused or ModelError."""
        refusal: Refused | None = None
        absent: set[str] = set()
        for way in (self._way,) if self._way else ways(self._wire.base, self._kind):
            if way.url in absent:
                continue
            try:
                said = await self._ask(way.url, way.body(turns, answer))
            except Refused as refused:
                gone = refused.status in (404, 405, 501) and not UNKNOWN.search(refused.message)
                if self._way or overflows(refused) or not (gone or refused.status in (400, 422)):
                    raise
                absent |= {way.url} if gone else set()
                refusal = refusal if gone else refusal or refused
                continue
            bills.append(bill(said, size(turns, answer)))
            told = read(said, way.endpoint, self._wire, self.name)
            self._way = way
            self.findings["endpoint"] = str(way)
            return told
        if refusal is not None:
            raise refusal
        raise ModelUnavailable(
            f"The server at {self._wire.host} has no {' and no '.join(f'/{e}' for e in KINDS[self._kind])}: serve {self.name} as a reward "
            "model (vLLM: --runner pooling), or check base_url."
        )

    async def _ask(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """One request, made again after what passes. Raises Refused for what does not."""
        body = {"model": self.name, **body, **({"use_activation": False} if self._raw else {})}
        tries = 0
        while True:
            failure: Refused | Broken
            try:
                async with self._wire.here().slots:
                    return await self._wire.ask("POST", url, body)
            except Refused as refusal:
                if not refusal.transient or refusal.status == 501 or refusal.code == "insufficient_quota":
                    raise
                failure = refusal
            except Broken as broken:
                failure = broken
            tries += 1
            self._caller.bear(failure, tries)
            await self._caller.sleep(pause(tries, failure.retry_after))

    async def _meaning(self, told: Told, turns: Sequence[Message], answer: str, bills: list[Spend]) -> Told:
        """Whether a lone number is a logit; answers logits where the server can give them."""
        logits = not all(0 <= x <= 1 for row in told.rows for x in row)
        if not logits:
            self._raw = True
            try:
                raw = await self._told(turns, answer, bills)
                rows = raw.rows[-1:] if told.whole else raw.rows
                logits = any(abs(b - a) > 0.02 for old, new in zip(told.rows, rows, strict=True) for a, b in zip(old, new, strict=True))
                told = Told(rows, told.whole)
            except Refused:  # it takes no such parameter
                pass
            finally:
                self._raw = logits
        self._logits = logits
        self.findings["scores"] = "logits, whose sigmoid is the score" if logits else "probabilities, as the server gives them"
        return told

    def _probability(self, row: list[float]) -> float:
        """P(right) of a row. Raises ModelError where `good` names no class."""
        if len(row) == 1:
            if not self._logits and not 0 <= row[0] <= 1:
                self._logits = True
                self.findings["scores"] = "logits, whose sigmoid is the score: the first ones lay between 0 and 1"
            return sigmoid(row[0]) if self._logits else row[0]
        if not -len(row) <= self._good < len(row):
            raise ModelError(f"{self.name} has {len(row)} classes, and good={self._good} is none of them: count from 0.")
        self.findings["scores"] = f"{len(row)} classes, of which good={self._good} means right"
        return softmax(row, self._good)
