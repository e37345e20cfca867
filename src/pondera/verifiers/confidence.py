r"""How sure the model was of its own words: exp of a mean log-probability, over the reply or over its weakest or last part.

With :math:`\ell_i` the log-probability of the i-th generated token and windows G of `window` tokens that slide by one,

    mean    exp( mean over all i of l_i )                       the geometric mean of the tokens' probabilities
    lowest  exp( min over G of mean over i in G of l_i )         one weak passage spoils a chain
    tail    exp( mean over the last `window` tokens of l_i )     the answer is at the end

as in DeepConf (Fu et al. 2025, arXiv 2508.15260), with one difference: there a token's confidence is the negative mean log-probability
of the *k likeliest* tokens at its place, whichever was drawn, which grows with how peaked the distribution is and has no upper bound.
Servers and the embedded engine tell the chosen token's log-probability alone, so we use that: it has the scale of a probability, and it
also counts whether a likely token was drawn. The paper's windows are of 1,024 to 2,048 tokens for chains of tens of thousands; the
default here fits chains of some hundred. A reply shorter than the window is one window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from pondera.errors import BadInput
from pondera.ops import Verifier
from pondera.thought import Thought

How = Literal["mean", "lowest", "tail"]
LEAST = -100.0  # of a log-probability: servers clip too, and one token of probability 0 must not hide all others


def confidence(how: How = "mean", window: int = 64) -> Verifier:
    """Mean probability of the reply's tokens, as the model gave them.

    `how` is "mean", "lowest" (weakest window) or "tail" (last window), `window` in tokens. Scores are in (0, 1]; None for a reply
    without log-probabilities. Raises BadInput for another `how` or a window below 1.

    Paper: DeepConf, Fu et al. 2025 (arXiv 2508.15260).
    """
    if how not in ("mean", "lowest", "tail"):
        raise BadInput(f"Unknown sort of confidence {how!r}: use 'mean', 'lowest' or 'tail'.")
    if window < 1:
        raise BadInput(f"A window of {window} tokens holds nothing: give at least 1.")

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        return [_score(logprobs(node), how, window) for node in nodes]

    return verifier


def lowest(window: int = 64) -> Verifier:
    """Mean probability of the tokens in the reply's weakest window.

    Paper: DeepConf, Fu et al. 2025 (arXiv 2508.15260).
    """
    return confidence("lowest", window)


def tail(window: int = 64) -> Verifier:
    """Mean probability of the reply's last tokens.

    Paper: DeepConf, Fu et al. 2025 (arXiv 2508.15260).
    """
    return confidence("tail", window)


def logprobs(node: Thought) -> list[float]:
    """Of all tokens that were generated since the last user turn; what tools and forced beginnings put there has none."""
    parts: list[tuple[float, ...]] = []
    for step in reversed(node.path):
        parts.append(step.logprobs)
        if step.said:
            break
    return [min(0.0, max(LEAST, value)) for part in reversed(parts) for value in part if not math.isnan(value)]


def _score(values: Sequence[float], how: How, window: int) -> float | None:
    if not values:
        return None
    if how == "mean" or len(values) <= window:
        return _probability(sum(values) / len(values))
    if how == "tail":
        return _probability(sum(values[-window:]) / window)
    sums = [0.0, *accumulate(values)]
    return _probability(min(high - low for low, high in zip(sums, sums[window:], strict=False)) / window)


def _probability(mean: float) -> float:
    return math.exp(min(0.0, mean))
