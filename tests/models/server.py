"""A scripted OpenAI-compatible server on loopback, which can misbehave in the ways that servers and networks do."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route


class Cut(Exception):
    """The connection breaks here."""


@dataclass
class Script:
    """How the server behaves. `tokens(body, child)` are the chunks that a child says; `faults` are given out first, one a request.

    A fault is a Response, the text "cut:K" (the connection breaks after K chunks) or "stall" (nothing is ever sent).
    """

    tokens: Callable[[dict[str, Any], int], list[str]] = lambda body, child: ["Hello", " wor", "ld"]
    thoughts: list[str] = field(default_factory=list)
    thought_field: str = "reasoning_content"
    finish: str = "stop"
    faults: list[Response | str] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    ignores_n: bool = False
    obeys_limit: bool = True
    usage: str = "sum"  # "sum", "each" (llama.cpp), "none"
    details: dict[str, Any] = field(default_factory=dict)
    logprobs: bool = False
    continues: set[str] = field(default_factory=set)  # "continue_final_message", "prefix", "trailing", "template"
    echoes: bool = False
    swaps: bool = False
    tells_stop: bool = False
    forever: bool = False
    models: list[str] = field(default_factory=lambda: ["little-model", "large-model"])
    vocabulary: dict[str, list[int]] | None = None  # what /tokenize tells
    faults_of_tokenizer: list[Response] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The requests that were no probes."""
        return [b for b in self.bodies if not probe(b)]

    async def __call__(self, request: Request) -> Response:
        path = request.url.path
        self.paths.append(path)
        self.keys.append(request.headers.get("authorization", ""))
        if path == "/v1/models":
            return JSONResponse({"data": [{"id": m} for m in self.models]})
        body = await request.json()
        if path == "/apply-template":
            if "template" not in self.continues:
                return JSONResponse({"error": {"message": "not here"}}, 404)
            return JSONResponse({"prompt": "".join(f"<{m['role']}>{m['content']}" for m in body["messages"]) + "<assistant>"})
        if path == "/tokenize":
            if self.faults_of_tokenizer:
                return self.faults_of_tokenizer.pop(0)
            if self.vocabulary is None:
                return JSONResponse({"detail": "Not Found"}, 404)
            return JSONResponse({"tokens": self.vocabulary.get(body.get("content" if self.usage == "each" else "prompt", ""), [])})
        self.bodies.append(body)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Response):
            return fault
        for name in sorted(self.refuses):
            if name in body or name in (body.get("stream_options") or {}):
                return refuse(400, f"Unknown parameter: '{name}'.")
        return StreamingResponse(self.stream(body, fault or ""), media_type="text/event-stream")

    async def stream(self, body: dict[str, Any], fault: str) -> AsyncIterator[bytes]:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            sent = 0
            async for event in self.events(body):
                if fault == "stall":
                    await asyncio.sleep(3600)
                if fault == f"cut:{sent}":
                    raise Cut
                yield b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\r\n\r\n"
                sent += 1
                await asyncio.sleep(0)
            yield b"data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.gone.set()
            raise
        finally:
            self.busy -= 1

    async def events(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        legacy = "prompt" in body
        n = 1 if self.ignores_n else body.get("n", 1)
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        limit = limit if self.obeys_limit else 10**9
        total = 0
        for child in range(n):
            thoughts, texts = self.reply(body, child)
            said = [(t, True) for t in thoughts] + [(t, False) for t in texts]
            shown = said[:limit]
            met = next((s for s in body.get("stop", []) if s in "".join(t for t, k in shown if not k)), None)
            if met:
                text = "".join(t for t, k in shown if not k).split(met)[0]
                shown = [(t, True) for t in thoughts] + [(text, False)]
            counted = len(shown)
            if not legacy:
                yield event({"index": child, "delta": {"role": "assistant", "content": None}, "finish_reason": None})
            for text, thinks in shown:
                name = self.thought_field if thinks or self.swaps else "content"
                told = {"content": [{"id": 7, "token": text, "logprob": -0.25}]} if self.logprobs and body.get("logprobs") else None
                said_in = {"text": text} if legacy else {"delta": {name: text}}
                yield event({"index": child, **said_in, "logprobs": told, "finish_reason": None})
            while self.forever:
                await asyncio.sleep(0.005)
                yield event({"index": child, "delta": {"content": " on"}, "finish_reason": None})
            reason = "length" if len(said) > limit and not met else self.finish
            over = {"index": child, "delta": {}, "finish_reason": reason}
            if self.tells_stop:
                over["stop_reason"] = met
            yield event(over)
            total += counted
            if self.usage == "each":
                yield {"choices": [], "usage": self.told(counted)}
        if self.usage == "sum" and "stream_options" in body:
            yield {"choices": [], "usage": self.told(total)}

    def told(self, completion: int) -> dict[str, Any]:
        return {"prompt_tokens": 50, "completion_tokens": completion, "total_tokens": 50 + completion} | self.details

    def reply(self, body: dict[str, Any], child: int) -> tuple[list[str], list[str]]:
        """What a child says, depending on whether its open turn is understood as one."""
        begun = begun_in(body)
        thoughts = [] if "</think>" in begun else self.thoughts
        if not begun or "prompt" in body:
            said = ['{"a"', ": 1", ","] if probe(body) and "prompt" not in body else [",", ' "c"', ": 3"] if probe(body) else []
            return thoughts, said or self.tokens(body, child)
        last = body["messages"][-1]
        ways = {"trailing"} | {w for w in ("prefix",) if last.get(w)} | {w for w in ("continue_final_message",) if body.get(w)}
        if not ways & self.continues:
            return thoughts, ["{", '"a"', ":", " 1", ","] if probe(body) else ["Once", " more", " from", " the", " start"]
        goes_on = [",", ' "c"', ": 3"] if probe(body) else self.tokens(body, child)
        return ([] if probe(body) else thoughts), [begun + goes_on[0], *goes_on[1:]] if self.echoes else goes_on


def begun_in(body: dict[str, Any]) -> str:
    """The open assistant turn of a request."""
    if "prompt" in body:
        return str(body["prompt"].rpartition("<assistant>")[2])
    last = body["messages"][-1]
    return str(last["content"]) if last["role"] == "assistant" else ""


def probe(body: dict[str, Any]) -> bool:
    return begun_in(body) == '{"a": 1, "b": 2'


def event(choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice]}


def refuse(status: int, message: str, **more: Any) -> Response:
    headers = more.pop("headers", None)
    return JSONResponse({"error": {"message": message, **more}}, status, headers)


def raw(text: str, kind: str = "text/event-stream", status: int = 200) -> Response:
    return PlainTextResponse(text, status, media_type=kind)


@dataclass
class Address:
    """A running server: its address, and the script that the next requests follow."""

    url: str
    script: Script = field(default_factory=Script)


@contextmanager
def running() -> Iterator[Address]:
    """A server in a thread, for as long as the block runs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = Address(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")

        async def answer(request: Request) -> Response:
            return await address.script(request)

        app = Starlette(routes=[Route("/{rest:path}", answer, methods=["GET", "POST"])])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            threading.Event().wait(0.01)
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join(10)
