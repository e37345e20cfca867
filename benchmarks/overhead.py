"""What the runtime itself costs: microseconds an op, with a model that answers at once.

    python benchmarks/overhead.py

Counts every op that a strategy awaits: expands of one token, keys, offers, chance, looks at the budget; with the ledger in memory and
in a SQLite file.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from pondera.ledger import Ledger, create
from pondera.ops import Expand, Key, Left, Offer, Rng, both
from pondera.ports import Sample
from pondera.runtime import Run
from pondera.thought import Budget, Price, Question, Spend, Thought

ROUNDS, WORKERS = 200, 10
OPS = ROUNDS * WORKERS * 5


class Instant:
    """A model that costs nothing."""

    name = "instant"
    price: Price | None = Price()
    exact = True

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Sample]:
        for index, _ in enumerate(seeds):
            yield Sample(index, "42", "done", Spend(prompt=10, answer=1, calls=1), ids=(42,), logprobs=(-0.1,))

    def prompt_bound(self, op: Expand) -> int:
        return 10

    async def close(self) -> None: ...


async def busy(root: Thought) -> Thought:
    async def work() -> Thought:
        for _ in range(ROUNDS):
            await Rng()
            await Left()
            [node] = await Expand(root, 1, max_tokens=4)
            await Key((node,))
            await Offer(node)
        return node

    return (await both(*(work() for _ in range(WORKERS))))[0]


async def keyer(question: Question, texts: Sequence[str]) -> list[str | None]:
    return list(texts)


def measure(ledger: Ledger) -> float:
    """Microseconds an op."""
    run = Run(models={"think": Instant()}, keyer=keyer, budget=Budget(tokens=1e9, seconds=600))
    began = time.perf_counter()
    asyncio.run(run.solve(Question.of("?"), busy, ledger=ledger))
    took = time.perf_counter() - began
    ledger.close()
    return took / OPS * 1e6


def main() -> None:
    for name in ("memory", "run.db", "run.jsonl"):
        figures = []
        for _ in range(5):
            with tempfile.TemporaryDirectory() as folder:
                figures.append(measure(Ledger() if name == "memory" else create(Path(folder) / name)))
        print(f"{name:10} {sorted(figures)[2]:6.1f} microseconds an op (median of 5, {min(figures):.1f} to {max(figures):.1f}; {OPS} ops)")


if __name__ == "__main__":
    main()
