"""Calls: what is asked for which children, until it ends, whatever the server or the network does on the way."""

from __future__ import annotations

import difflib
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from pondera.errors import ContextOverflow, ModelError, ModelUnavailable, Unsupported
from pondera.models.openai_bias import MEND, refuses_bias
from pondera.models.openai_probe import Server, Way, chat, overflows
from pondera.models.openai_reply import Reply, settle
from pondera.models.openai_usage import Usage, usage_of
from pondera.models.openai_wire import Broken, Refused, Wire, pause
from pondera.ops import Expand
from pondera.ports import Failure, Piece, Sample
from pondera.thought import Finish, Message, Spend, musing

Event = Piece | Sample | Failure
Emit = Callable[[Event], None]
DOWN_RETRIES = 2  # a server that is not there is not waited for long


@dataclass(slots=True)
class Child:
    """One child: its seed, the tokens that it may still cost, what broken tries cost, and its reply so far."""

    index: int
    seed: int
    limit: int
    reply: Reply
    lost: Spend = field(default_factory=Spend)
    before: Reply | None = None  # its thinking, where that was cut and the answer forced

    def charge(self, spend: Spend) -> None:
        """Book what was generated for nothing, out of what it may cost."""
        self.lost += spend
        self.limit -= spend.tokens

    def sample(self, finish: Finish, bill: Spend) -> Sample:
        parts = [p for p in (self.before, self.reply) if p is not None]
        precise = all(p.precise for p in parts)
        logprobs = tuple(x for p in parts for x in p.logprobs) if precise else ()
        ids = tuple(x for p in parts for x in p.ids) if precise else ()
        thinking = "".join(p.thinking for p in parts)
        spend = replace(self.lost + bill, calls=1)
        ids = ids if len(ids) == len(logprobs) else ()
        return Sample(self.index, self.reply.text, finish, spend, thinking, ids, logprobs)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: the op, its turns, and the open assistant turn with the way to continue it."""

    op: Expand
    turns: tuple[Message, ...]
    begun: str = ""
    way: Way | None = None
    echo: str = ""
    prompt: str = ""  # rendered, for /completions
    bias: Mapping[str, float] = field(default_factory=dict)  # offsets of logits by token

    def bytes(self) -> int:
        """The length of all the turns in UTF-8."""
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in (*(t.content for t in self.turns), self.begun))


@dataclass(slots=True)
class Caller:
    """Makes calls to one server as one model. `sleep` waits between tries."""

    name: str
    wire: Wire
    server: Server
    retries: int
    extra: dict[str, Any]
    sleep: Callable[[float], Awaitable[None]]

    def prompt(self, request: Request) -> int:
        """The prompt's tokens, estimated at four bytes each beside what the template was seen to add."""
        return math.ceil(request.bytes() / 4) + self.server.template

    def reply(self, request: Request, index: int, limit: int, budget: float | None = None) -> Reply:
        op = request.op
        cap = budget if budget is not None else math.inf if op.thinking is None else op.thinking
        begun, inside = request.begun, musing(request.begun)
        assumed = not begun and self.server.opens and op.thinking != 0
        return Reply(
            index,
            limit,
            op.stop,
            op.until == "step",
            cap,
            request.echo,
            plain=bool(begun) and not inside,
            swapped=bool(begun) and not inside and self.server.swaps,
            inside=inside or assumed,
            assumed=assumed,
        )

    async def ask(self, request: Request, children: list[Child], emit: Emit) -> None:
        """Make one call until it ends: without what the server refuses, and again after what passes.

        A call for several children comes back after a break in the middle, or where n is refused, with some of them unfinished.
        """
        tries = 0
        while True:
            body = self._body(request, children)
            failure: Refused | Broken
            try:
                await self._stream(request, body, children, emit)
                return
            except Refused as refusal:
                if self.server.adapt(refusal, body):
                    if len(children) > 1 and not self.server.takes_n:
                        return
                    continue
                if request.bias and refuses_bias(refusal, self.server):
                    raise Unsupported(f"The server at {self.wire.host} refuses a logit bias: {MEND}") from refusal
                if not refusal.transient or refusal.code == "insufficient_quota":
                    raise await self.refused(refusal) from refusal
                failure = refusal
            except Broken as broken:
                failure = broken
            tries += 1
            midway = any(c.reply.touched for c in children)
            self.bear(failure, tries)
            for child in children:
                self._restart(request, child)
            await self.sleep(pause(tries, failure.retry_after))
            if midway and len(children) > 1:
                return

    def _restart(self, request: Request, child: Child) -> None:
        """Book what a broken try cost, and begin the child anew."""
        if child.reply.finish or child.reply.failure:
            return
        if child.reply.touched:
            child.charge(child.reply.bill(self.prompt(request)))
        child.reply = self.reply(request, child.index, child.limit)
        if child.limit < 1:
            raise ModelError("The connection broke so often that the child's max_tokens were used up: check the server or the network.")

    def _body(self, request: Request, children: list[Child]) -> dict[str, Any]:
        limit = min(c.limit for c in children)
        body = self.server.body(self.name, request.op, len(children), children[0].seed, limit, self.extra)
        if request.bias:
            body["logit_bias"] = dict(request.bias)
        if request.way == "template":
            body["prompt"] = request.prompt
            if "logprobs" in body:
                body["logprobs"] = 1
            return body
        return body | chat(request.turns, request.begun, request.way)

    async def _stream(self, request: Request, body: dict[str, Any], children: list[Child], emit: Emit) -> None:
        """One try: feed what comes to the children's replies. Raises Refused or Broken."""
        path = "/completions" if request.way == "template" else "/chat/completions"
        replies = [c.reply for c in children]
        sums: list[Usage] = []
        ends: list[Usage] = []
        order: list[int] = []
        async with self.wire.here().slots, aclosing(self.wire.events(path, body)) as events:
            try:
                async for event in events:
                    choices = choices_of(event, self.wire)
                    for choice in choices:
                        place = choice.get("index", 0)
                        if not isinstance(place, int) or not 0 <= place < len(replies):
                            continue
                        for piece in replies[place].feed(choice):
                            emit(piece)
                        if replies[place].closed and place not in order:
                            order.append(place)
                    if (usage := usage_of(event.get("usage"))) is not None:
                        if len(replies) == 1 or not choices or "message" in choices[0]:
                            sums.append(usage)
                        elif any(c.get("finish_reason") for c in choices):
                            ends.append(usage)
                    if all(cut(r) for r in replies):
                        break
            except Broken:
                if not all(r.closed for r in replies):
                    raise
        settle(replies, sums or ends, order)
        if counted := max((r.usage.prompt for r in replies if r.usage), default=0):
            self.server.template = max(self.server.template, counted - math.ceil(request.bytes() / 4))
        self._learn(children)

    def _learn(self, children: list[Child]) -> None:
        """Count what came back from a call that ended as it should."""
        replies = [c.reply for c in children]
        self.server.tells_stop = self.server.tells_stop or any(r.tells for r in replies)
        if any(r.unopened for r in replies):
            self.server.opens = True
            self.server.findings["thought"] = "the thought is opened by the server's template: it is told apart by its closing tag"
        silent = [r for r in replies if not r.touched and not r.closed]
        if len(replies) > 1 and 0 < len(silent) < len(replies):
            self.server.ignores_n("ignored")
        if any(not r.closed for r in replies if r.touched) or len(silent) == len(replies):
            raise Broken("cut")

    async def refused(self, refusal: Refused) -> ModelError:
        """What a refusal for good means, and its mend."""
        said = f" It says: {refusal.message}" if refusal.message else ""
        host = self.wire.host
        if overflows(refusal):
            return ContextOverflow(f"The conversation does not fit into the context of {self.name}: shorten it or lower max_tokens.{said}")
        match refusal.status:
            case 401 | 403:
                return ModelUnavailable(
                    f"The server at {host} refuses the key: set OPENAI_API_KEY or api_key to one that may use it.{said}"
                )
            case 404:
                return ModelUnavailable(f"The server at {host} does not know {self.name!r}: {await self._nearest()}.{said}")
            case 402 | 429:
                return ModelUnavailable(f"The quota at {host} is used up: raise it or use another key.{said}")
            case status:
                return ModelError(f"The server at {host} refuses the request (HTTP {status}): change what it names.{said}")

    async def _nearest(self) -> str:
        """The mend for an unknown name: the nearest that the server knows."""
        try:
            listed = (await self.wire.ask("GET", f"{self.wire.base}/models")).get("data")
            names = [self.wire.clean(str(m["id"]))[:80] for m in listed or []][:1000]
        except (Refused, Broken, ModelError, TypeError, KeyError):
            names = []
        if not names:
            return "check the model's name and base_url (often it ends in /v1)"
        near = difflib.get_close_matches(self.name, names, 1, 0.3)
        return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names[:5])}"

    def bear(self, failure: Refused | Broken, tries: int) -> None:
        """Raises what comes of a failure after which no other try is made."""
        down = isinstance(failure, Broken) and failure.kind == "down"
        if tries > (min(self.retries, DOWN_RETRIES) if down else self.retries):
            raise self.exhausted(failure, tries) from failure

    def exhausted(self, failure: Refused | Broken, tries: int) -> ModelError:
        """The last error of all tries."""
        host, times = self.wire.host, f"{tries} tries" if tries > 1 else "one try"
        match failure:
            case Broken("down"):
                return ModelUnavailable(f"The server at {host} cannot be reached: start it or check base_url.")
            case Broken("stall"):
                return ModelError(
                    f"The server at {host} sent nothing for {self.wire.timeout:g} seconds, in {times}: check it or raise timeout."
                )
            case Broken():
                return ModelError(f"The server at {host} broke the connection, in {times}: check its log.")
            case Refused(429):
                return ModelUnavailable(f"The server at {host} is overloaded (HTTP 429) after {times}: ask less at once or later.")
            case Refused(status, said):
                words = f" It says: {said}" if said else ""
                return ModelUnavailable(f"The server at {host} fails (HTTP {status}) after {times}: check its log or ask later.{words}")


def cut(reply: Reply) -> bool:
    """Whether it was ended here rather than by the server, so that nothing that the server still sends matters."""
    return reply.closed and not reply.ended


def choices_of(event: dict[str, Any], wire: Wire) -> list[dict[str, Any]]:
    choices = event.get("choices")
    if choices is None and ("usage" in event or "id" in event or "object" in event):
        return []
    if not isinstance(choices, list) or not all(isinstance(c, dict) for c in choices):
        raise wire.garbage("events of another shape")
    return choices
