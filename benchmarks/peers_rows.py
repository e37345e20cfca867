"""What answers the problems in peers.py: each of optillm's and its_hub's strategies, unchanged, as a user runs them, and ours."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from pondera.errors import PonderaError
from pondera.plan import Plan
from pondera.ports import Model
from pondera.strategies.think import CHAIN
from pondera.thought import Budget, Question, Thought, root_of
from pondera.verifiers.judge import prompt as judged

LINE = ' At the end write a last line of the form "Answer: NUMBER".'
HERE = Path(__file__).parent
PATIENCE = 120.0  # seconds until a process must be ready
Problem = dict[str, Any]
Ask = Callable[[Problem], Awaitable[str]]
Allowance = Callable[[Problem], Budget]


class Failed(Exception):
    """A strategy ended without an answer."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row runs: the server's address and the model's name there, the peers' Python, and what all rows have in common."""

    url: str
    model: str
    python: Path
    system: str
    max_tokens: int
    log: Path


def prompt(problem: Problem) -> str:
    return f"{problem['question']}\n\n{CHAIN}"


# ---------------------------------------------------------------- processes


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def process(command: list[str | Path], log: Path, ready: str = "", **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that lives as long as the block; `ready` is an address that answers once it can be used."""
    with log.open("ab") as file:
        child = await asyncio.create_subprocess_exec(*command, stderr=file, **({"stdout": file} | options))
        try:
            if ready:
                await answers(ready, child, log)
            yield child
        finally:
            if child.returncode is None:
                child.terminate()
            await child.wait()


async def answers(url: str, child: asyncio.subprocess.Process, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    async with httpx.AsyncClient(trust_env=False) as http:
        while time.monotonic() < until and child.returncode is None:
            try:
                if (await http.get(url)).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.2)
    raise SystemExit(f"A process did not become ready at {url}: see {log}.")


def bare(**more: str) -> dict[str, str]:
    """An environment without the keys and proxies of whoever runs this."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | more


@asynccontextmanager
async def served(model: str, seed: int, log: Path) -> AsyncIterator[str]:
    """A fresh server, warmed up with a question of no consequence; answers its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    command: list[str | Path] = [sys.executable, HERE / "peers_server.py", "--model", model, "--port", str(port), "--seed", str(seed)]
    async with process(command, log, f"{url}/models"):
        yield url


# ---------------------------------------------------------------- peers


@asynccontextmanager
async def optillm(place: Place, approach: str, more: str = "", options: tuple[str, ...] = (), **body: Any) -> AsyncIterator[Ask]:
    """optillm's proxy with one approach; `more` is put after the prompt, `body` into each request."""
    port = free_port()
    command: list[str | Path] = [place.python.parent / "optillm", "--approach", approach, "--base-url", place.url]
    command += ["--model", place.model, "--port", str(port), "--log", "error", *options]
    url = f"http://127.0.0.1:{port}"
    async with (
        process(command, place.log, f"{url}/health", env=bare(OPENAI_API_KEY="none"), cwd=place.log.parent),
        httpx.AsyncClient(timeout=3600, trust_env=False) as http,
    ):

        async def ask(problem: Problem) -> str:
            turns = [{"role": "system", "content": place.system}, {"role": "user", "content": prompt(problem) + more}]
            asked = {"model": place.model, "messages": turns, "max_tokens": place.max_tokens, **body}
            try:
                reply = await http.post(f"{url}/v1/chat/completions", json=asked)
            except httpx.TransportError as error:
                raise Failed(f"optillm's proxy broke off: {error!r}")
            if reply.status_code != 200:
                raise Failed(reply.text[:500])
            return str(reply.json()["choices"][0]["message"]["content"] or "")

        yield ask


def optillm_bon(place: Place, *, n: int = 5) -> AbstractAsyncContextManager[Ask]:
    """`n` samples in one request, at temperature 1; then one rating from 0 to 10 of each, one after another."""
    return optillm(place, "bon", options=("--best-of-n", str(n)))


def optillm_majority_voting(place: Place, *, k: int = 5, temperature: float = 0.6) -> AbstractAsyncContextManager[Ask]:
    """`k` samples in one request; the most frequent answer."""
    return optillm(place, "majority_voting", LINE, k=k, temperature=temperature)


def optillm_mcts(place: Place, *, simulations: int = 1, depth: int = 1) -> AbstractAsyncContextManager[Ask]:
    """A tree over turns of a conversation: a simulation samples 3 answers and a user's next query to each, and rates the whole."""
    return optillm(place, "mcts", options=("--mcts-simulations", str(simulations), "--mcts-depth", str(depth)))


@asynccontextmanager
async def its_hub(place: Place, algorithm: str, **options: Any) -> AsyncIterator[Ask]:
    """its_hub's algorithm in a process of its own, which takes problems and gives answers as lines."""
    given = json.dumps({"max_tokens": place.max_tokens, **options})
    command: list[str | Path] = [place.python, HERE / "peers_its_hub.py", place.url, place.model, algorithm, given]
    pipe = asyncio.subprocess.PIPE
    async with process(command, place.log, env=bare(), stdin=pipe, stdout=pipe, limit=1 << 22) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        lines, says = child.stdin, child.stdout

        async def said() -> dict[str, Any]:
            if not (line := await says.readline()):
                raise SystemExit(f"its_hub's process ended: see {place.log}.")
            reply: dict[str, Any] = json.loads(line)
            return reply

        async def ask(problem: Problem) -> str:
            mark = "\0"
            candidate = Thought("0/0", root_of(Question.of(problem["question"])), text=mark)
            before, _, after = judged(candidate).partition(mark)
            lines.write(json.dumps({"prompt": prompt(problem), "before": before, "after": after}).encode() + b"\n")
            reply = await said()
            if reply["error"]:
                raise Failed(reply["error"])
            return str(reply["text"])

        await said()  # that it is ready
        yield ask


def hub_self_consistency(place: Place, *, n: int = 5, temperature: float = 0.6) -> AbstractAsyncContextManager[Ask]:
    """`n` requests at once; the most frequent content of \\boxed."""
    return its_hub(place, "self_consistency", n=n, temperature=temperature)


def hub_best_of_n(place: Place, *, n: int = 5, temperature: float = 0.6) -> AbstractAsyncContextManager[Ask]:
    """`n` requests at once, then a rating of each by its LLMJudge, all at once."""
    return its_hub(place, "best_of_n", n=n, temperature=temperature)


def hub_beam_search(
    place: Place, *, n: int = 4, width: int = 2, temperature: float = 0.8, max_steps: int = 32, step: int = 0
) -> AbstractAsyncContextManager[Ask]:
    """Beam search over steps: `n` paths, the best `width` of them go on. Steps end at blank lines, or have `step` tokens each."""
    return its_hub(place, "beam_search", n=n, width=width, temperature=temperature, max_steps=max_steps, step=step)


def hub_particle_filtering(
    place: Place, *, n: int = 4, temperature: float = 0.8, max_steps: int = 32, step: int = 0
) -> AbstractAsyncContextManager[Ask]:
    """Particle filtering over steps, with `n` particles. Steps end at blank lines, or have `step` tokens each."""
    return its_hub(place, "particle_filtering", n=n, temperature=temperature, max_steps=max_steps, step=step)


PEERS = {
    f.__name__: f
    for f in (
        optillm_bon,
        optillm_majority_voting,
        optillm_mcts,
        hub_self_consistency,
        hub_best_of_n,
        hub_beam_search,
        hub_particle_filtering,
    )
}


# ---------------------------------------------------------------- ours


def ours(model: Model, strategy: str, allowed: Allowance, seed: int) -> Ask:
    plan = Plan(model=model.name, strategy=strategy)
    thinking = plan.strategy_of()

    async def ask(problem: Problem) -> str:
        try:
            answer = await plan.run({"think": model}, allowed(problem), seed).solve(Question.of(problem["question"]), thinking)
        except PonderaError as error:
            raise Failed(f"{type(error).__name__}: {error}")
        return answer.thought.reply

    return ask
