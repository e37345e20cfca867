"""Tokens a second of the embedded engine: branches together against one after another, and against llama.cpp's server.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --llama-server PATH/llama-server --gguf MODEL.gguf

Every way answers the same questions with the same prompt text, temperature and cap, in turn within one run, so that the ratio holds on a
machine that others use too. llama.cpp gets as many slots as there are branches, two threads, its prompt cache, and the file named (by
default the very one that the embedded engine reads). Medians over the questions.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from pondera.models import weights
from pondera.models.openvino import OpenVINO
from pondera.ops import Expand
from pondera.ports import Sample
from pondera.strategies.think import CHAIN
from pondera.thought import Question, dialogue, root_of

QUESTIONS = (
    "Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How much did she earn?",
    "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take?",
    "Toulouse has twice as many sheep as Charleston. Charleston has 4 times as many sheep as Seattle. How many sheep do Toulouse, "
    "Charleston, and Seattle have together if Seattle has 20 sheep?",
    "A merchant wants to make a choice of purchase between 2 purchase plans: jewelry worth $5,000 or electronic gadgets worth $8,000. The "
    "jewelry market will go up 2.5% and the gadgets market 1.2% in a month. What is the most profit he can make?",
)
PORT = 8097


@dataclass(frozen=True)
class Figure:
    tokens: int
    seconds: float
    computed: int = 0
    prompt: int = 0

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


async def embedded(model: OpenVINO, question: str, n: int, length: int, together: bool) -> Figure:
    """n branches of one question in one op, or in n ops one after another."""
    root = root_of(Question.of(question))
    op = Expand(root, n if together else 1, say=CHAIN, max_tokens=length, temperature=0.8)
    before, began, tokens = model._engine.computed, time.perf_counter(), 0
    for turn in range(1 if together else n):
        async for one in model.sample(op, [1000 * turn + i for i in range(op.n)]):
            tokens += one.spend.tokens if isinstance(one, Sample) else 0
    took = time.perf_counter() - began
    return Figure(tokens, took, model._engine.computed - before, model.prompt_bound(op))


async def prefill(model: OpenVINO, n: int, salt: int) -> float:
    """Seconds until n branches of a new prompt of some 1,000 tokens have their first token."""
    text = " ".join(f"{salt + i} times {i} is {i * (salt + i)}." for i in range(60))
    began = time.perf_counter()
    async for _ in model.sample(Expand(root_of(Question.of(text)), n, max_tokens=1), range(n)):
        pass
    return time.perf_counter() - began


async def llama(client: httpx.AsyncClient, prompt: str, n: int, length: int) -> Figure:
    """n branches as n requests at once, to a server that was warmed up with another prompt."""

    async def one(seed: int) -> int:
        body = {"prompt": prompt, "n_predict": length, "temperature": 0.8, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": seed}
        reply = await client.post("/completion", json=body | {"cache_prompt": True})
        return int(reply.raise_for_status().json()["tokens_predicted"])

    began = time.perf_counter()
    tokens = sum(await asyncio.gather(*(one(seed) for seed in range(n))))
    return Figure(tokens, time.perf_counter() - began)


async def serve(binary: Path, gguf: Path, n: int, log: Path) -> subprocess.Popen[bytes]:
    arguments = ["-m", str(gguf), "-c", str(1024 * n), "-np", str(n), "-t", "2", "--host", "127.0.0.1", "--port", str(PORT)]
    server = subprocess.Popen([str(binary), *arguments], stdout=log.open("wb"), stderr=subprocess.STDOUT)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}") as client:
        for _ in range(240):
            try:
                if (await client.get("/health")).status_code == 200:
                    return server
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.5)
    server.kill()
    raise SystemExit(f"llama-server did not start: see {log}")


def report(name: str, figures: list[Figure]) -> float:
    rate = statistics.median(figure.rate for figure in figures)
    each = ", ".join(f"{figure.rate:.0f}" for figure in figures)
    print(f"{name:34} {rate:6.1f} tokens/s ({each})")
    return rate


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=weights.DEFAULT)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--gguf", type=Path, help="the file for llama.cpp; the embedded engine's own, if not given")
    given = parser.parse_args()
    model = OpenVINO(given.model)
    turns: dict[str, list[Figure]] = {"together": [], "one after another": [], "llama.cpp": []}
    await embedded(model, "Say hello.", given.n, 16, True)
    server = None
    if given.llama_server:
        server = await serve(given.llama_server, given.gguf or weights.ready(given.model).gguf or Path(), given.n, Path("llama-server.log"))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=600) as client:
            for question in QUESTIONS:
                turns["together"].append(await embedded(model, question, given.n, given.length, True))
                if server:
                    asked = dialogue(root_of(Question.of(question)), CHAIN)[0]
                    prompt = model._engine.words.template([{"role": turn.role, "content": turn.content} for turn in asked])
                    turns["llama.cpp"].append(await llama(client, prompt, given.n, given.length))
                else:
                    turns["one after another"].append(await embedded(model, question, given.n, given.length, False))
    finally:
        if server:
            server.kill()
            server.wait()
    rates = {name: report(name, figures) for name, figures in turns.items() if figures}
    for name, rate in rates.items():
        if name != "together":
            print(f"{given.n} branches together / {name}: {rates['together'] / rate:.2f}")
    ratios = [figure.computed / figure.prompt for figure in turns["together"]]
    print(
        f"prompt tokens computed for {given.n} branches / one prompt: {max(ratios):.2f} at most ({[f.prompt for f in turns['together']]})"
    )
    alone, shared = [], []
    for turn in range(3):
        alone.append(await prefill(model, 1, 1000 + 2 * turn))
        shared.append(await prefill(model, given.n, 1001 + 2 * turn))
    one, many = statistics.median(alone), statistics.median(shared)
    print(f"first token of a new long prompt: 1 branch {one:.2f} s, {given.n} branches {many:.2f} s, ratio {many / one:.2f}")
    await model.close()


if __name__ == "__main__":
    asyncio.run(main())
