"""What an event of the protocol tells, read with care: texts, tokens and counts may each be missing or of another shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counts them; `reasoning` is the part of `completion` that was thought, None where it does not say."""

    prompt: int
    cached: int
    completion: int
    reasoning: int | None = None


def whole(text: str) -> str:
    """Text whose surrogate pairs, split between two events, are joined again, and whose lone halves are replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def said(delta: Mapping[str, Any], name: str) -> str:
    value = delta.get(name)
    return value if isinstance(value, str) else ""


def tokens_of(told: Any) -> list[tuple[int | None, float]]:
    """Ids (where told) and log-probabilities, in the shape of chat or of completions; nothing where any is missing."""
    if not isinstance(told, dict):
        return []
    if isinstance(content := told.get("content"), list):
        pairs = [(t.get("id"), t.get("logprob")) for t in content if isinstance(t, dict)]
    else:
        pairs = [(None, p) for p in flat] if isinstance(flat := told.get("token_logprobs"), list) else []
    told_all = [(i if isinstance(i, int) else None, float(p)) for i, p in pairs if isinstance(p, int | float) and math.isfinite(p)]
    return told_all if len(told_all) == len(pairs) else []


def usage_of(told: Any) -> Usage | None:
    """A usage object, or None where it makes no sense. Servers that count reasoning beside the completion are told by their total."""

    def number(source: Any, name: str) -> int | None:
        value = source.get(name) if isinstance(source, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    prompt, completion = number(told, "prompt_tokens"), number(told, "completion_tokens")
    if prompt is None or completion is None:
        return None
    cached = number(told.get("prompt_tokens_details"), "cached_tokens") or 0
    reasoning = number(told.get("completion_tokens_details"), "reasoning_tokens")
    if reasoning and number(told, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    return Usage(prompt, cached, completion, reasoning)
