"""Thinking time as a third scaling axis for any language model.

import pondera
answer = pondera.solve_sync("What is 17 * 24?", strategy="vote(n=8)", budget=pondera.Budget(tokens=2000))
print(answer.key, answer.confidence, answer.spend.tokens)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pondera.ledger import Ledger
    from pondera.models.fake import Fake
    from pondera.ops import Both, Call, Expand, Key, Left, Offer, Rng, Score, both
    from pondera.plan import open_model, solve, solve_sync
    from pondera.ports import Failure, Model, Piece, Sample
    from pondera.runtime import Run
    from pondera.strategies import strategy
    from pondera.thought import Answer, Budget, Message, Price, Question, Spend, Thought

_HOME = {
    "Answer": "thought",
    "Both": "ops",
    "Budget": "thought",
    "Call": "ops",
    "Expand": "ops",
    "Failure": "ports",
    "Fake": "models.fake",
    "Key": "ops",
    "Ledger": "ledger",
    "Left": "ops",
    "Message": "thought",
    "Model": "ports",
    "Offer": "ops",
    "Piece": "ports",
    "Price": "thought",
    "Question": "thought",
    "Rng": "ops",
    "Run": "runtime",
    "Sample": "ports",
    "Score": "ops",
    "Spend": "thought",
    "Thought": "thought",
    "both": "ops",
    "open_model": "plan",
    "solve": "plan",
    "solve_sync": "plan",
    "strategy": "strategies",
}

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Both",
    "Budget",
    "Call",
    "Expand",
    "Failure",
    "Fake",
    "Key",
    "Ledger",
    "Left",
    "Message",
    "Model",
    "Offer",
    "Piece",
    "Price",
    "Question",
    "Rng",
    "Run",
    "Sample",
    "Score",
    "Spend",
    "Thought",
    "both",
    "open_model",
    "solve",
    "solve_sync",
    "strategy",
]


def __getattr__(name: str) -> Any:
    """Names come from their modules when they are first used, so that importing pondera is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'pondera' has no attribute {name!r}")
    value = getattr(import_module(f"pondera.{_HOME[name]}"), name)
    globals()[name] = value
    return value
