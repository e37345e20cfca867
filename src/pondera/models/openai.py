"""Any server that speaks the OpenAI API: vLLM, SGLang, Ollama, llama.cpp, DeepSeek, OpenAI.

A call asks for n children at once where that is exact: the server takes `n`, and no child must be cut before the others. A child that is
to end at a step, at a stop string that the server would strip without a word, or at a cap on its thinking has a call of its own, which is
closed at that place. What a child cost in tries that broke is part of its bill and of its `max_tokens`, so no budget is ever passed.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pondera.errors import BadInput, ModelError, ModelUnavailable, PonderaError, Unsupported
from pondera.models.openai_bias import offsets
from pondera.models.openai_call import Caller, Child, Emit, Event, Request
from pondera.models.openai_probe import PROBE_ASKED, PROBE_BOUND, PROBE_OPEN, PROBE_TOKENS, WAYS, Server, Way, message, open_prompt
from pondera.models.openai_reply import Reply
from pondera.models.openai_usage import Usage
from pondera.models.openai_wire import Broken, Refused, Wire
from pondera.ops import Expand
from pondera.ports import Failure, Sample
from pondera.thought import CLOSE, OPEN, Price, Question, Spend, dialogue, musing, root_of

DEFAULT_URL = "https://api.openai.com/v1"
RESERVED = {"model", "messages", "prompt", "n", "stream", "stream_options", "max_tokens", "max_completion_tokens"}


class OpenAI:
    """A model behind an OpenAI-compatible server.

    `base_url` ends where `/chat/completions` begins (default: OPENAI_BASE_URL, else OpenAI's own); `api_key` defaults to OPENAI_API_KEY.
    `concurrency` caps the requests in flight, `retries` the times that a request is made again after 408, 409, 429, 5xx or a broken
    connection, and `timeout` the seconds without a byte. `extra` is put into each request as it is. `findings` tells in words what the
    server was found to do. Raises BadInput for an address, key or number that cannot be used.
    """

    exact = False

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
        extra: Mapping[str, Any] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not model.strip():
            raise BadInput("The model's name is empty: give the name that the server knows it by.")
        if retries < 0:
            raise BadInput("retries must be 0 or more.")
        if taken := sorted(RESERVED & set(extra or {})):
            raise BadInput(f"extra cannot set {', '.join(taken)}: Pondera sets that itself.")
        key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self.name = model
        self.price = price
        self._wire = Wire(base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL, key, concurrency, timeout)
        self._server = Server()
        self._caller = Caller(model, self._wire, self._server, retries, dict(extra or {}), sleep)
        self._unbilled = Spend()  # what probes cost, until a child bears it

    def __repr__(self) -> str:
        return f"OpenAI({self.name!r}, server={self._wire.host!r})"

    @property
    def findings(self) -> dict[str, str]:
        """What the server was found to do, by subject."""
        return dict(self._server.findings)

    def prompt_bound(self, op: Expand) -> int:
        """No token is shorter than a byte; each message costs its template; the first continuation is probed for."""
        turns, reply = dialogue(op.node, op.say)
        begun = reply + op.force
        size = Request(op, turns, begun).bytes()
        return (
            size + 64 * (len(turns) + bool(begun)) + 64 + self._unbilled.prompt + (PROBE_BOUND if begun and self._server.way is None else 0)
        )

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self._wire.close()

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncGenerator[Event, None]:
        """See :class:`pondera.ports.Model`. Raises Unsupported where the server cannot continue the partial answer."""
        if op.until == "verdict":
            raise Unsupported("A server has no adapter that says whether an answer is right: use another verifier, such as learned.")
        if op.until == "latent":
            raise Unsupported("A server shows no hidden states: use another strategy than latent, or the torch model.")
        if op.n != len(seeds) or op.n < 1 or op.max_tokens < 1:
            raise BadInput("A call needs at least one child, a seed for each, and max_tokens of at least 1.")
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        task = asyncio.create_task(self._grow(op, seeds, events.put_nowait))
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _grow(self, op: Expand, seeds: Sequence[int], emit: Emit) -> None:
        """All children: as many as can be in one call, the rest each in a call of its own."""
        turns, reply = dialogue(op.node, op.say)
        begun = reply + op.force
        if op.thinking == 0 and musing(begun):
            begun = closed(begun)
        request = await self._opened(Request(op, turns, bias=await self._bias(op)), begun)
        limit = min(op.max_tokens, op.until) if isinstance(op.until, int) else op.max_tokens
        children = [Child(i, seed, limit, self._caller.reply(request, i, limit)) for i, seed in enumerate(seeds)]
        self._unpaid(children[0])
        samples: list[Sample] = []

        def give(event: Event) -> None:
            if isinstance(event, Sample):
                samples.append(event)
            emit(event)

        batch = op.until != "step" and op.thinking is None and (not op.stop or self._server.tells_stop)
        left = children
        if len(children) > 1 and batch and self._server.takes_n:
            left = await self._together(request, children, give)
        async with asyncio.TaskGroup() as group:
            for child in left:
                group.create_task(self._alone(request, child, give))
        alone = [s.text for s in samples if s.index in {c.index for c in left}]
        if op.temperature > 0 and len(alone) > 1 and len(set(seeds)) > 1 and len(set(alone)) == 1 and len(alone[0]) >= 24:
            self._server.findings["seed"] = "sampling is suspicious: branches with different seeds came back the same, letter for letter"

    async def _together(self, request: Request, children: list[Child], emit: Emit) -> list[Child]:
        """One call for all; answers the children that it left without an end."""
        try:
            await self._caller.ask(request, children, emit)
        except PonderaError as error:
            for child in children:
                emit(self._ended(request, child, None if child.reply.finish else error))
            return []
        left = [c for c in children if not c.reply.finish and not c.reply.failure]
        for child in children:
            if child not in left:
                emit(self._ended(request, child))
        return left

    async def _alone(self, request: Request, child: Child, emit: Emit) -> None:
        """One call, or several, for one child."""
        try:
            child.reply = self._caller.reply(request, child.index, child.limit)
            await self._caller.ask(request, [child], emit)
            if child.reply.overthought:
                await self._force(request, child, emit)
            emit(self._ended(request, child))
        except PonderaError as error:
            emit(self._ended(request, child, error))

    def _ended(self, request: Request, child: Child, error: PonderaError | None = None) -> Sample | Failure:
        """A child's end: a sample where its reply came to one, else a failure with what it cost."""
        op, reply = request.op, child.reply
        bill = reply.bill(self._caller.prompt(request)) if reply.touched else Spend()
        if bill.estimated:
            self._server.findings["usage"] = "usage is not counted by the server for every call: such figures are estimated"
        if reply.exceeded or bill.tokens > child.limit:
            self._server.findings["max_tokens"] = "the server generates more than max_tokens: the text is cut, and the true count billed"
        if error is None and reply.failure:
            error = ModelError(reply.failure)
        if error is not None or reply.finish is None:
            return Failure(
                child.index, error or ModelError("The server ended without an answer: ask again."), self._whole_bill(child, bill)
            )
        finish = reply.finish
        if finish == "length" and isinstance(op.until, int) and op.until <= op.max_tokens:
            finish = "tokens"
        return child.sample(finish, bill)

    def _whole_bill(self, child: Child, bill: Spend) -> Spend:
        whole = child.lost + bill
        return replace(whole, calls=1) if whole.tokens or whole.prompt else whole

    async def _bias(self, op: Expand) -> dict[str, float]:
        try:
            return await offsets(self._wire, self._server, self.name, op.bias)
        except (Refused, Broken) as failure:
            raise self._caller.exhausted(failure, 1) from failure

    async def _opened(self, request: Request, begun: str) -> Request:
        """The request with an open assistant turn, in the way that works here. Raises Unsupported where none does."""
        if not begun:
            return request
        async with self._wire.here().probing:
            if self._server.way is None:
                await self._probe()
        way = self._server.way
        if way is None or way == "none":
            raise Unsupported(
                f"The server at {self._wire.host} cannot continue a partial answer: use a strategy that does not need that, "
                "which are cot, program, vote and best_of, or another server (vLLM, llama.cpp)."
            )
        return await self._in_way(request, begun, way)

    async def _in_way(self, request: Request, begun: str, way: Way) -> Request:
        """The request with its open turn; the template is applied by the server."""
        prompt: Any = ""
        if way == "template":
            root = self._wire.base.removesuffix("/v1")
            body = {"messages": [message(t) for t in request.turns]}
            try:
                prompt = (await self._wire.ask("POST", f"{root}/apply-template", body)).get("prompt")
            except Refused as refusal:
                raise await self._caller.refused(refusal) from refusal
            except Broken as broken:
                raise self._caller.exhausted(broken, 1) from broken
            if not isinstance(prompt, str):
                raise self._wire.garbage("no prompt where a template was to be applied")
            prompt = open_prompt(prompt, begun)
        return replace(request, begun=begun, way=way, echo=begun if self._server.echoes else "", prompt=prompt)

    async def _probe(self) -> None:
        """Try each way of continuing once; remember the first that works, or that none does. The cost waits for the next bill."""
        op = Expand(root_of(Question(PROBE_ASKED)), max_tokens=PROBE_TOKENS, temperature=0.0)
        for way in WAYS:
            child = Child(0, 0, PROBE_TOKENS, Reply(0, PROBE_TOKENS, plain=True))
            request = Request(op, PROBE_ASKED)
            try:
                request = await self._in_way(request, PROBE_OPEN, way)
                await self._caller.ask(request, [child], lambda _: None)
            except ModelError as error:
                if answered_no(error, way):
                    continue
                raise
            finally:
                self._unbilled += child.lost + (child.reply.bill(self._caller.prompt(request)) if child.reply.touched else Spend())
            if self._server.find(child.reply.text, child.reply.thinking, way):
                return
        self._server.way = "none"
        self._server.findings["continuation"] = "the server cannot continue a partial answer"

    def _unpaid(self, child: Child) -> None:
        """Put what probes cost on a child's bill and take it off what the child may still generate; what does not fit waits on."""
        spent = self._unbilled
        now = replace(spent, thinking=0, answer=min(spent.tokens, child.limit - 1))
        rest = spent.tokens - now.answer
        self._unbilled = Spend(answer=rest, estimated=spent.estimated) if rest else Spend()
        child.charge(now)

    async def _force(self, request: Request, child: Child, emit: Emit) -> None:
        """The thinking went beyond its cap and was cut: close it, and have the answer follow."""
        self._server.findings["thinking"] = "the cap on thinking is ignored by the server: the stream is cut and the answer forced"
        thought = child.reply
        child.charge(thought.bill(self._caller.prompt(request)))
        child.before = thought
        child.reply = Reply(child.index, 1, usage=Usage(0, 0, 0), finish="length", closed=True, ended=True)
        if child.limit < 1:
            return
        inside = musing(request.begun)
        begun = closed(request.begun + thought.thinking) if inside else closed(f"{OPEN}\n{thought.thinking.strip()}") + request.begun
        try:
            forced = await self._opened(replace(request, op=replace(request.op, thinking=0)), begun)
            self._unpaid(child)
            child.reply = self._caller.reply(forced, child.index, child.limit, math.inf)
            await self._caller.ask(forced, [child], emit)
        except Unsupported:
            self._server.findings["thinking"] = "the cap on thinking is ignored by the server: the stream is cut, and there is no answer"


def closed(begun: str) -> str:
    """An open turn whose thought is ended here."""
    return f"{begun.rstrip()}\n{CLOSE}\n\n"


def answered_no(error: ModelError, way: Way) -> bool:
    """Whether an error means that the server does not know this way, rather than that it did not answer."""
    cause = error.__cause__
    if not isinstance(cause, Refused):
        return way == "template" and not isinstance(error, ModelUnavailable)
    return cause.status in (400, 405, 422, 500, 501) or (cause.status == 404 and way == "template")
