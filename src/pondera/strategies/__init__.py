"""Ways to think. Each is one short async function over the ops; its keyword arguments are its configuration."""

from __future__ import annotations

from typing import Any

from pondera import parse
from pondera.ops import Strategy
from pondera.strategies.auto import auto
from pondera.strategies.beam import beam, dvts, lookahead, rebase
from pondera.strategies.cascade import cascade, mixture
from pondera.strategies.forcing import budget_forcing, early_exit
from pondera.strategies.mcts import abmcts, mcts
from pondera.strategies.particles import gibbs, particles
from pondera.strategies.refine import refine, revise
from pondera.strategies.think import cot, few_shot, program
from pondera.strategies.underthinking import steady
from pondera.strategies.vote import best_of, tournament, vote

_OURS = (
    *(cot, few_shot, program, budget_forcing, early_exit, steady),
    *(vote, best_of, tournament, beam, lookahead, dvts, rebase, particles, gibbs),
    *(refine, revise),
    *(mcts, abmcts),
    *(cascade, mixture),
    auto,
)
STRATEGIES = parse.registry({function.__name__: function for function in _OURS}, "pondera.strategies")

__all__ = ["STRATEGIES", "strategy"]


def strategy(text: str, /, **defaults: Any) -> Strategy:
    """The strategy that a text such as `vote(n=8)` names. Raises BadInput with the nearest right name or argument."""
    return parse.call(text, STRATEGIES, "strategy", **defaults)
