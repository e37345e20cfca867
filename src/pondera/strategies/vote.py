"""Many answers, one choice: self-consistency (Wang et al. 2022, arXiv 2203.11171), weighted votes, and best-of-N (Cobbe et al. 2021,
arXiv 2110.14168).

The votes may be cast by chains of thought, by programs, or by both: they fail in different ways, so a mix of them knows more.
"""

from __future__ import annotations

import math
from collections import defaultdict

from pondera.errors import BadInput
from pondera.ops import Key, Offer, Score, both
from pondera.strategies.think import chains, programs
from pondera.thought import Thought


async def vote(
    root: Thought,
    *,
    n: int = 8,
    over: str = "both",
    by: str = "",
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Thought:
    """The answer that most of `n` branches give, each vote weighted by the verifier `by` where one is named.

    The confidence is its share of the votes that `n` branches would have: one that failed or was lost has not spoken for it.
    """
    pool = await branches(root, n, over, temperature, max_tokens)
    keys = await Key(tuple(pool))
    winner, share = elect(pool, keys, [1.0] * len(pool))
    await Offer(winner, share * len(pool) / n)
    if by:
        scores = await Score(tuple(pool), by)
        if known := [score for score in scores if score is not None]:
            middling = sum(known) / len(known)  # no opinion is not a low one
            winner, share = elect(pool, keys, [middling if score is None else score for score in scores])
            await Offer(winner, share * len(pool) / n)
    return winner


async def best_of(
    root: Thought,
    *,
    n: int = 8,
    over: str = "both",
    by: str = "confidence",
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Thought:
    """The one of `n` branches that the verifier `by` thinks most of."""
    pool = await branches(root, n, over, temperature, max_tokens)
    whole = [node for node, key in zip(pool, await Key(tuple(pool)), strict=True) if key is not None] or pool
    await Offer(surest(whole))
    scores = await Score(tuple(whole), by)
    judged = [(score, node) for score, node in zip(scores, whole, strict=True) if score is not None]
    best = max(judged, key=lambda pair: (pair[0], trust(pair[1]), pair[1].reply), default=None)
    return best[1] if best else surest(whole)


async def branches(root: Thought, n: int, over: str, temperature: float, max_tokens: int) -> list[Thought]:
    """`n` answers, those that survived."""
    if n < 1:
        raise BadInput(f"n={n} asks for nothing: give 1 branch or more.")
    if over not in ("chains", "programs", "both"):
        raise BadInput(f"over={over!r}: the branches are 'chains', 'programs' or 'both'.")
    coded = {"chains": 0, "programs": n, "both": n // 2}[over]
    parts = []
    if coded < n:
        parts.append(chains(root, n - coded, temperature, max_tokens))
    if coded:
        parts.append(programs(root, coded, temperature, max_tokens))
    return [node for part in await both(*parts) for node in part]


def elect(pool: list[Thought], keys: list[str | None], weights: list[float]) -> tuple[Thought, float]:
    """The heaviest key's most trusted node, and that key's share of all weight, that of abstentions too.

    Ties go by trust, then by key: never by order.
    """
    weight: dict[str, float] = defaultdict(float)
    faith: dict[str, float] = defaultdict(float)
    for node, key, one in zip(pool, keys, weights, strict=True):
        if key is not None:
            weight[key] += one
            faith[key] += trust(node)
    if not weight:
        return surest(pool), 0.0
    heaviest = max(weight, key=lambda key: (weight[key], faith[key], key))
    votes = [node for node, key in zip(pool, keys, strict=True) if key == heaviest]
    total = sum(weights)
    return surest(votes), weight[heaviest] / total if total else 0.0


def surest(nodes: list[Thought]) -> Thought:
    """The node that its model trusted most; ties go by what it says."""
    return max(nodes, key=lambda node: (trust(node), node.reply))


def trust(node: Thought) -> float:
    """The geometric mean of the probabilities of a path's tokens: 1 where the model does not tell any."""
    logprobs = [p for step in node.path for p in step.logprobs]
    return math.exp(math.fsum(logprobs) / len(logprobs)) if logprobs else 1.0
