"""A thin OpenAI-compatible server in front of one Pondera model, so that every strategy, ours or another's, thinks with the same weights.

    python benchmarks/peers_server.py --model qwen2.5-coder-0.5b --port 8140

POST /v1/chat/completions takes `n`, `max_tokens` and `max_completion_tokens` (the latter counts), `temperature`, `top_p`, `seed`, `stop`
(stripped, unless `include_stop_str_in_output`), `logprobs` and `stream`. An assistant message at the end is continued, unless
`continue_final_message` is false. Fields that it does not know are ignored, as vLLM does; tools and formats of responses are refused.
GET /v1/models lists the one model, GET /tally what was billed since the start (peers_meter.py).
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import asdict
from typing import Any

import uvicorn
from peers_meter import Tally
from peers_wire import LARGEST, Child, Refusal, Reply, parsed, read, refused, sse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from pondera.errors import PonderaError
from pondera.plan import open_model
from pondera.ports import Failure, Model, Piece, Sample


class Watched:
    """An engine that remembers the jobs it was given: they tell log-probabilities as they come, which pieces do not."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.jobs: list[Any] = []

    def submit(self, jobs: list[Any]) -> list[Any]:
        self.jobs = self.engine.submit(jobs)
        return self.jobs

    @property
    def cached(self) -> int:
        """Tokens of the prompt that were found in the cache, as far as is known."""
        return min((job.cached for job in self.jobs if job.cached is not None), default=0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


class Server:
    """One model, its tally, and the source of the seeds that requests leave out."""

    def __init__(self, model: Model, seed: int = 0) -> None:
        self.model, self.tally, self.rng = model, Tally(), random.Random(seed)
        self.engine: Any = getattr(model, "_engine", None)

    async def grow(self, reply: Reply) -> AsyncGenerator[Child, None]:
        """Each child whenever there is more of it. What was generated is billed whatever happens."""
        model, engine = self.model, None
        if self.engine is not None:
            model, engine = copy.copy(self.model), Watched(self.engine)
            model._engine = engine  # type: ignore[attr-defined]
        said = model.sample(reply.asked.op, reply.asked.seeds)
        self.tally.open += 1
        cached: list[int] = []
        try:
            async for one in said:
                child = reply.children[one.index]
                match one:
                    case Piece(_, text, tokens):
                        child.add(text, tokens)
                        if engine:
                            child.tell(engine.jobs[child.index])
                    case Failure(_, error, spend):
                        child.tokens = max(child.tokens, spend.tokens)
                        raise error
                    case Sample():
                        child.end(one)
                        cached.append(one.spend.cached)
                reply.cached = engine.cached if engine else min(cached, default=0)
                yield child
        finally:
            await said.aclose()  # type: ignore[attr-defined]
            self.tally.open -= 1
            self.tally.add(len(reply.children), reply.prompt, reply.cached, reply.completion)

    async def chat(self, request: Request) -> Response:
        try:
            raw = await request.body()
            if len(raw) > LARGEST:
                raise Refusal(f"The request is larger than {LARGEST:,} bytes.", status=413)
            asked = read(parsed(raw), self.model, self.rng)
            reply = Reply(asked, self.model.prompt_bound(asked.op), [Child(i, asked.op.stop, asked.keep_stop) for i in range(asked.op.n)])
            head = {"id": f"chatcmpl-{self.rng.getrandbits(64):016x}", "created": int(time.time()), "model": self.model.name}
            events = self.grow(reply)
            if asked.stream:
                first = await anext(events)  # what is refused at once still gets a status of its own
                return StreamingResponse(self.stream(reply, head, first, events), media_type="text/event-stream")
            async for _ in events:
                pass
            choices = [self.choice(reply, child) for child in reply.children]
            return JSONResponse(head | {"object": "chat.completion", "choices": choices, "usage": reply.usage()})
        except (Refusal, PonderaError) as error:
            refusal = refused(error)
            return JSONResponse(refusal.body, refusal.status)

    async def stream(self, reply: Reply, head: dict[str, Any], first: Child, events: AsyncGenerator[Child, None]) -> AsyncIterator[str]:
        asked, head = reply.asked, head | {"object": "chat.completion.chunk"}
        live = self.engine is not None or not asked.logprobs  # else log-probabilities are known at the end alone
        try:
            child: Child | None = first
            while child is not None:
                new = child.fresh() if live or child.finish else None
                if new is not None:
                    more, tokens = new
                    choice = {"index": child.index, "delta": {"role": "assistant", "content": more}, "finish_reason": child.finish}
                    choice |= {"logprobs": self.told(tokens)} if asked.logprobs else {}
                    choice |= {"stop_reason": child.met} if child.finish else {}
                    yield sse(head | {"choices": [choice]} | ({"usage": reply.usage()} if asked.usage_each else {}))
                child = await anext(events, None)
            if asked.usage:
                yield sse(head | {"choices": [], "usage": reply.usage()})
            yield "data: [DONE]\n\n"
        except PonderaError as error:
            yield sse(refused(error).body)
        finally:
            await events.aclose()

    def choice(self, reply: Reply, child: Child) -> dict[str, Any]:
        logprobs = self.told(child.logprobs) if reply.asked.logprobs else None
        said = {"role": "assistant", "content": child.text}
        return {"index": child.index, "message": said, "finish_reason": child.finish, "stop_reason": child.met, "logprobs": logprobs}

    def told(self, tokens: list[tuple[int, float]]) -> dict[str, Any]:
        """Log-probabilities in the API's shape, and the tokens' ids."""
        spell = self.engine.words.decode if self.engine is not None else lambda ids: ""
        each: list[dict[str, Any]] = [
            {"token": spell([i]), "id": i, "logprob": round(p, 6), "bytes": None, "top_logprobs": []} for i, p in tokens
        ]
        return {"content": each}

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": self.model.name, "object": "model", "owned_by": "pondera"}]})

    async def billed(self, request: Request) -> Response:
        return JSONResponse(asdict(self.tally))


def app(model: Model, seed: int = 0) -> Starlette:
    """The server as an ASGI application. `seed` is where the seeds come from that requests leave out."""
    server = Server(model, seed)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", server.chat, methods=["POST"]),
            Route("/v1/models", server.models),
            Route("/tally", server.billed),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--port", type=int, default=8140)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    uvicorn.run(app(open_model(given.model), given.seed), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
