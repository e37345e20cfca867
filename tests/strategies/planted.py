"""A problem with a planted path: three steps, each of which is right now and then, and a verifier that can tell.

The greedy path is wrong, and so are nearly all chains; a search that keeps what is right finds 42.
"""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import replace
from functools import partial
from typing import Any

from pondera.errors import ModelError
from pondera.ledger import Ledger
from pondera.models.fake import Fake
from pondera.ops import Expand, Strategy, Verdict
from pondera.runtime import Run
from pondera.thought import Answer, Budget, Thought
from pondera.verifiers import confidence
from tests.test_laws import QUESTION, run_of

STEPS = 3


def script(op: Expand, index: int, seed: int) -> str:
    """Right with a chance of 2 in 5 a step; never right when greedy."""
    rng = random.Random(seed)
    said = op.node.reply if not op.say or op.node.parent is None else ""
    if op.force:
        return "42}.\n" if "wrong" not in said else "7}.\n"
    words = ["right" if op.temperature and rng.random() < 0.4 else "wrong" for _ in range(STEPS - said.count("\n\n"))]
    found = "42" if "wrong" not in [*said.split(), *words] else str(rng.randint(1, 30))
    return "\n\n".join([*(f"{word} so far" for word in words), f"It is \\boxed{{{found}}}."])


async def honest(nodes: tuple[Thought, ...]) -> list[float | None]:
    """What a tool put out is as right as the program."""
    said = [(node.parent or node).reply if node.tool else node.reply for node in nodes]
    return [0.9 if "wrong" not in text else 0.2 for text in said]


async def sure(nodes: tuple[Thought, ...]) -> list[float | None]:
    return [0.0 if "wrong" in node.reply else 1.0 for node in nodes]


async def key42(nodes: tuple[Thought, ...]) -> list[float | None]:
    return [0.95 if "42" in node.reply else 0.05 for node in nodes]


async def telling(nodes: tuple[Thought, ...]) -> list[float | None]:
    return [Verdict(0.4, "41 is off by one.") for _ in nodes]


async def silent(nodes: tuple[Thought, ...]) -> list[float | None]:
    return [None if len(node.reply) % 2 else math.nan for node in nodes]


async def taste(nodes: tuple[Thought, ...]) -> list[float | None]:
    return [{"shiny": 0.6, "dull": 0.4, "mud": 0.1, "gold": 0.9}.get(node.reply.split()[-1], 0.5) for node in nodes]


async def whim(nodes: tuple[Thought, ...]) -> list[float | None]:
    """Some score that no two texts share."""
    return [zlib.crc32(node.reply.encode()) / 2**32 for node in nodes]


async def broken(nodes: tuple[Thought, ...]) -> list[float | None]:
    raise ModelError("the verifier is down")


def search(model: Fake | None = None, budget: Budget | None = None, seed: int = 0, parallel: int = 64) -> Run:
    run = run_of(model, budget, seed, parallel)
    more = {
        "honest": honest,
        "whim": whim,
        "sure": sure,
        "key42": key42,
        "telling": telling,
        "silent": silent,
        "broken": broken,
        "taste": taste,
        "confidence": confidence(),
    }
    return replace(run, verifiers={**run.verifiers, **more})


async def solve(strategy: Strategy, model: Fake | None = None, budget: Budget | None = None, seed: int = 0, **more: Any) -> Answer:
    return await search(model or Fake(script), budget, seed).solve(QUESTION, strategy, **more)


async def found(strategy: Any, seeds: int = 20, **given: Any) -> float:
    """How often a strategy finds the planted path."""
    answers = [await solve(partial(strategy, by="honest", **given), seed=seed) for seed in range(seeds)]
    return sum(answer.key == "42" for answer in answers) / seeds


async def replays(strategy: Strategy, budget: Budget | None = None, seed: int = 3) -> None:
    """The ledger of a run that is replayed gives the same answer, without a model."""
    ledger = Ledger()
    answer = await solve(strategy, Fake(latency=0.0), budget, seed, ledger=ledger)
    again = await search(None, budget, seed).solve(QUESTION, strategy, ledger=Ledger(list(ledger.rows)))
    assert (again.text, again.key, again.confidence, dict(again.votes)) == (answer.text, answer.key, answer.confidence, dict(answer.votes))


def one_way(op: Expand, index: int, seed: int) -> Any:
    """Two first steps, one of which leads nowhere: all of its children fail."""
    if op.force:
        return "5}.\n"
    if not op.node.reply:
        return "good start\n\nmore" if index % 2 else "dead start\n\nmore"
    return ModelError("no way on") if "dead" in op.node.reply else "It is \\boxed{5}."
