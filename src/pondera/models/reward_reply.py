"""What a reward model's server is asked, and how the numbers that it answers with are read. Pure: no I/O, nothing remembered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pondera.errors import ModelError, Unsupported
from pondera.models.openai_probe import message
from pondera.models.openai_wire import Wire
from pondera.thought import Message, Spend, Thought, dialogue

Endpoint = Literal["pooling", "classify", "score", "rerank"]
TOLD: dict[Endpoint, tuple[str, str]] = {  # where each puts its numbers
    "pooling": ("data", "data"),
    "classify": ("data", "probs"),
    "score": ("data", "score"),
    "rerank": ("results", "relevance_score"),
}
KINDS: dict[str, tuple[Endpoint, ...]] = {
    "auto": ("pooling", "classify", "score", "rerank"),
    "pooling": ("pooling",),
    "classify": ("classify",),
    "score": ("score", "rerank"),
}
MOST_CLASSES = 16  # a longer row is an embedding
HUGE = 1e12  # neither a logit nor a count of tokens is as large


@dataclass(frozen=True, slots=True)
class Way:
    """Where and how a server is asked: an absolute address, and whether turns go as messages or as plain text."""

    url: str
    endpoint: Endpoint
    chat: bool

    def __str__(self) -> str:
        return f"/{self.endpoint}" + (" with the server's chat template" if self.chat else " with plain text, no chat template")

    def body(self, turns: Sequence[Message], answer: str) -> dict[str, Any]:
        if self.chat:
            messages = [*(message(t) for t in turns), {"role": "assistant", "content": answer}]
            return {"messages": messages, "add_generation_prompt": False}
        asked = "\n\n".join(t.content for t in turns if t.role != "system")
        match self.endpoint:
            case "score":
                return {"text_1": asked, "text_2": answer}
            case "rerank":
                return {"query": asked, "documents": [answer]}
            case _:
                return {"input": f"{asked}\n\n{answer}"}


def ways(base: str, kind: str) -> list[Way]:
    """All ways of a kind, the best first. These paths stand beside /v1 on some servers, and below it on others."""
    return [
        Way(f"{root}/{endpoint}", endpoint, chat)
        for endpoint in KINDS[kind]
        for chat in ((True, False) if endpoint in ("pooling", "classify") else (False,))
        for root in dict.fromkeys((base.removesuffix("/v1"), base))
    ]


@dataclass(frozen=True, slots=True)
class Told:
    """What a server said of one answer: rows of numbers, and whether the one row speaks of the whole answer."""

    rows: list[list[float]]
    whole: bool


def read(said: dict[str, Any], endpoint: Endpoint, wire: Wire, name: str) -> Told:
    """The numbers of one answer. Raises ModelError for anything else, Unsupported for an embedding."""
    outer, inner = TOLD[endpoint]
    found = said.get(outer)
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict) or inner not in found[0]:
        raise ModelError(f"The server at {wire.host} gave no single {inner!r} under /{endpoint}: check that {name} is a reward model.")
    value = found[0][inner]
    nested = isinstance(value, list) and all(isinstance(row, list) for row in value)
    rows = value if nested else [value if isinstance(value, list) else [value]]
    if any(len(row) > MOST_CLASSES for row in rows):
        raise Unsupported(
            f"The server at {wire.host} gives embeddings, not scores: serve {name} as a reward model "
            "(vLLM: --runner pooling --convert classify), or name one that is."
        )
    for x in (x for row in rows for x in row or [None]):
        if not is_number(x):
            raise ModelError(f"The server at {wire.host} gave {wire.clean(repr(x))[:40]} where a score belongs: check its log.")
    return Told([[float(x) for x in row] for row in rows], not nested)


def parts(node: Thought) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The turns before the one that a node ends, and that one's steps: the texts of its thoughts."""
    first = node.turn[0]
    turns, _ = dialogue(first.parent or first, first.said)
    return turns, tuple(one.text for one in node.turn if one.text.strip())


def marked(steps: Sequence[str], mark: str) -> str:
    """The answer, the mark after each step. Steps are untrusted: a mark of their own would be scored as one more step."""
    if not mark:
        return steps[0] if len(steps) == 1 else "\n\n".join(step.strip() for step in steps)
    clean = (" ".join(part for part in step.strip().split(mark) if part.strip()) for step in steps)
    return "".join(step + mark for step in clean)


def size(turns: Sequence[Message], answer: str) -> int:
    """In bytes of UTF-8."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in (*(t.content for t in turns), answer))


def bill(said: dict[str, Any], asked: int) -> Spend:
    """The prompt's tokens as the server counts them, else estimated at four of `asked` bytes each."""
    usage = said.get("usage")
    for name in ("prompt_tokens", "total_tokens"):
        count = usage.get(name) if isinstance(usage, dict) else None
        if isinstance(count, int) and not isinstance(count, bool) and 0 < count < HUGE:
            return Spend(prompt=count)
    return Spend(prompt=math.ceil(asked / 4), estimated=True)


def softmax(row: Sequence[float], place: int) -> float:
    """The probability of the class at a place: the row is probabilities already, or logits."""
    if all(0 <= x <= 1 for x in row) and abs(math.fsum(row) - 1) < 0.01:
        return row[place]
    most = max(row)
    return math.exp(row[place] - most) / math.fsum(math.exp(x - most) for x in row)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < HUGE  # false for NaN too
