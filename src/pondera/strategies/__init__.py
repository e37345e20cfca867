"""Ways to think. Each is one short async function over the ops; its keyword arguments are its configuration."""

from __future__ import annotations

from typing import Any

from pondera import parse
from pondera.ops import Strategy
from pondera.strategies.think import cot, program
from pondera.strategies.vote import best_of, vote

STRATEGIES = parse.registry({"best_of": best_of, "cot": cot, "program": program, "vote": vote}, "pondera.strategies")

__all__ = ["STRATEGIES", "best_of", "cot", "program", "strategy", "vote"]


def strategy(text: str, **defaults: Any) -> Strategy:
    """The strategy that a text such as `vote(n=8)` names. Raises BadInput with the nearest right name or argument."""
    return parse.call(text, STRATEGIES, "strategy", **defaults)
