r"""Two ways to think on the same problems: is one better? Paired by problem, since problems differ far more than ways to think do.

The difference of means has a bootstrap interval over problems. Its p-value under "no difference" is that of the exact McNemar test
(McNemar 1947) where every problem is right or wrong: with b and c the problems that only one of the two gets right,
:math:`p = \min(1, 2 \sum_{i \le \min(b, c)} \binom{b+c}{i} 2^{-(b+c)})`; else that of random sign flips of the differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pondera.allocate.curve import Floats
from pondera.intervals import Interval, mean

FLIPS = 10_000
DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Paired:
    """A's and B's means over `problems`, B minus A, how likely so large a difference is by chance, and who alone is right how often."""

    problems: int
    a: float
    b: float
    difference: Interval
    p: float
    only_a: int
    only_b: int


def paired(a: Floats, b: Floats, seed: int = 0) -> Paired:
    """Compare scores from 0 to 1, problem by problem; both of shape [problems], one at least."""
    gap, rng = b - a, np.random.default_rng(seed)
    difference = mean(gap, DRAWS, rng)
    only_a, only_b = int((gap < 0).sum()), int((gap > 0).sum())
    plain = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    p = mcnemar(only_a, only_b) if plain else _flips(gap, rng)
    return Paired(len(gap), float(a.mean()), float(b.mean()), difference, p, only_a, only_b)


def mcnemar(b: int, c: int) -> float:
    """Exact, two-sided."""
    n = b + c
    return min(1.0, 2 * math.fsum(math.comb(n, i) / 2**n for i in range(min(b, c) + 1)))


def _flips(gap: Floats, rng: np.random.Generator) -> float:
    """The share of random signs that make the mean at least as far from 0, the one that was seen counted in."""
    seen = abs(gap.sum()) * (1 - 1e-12)
    far = sum(int((abs(rng.choice((-1.0, 1.0), (100, len(gap))) @ gap) >= seen).sum()) for _ in range(FLIPS // 100))
    return (far + 1) / (FLIPS + 1)
