"""A model without weights, for tests: ours and those of Pondera's users.

    Fake(["The answer is \\\\boxed{72}.", ModelError("down")])     replies in turn, the last one for ever; an error fails its branch
    Fake(lambda op, index, seed: f"seed {seed}")                   a reply made of what was asked
    Fake()                                                         chance: short sums, right more often than not, from the seed alone

A token is a word with the white space before it. A reply that begins with `<think>...</think>`, or that goes on inside an open thought
(until `</think>`), is a thinking model's; its tags cost nothing.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from pondera.errors import PonderaError
from pondera.models.thinking import divide
from pondera.ops import Expand
from pondera.ports import Failure, Piece, Sample
from pondera.thought import CLOSE, Finish, Price, Spend, dialogue, musing

Reply = str | PonderaError
Script = Callable[[Expand, int, int], Reply]
STEP = "\n\n"


@dataclass(eq=False)
class Fake:
    """`latency` is in seconds a token. `asked` keeps every op that came, for assertions; `open` counts calls that have not ended."""

    script: Sequence[Reply] | Script | None = None
    name: str = "fake"
    price: Price | None = field(default_factory=Price)
    exact: bool = True
    latency: float = 0.0
    asked: list[Expand] = field(default_factory=list)
    open: int = 0

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
        self.asked.append(op)
        self.open += 1
        try:
            prompt = self.prompt_bound(op)
            for index, seed in enumerate(seeds):
                reply = self._reply(op, index, seed)
                if isinstance(reply, PonderaError):
                    yield Failure(index, reply, Spend(prompt=prompt))
                    continue
                thoughts, words, finish = _cut(op, reply)
                for i, word in enumerate([*thoughts, *words]):
                    await asyncio.sleep(self.latency)
                    yield Piece(index, word, 1, thinking=i < len(thoughts))
                logprobs = tuple(-0.01 * (1 + (seed + i) % 50) for i in range(len(thoughts) + len(words)))
                ids = tuple(len(word) for word in [*thoughts, *words])
                spend = Spend(prompt=prompt, thinking=len(thoughts), answer=len(words), calls=1)
                yield Sample(index, "".join(words), finish, spend, "".join(thoughts), ids, logprobs)
        finally:
            self.open -= 1

    def _reply(self, op: Expand, index: int, seed: int) -> Reply:
        if self.script is None:
            return _chance(op, random.Random(seed))
        if callable(self.script):
            return self.script(op, index, seed)
        turn = sum(past.n for past in self.asked[:-1]) + index
        return self.script[min(turn, len(self.script) - 1)]

    def prompt_bound(self, op: Expand) -> int:
        turns, reply = dialogue(op.node, op.say)
        return sum(len(_words(turn.content)) for turn in turns) + len(_words(reply + op.force))

    async def close(self) -> None: ...


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


def _cut(op: Expand, reply: str) -> tuple[list[str], list[str], Finish]:
    """The words of a reply, those of its thought apart, ended where the op ends it."""
    inside = musing(dialogue(op.node, op.say)[1] + op.force)
    thinking, text, closed = divide(reply, inside)
    thought, finish = _end(op, "".join(_words(thinking)[: op.thinking]))
    if not finish and closed and CLOSE in op.stop and (inside or thinking):
        finish = "done"
    if finish:
        text = ""
    else:
        text, finish = _end(op, text)
    thoughts, words = _words(thought), _words(text)
    most = min(op.until, op.max_tokens) if isinstance(op.until, int) else op.max_tokens
    if len(thoughts) + len(words) > most:
        finish = "tokens" if isinstance(op.until, int) and op.until <= op.max_tokens else "length"
    return thoughts[:most], words[: max(0, most - len(thoughts))], finish or "done"


def _end(op: Expand, text: str) -> tuple[str, Finish | None]:
    """A thought or an answer up to where the op ends it, None where it does not."""
    finish: Finish | None = None
    for stop in op.stop:
        if stop in text:
            text, finish = text[: text.index(stop) + len(stop)], "done"
    if op.until == "step" and STEP in text.strip():
        text, finish = text[: text.index(STEP, len(text) - len(text.lstrip())) + len(STEP)], "step"
    return text, finish


def _chance(op: Expand, rng: random.Random) -> str:
    right = sum(map(int, re.findall(r"\d+", op.node.about.text)[:4]))
    answer = right if rng.random() < 0.6 else right + rng.randint(-3, 3)
    if op.force.startswith("```python"):
        return f"\nprint({answer})\n```"
    if op.until == "verdict":
        return rng.choice(["Yes", "No"])
    if op.by == "judge":
        return rng.choice(["Yes", "Yes", "No", "Perhaps"])
    steps = [" ".join(rng.choices(["so", "then", "we", "add", "carry", "check"], k=rng.randint(3, 12))) for _ in range(rng.randint(1, 4))]
    return STEP.join([*steps, f"The answer is \\boxed{{{answer}}}."])
