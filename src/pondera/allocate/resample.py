r"""What fewer samples would have given: unbiased estimates from a pool of `n` recorded samples, for every k up to n at once.

A strategy that only chooses among samples is a function of a set of them. Its value at k is the mean over all subsets of size k, without
replacement, never the first k of them: those are one draw, and a bootstrap with replacement is biased (Chen et al. 2021, arXiv 2107.03374).

- pass@k, with c of n right: :math:`1 - \binom{n-c}{k} / \binom{n}{k}` (the same paper).
- best-of-k and the slowest of k: the j-th best of n is the best of a subset when it is in it and none of those before it is, which happens
  with :math:`\binom{n-1-j}{k-1} / \binom{n}{k}`. Exact.
- Votes have no such form. They are averaged over random orders of the pool, whose first k are a random subset; the orders are the
  rotations of random permutations, so that every sample stands at every place equally often, and k = 1 and k = n are exact.
- Adaptive stopping draws from the same orders until the leader's lead is sure (Adaptive-Consistency, Aggarwal et al. 2023, arXiv
  2305.11860): with a of the votes for the leader and b for the next, stop when the posterior under a uniform prior has
  :math:`P(p_a > p_b) = P(\mathrm{Bin}(a+b+1, 1/2) \le a)` above a threshold.

Every array runs over k = 1 ... n in its last axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ORDERS = 128  # orders of a pool that votes are averaged over, at least
HAIR = 1e-9  # of the heaviest vote, for each unit of trust: enough to part equals, too little to part others
ROOM = 4_000_000  # numbers in memory at once, while votes are counted


@cache
def missed(n: int) -> Floats:
    """Shape [n + 1, n]: the chance that a subset of size k (column k - 1) of n samples holds none of c certain ones (row c)."""
    held = np.arange(n + 1)[:, None]
    drawn = np.arange(n)[None, :]
    chances = np.cumprod(np.clip((n - held - drawn) / (n - drawn), 0.0, 1.0), axis=1, dtype=np.float64)
    chances.flags.writeable = False
    return chances


def passed(right: Sequence[bool]) -> Floats:
    """pass@k: the chance that a subset of size k has a right one. Shape [n]."""
    found: Floats = 1.0 - missed(len(right))[int(sum(right))]
    return found


def best(values: ArrayLike, scores: ArrayLike) -> Floats:
    """The mean value of that sample of a subset of size k which has the highest score; of equals, each as often. Shape [n]."""
    worth, rank = np.asarray(values, dtype=float), np.asarray(scores, dtype=float)
    order = np.argsort(-rank, kind="stable")
    _, group = np.unique(-rank[order], return_inverse=True)
    level = np.bincount(group, weights=worth[order]) / np.bincount(group)
    ends = missed(len(worth))
    taken: Floats = level[group] @ (ends[:-1] - ends[1:])
    return taken


def taken(values: ArrayLike, *columns: ArrayLike) -> Floats:
    """The mean value of those samples of each row that are highest by the first column, then by the second. Shapes [m, k] to [m]."""
    first = np.ones(np.shape(values), dtype=bool)
    for column in columns:
        held = np.where(first, np.asarray(column, dtype=float), -np.inf)
        first &= held == held.max(axis=1, keepdims=True)
    told: Floats = (first * np.asarray(values, dtype=float)).sum(axis=1) / first.sum(axis=1)
    return told


def ranks(*columns: ArrayLike) -> Ints:
    """The place of each sample in an order by the first column, then by the second, and so on; the highest is last, equals are equal."""
    rows = np.stack([np.asarray(column, dtype=float) for column in columns], axis=1)
    places: Ints = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return places


def slowest(seconds: ArrayLike) -> Floats:
    """The mean of the longest of a subset of size k: how long k samples take side by side. Shape [n]."""
    return best(seconds, seconds)


# ---------------------------------------------------------------- votes


def orders(n: int, rng: np.random.Generator, least: int = ORDERS) -> Ints:
    """Random orders of n samples, every one at every place equally often. Shape [m, n], with `least` or a few more of them."""
    turns = (np.arange(n)[:, None] + np.arange(n)[None, :]) % n
    return np.concatenate([rng.permutation(n)[turns] for _ in range(-(-least // n))])


def shuffles(n: int, count: int, rng: np.random.Generator) -> Ints:
    """`count` random orders of n samples, each by itself. Shape [count, n]."""
    return rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1)


@dataclass(frozen=True, slots=True)
class Votes:
    """A pool whose answers are counted: `options[i]` is the number of sample i's answer, -1 for one that abstains; `trust` breaks ties.

    `weights` are the votes' (None: one each); `right[j]` says of answer j whether it is right.
    """

    options: Ints
    right: NDArray[np.bool_]
    trust: Floats
    weights: Floats | None = None

    @classmethod
    def of(cls, keys: Sequence[str | None], right: Sequence[bool], trust: ArrayLike, weights: ArrayLike | None = None) -> Votes:
        """An answer is right when most of the samples that give it are: equal answers are graded alike, save for a slip of the algebra."""
        numbers = {key: j for j, key in enumerate(dict.fromkeys(key for key in keys if key is not None))}
        options = np.array([-1 if key is None else numbers[key] for key in keys], dtype=np.int64)
        shares = [[r for r, key in zip(right, keys, strict=True) if key == name] for name in numbers]
        good = np.array([2 * sum(each) > len(each) for each in shares], dtype=bool)
        return cls(options, good, np.asarray(trust, dtype=float), None if weights is None else np.asarray(weights, dtype=float))

    def race(self, drawn: Ints) -> Floats:
        """What each answer weighs after k samples of each order, a hair heavier for its trust. Shape [m, n, answers]."""
        weights = np.ones(len(self.options)) if self.weights is None else self.weights
        cast = (weights + HAIR * weights.max() * self.trust)[drawn]
        return np.cumsum((self.options[drawn][:, :, None] == np.arange(len(self.right))) * cast[:, :, None], axis=1)


def elected(votes: Votes, race: Floats) -> Floats:
    """Whether the vote's winner is right after k samples of each order, ties by trust; of equals in both, each as often. Shape [m, n]."""
    if not len(votes.right):
        return np.zeros(race.shape[:2])
    top = race.max(axis=2, keepdims=True)
    leads = (race >= top * (1 - 1e-13)) & (top > 0)
    won: Floats = (leads & votes.right).sum(axis=2) / np.maximum(leads.sum(axis=2), 1)
    return won


def sway(votes: Votes, drawn: Ints, thresholds: Sequence[float] = ()) -> tuple[Floats, Floats, Floats]:
    """majority@k, the chance that the vote of a subset of size k is right, shape [n]; and of votes that stop, as :func:`adaptive`.

    Orders are counted in batches that fit into memory.
    """
    size = max(1, ROOM // (drawn.shape[1] * max(1, len(votes.right))))
    majority, right, used = np.zeros(drawn.shape[1]), np.zeros(len(thresholds)), np.zeros(len(thresholds))
    for start in range(0, len(drawn), size):
        some = drawn[start : start + size]
        race, part = votes.race(some), len(some) / len(drawn)
        majority += elected(votes, race).mean(axis=0) * part
        if thresholds:
            rights, samples = adaptive(votes, race, thresholds)
            right, used = right + part * rights, used + part * samples
    return majority, right, used


@cache
def certainty(n: int) -> Floats:
    """Shape [n + 1, n + 1]: P(p_a > p_b) after a votes for one answer and b for another, uniform prior."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 2 * n + 2)))])
    table = np.ones((n + 1, n + 1))
    for m in range(1, 2 * n + 2):  # a + b + 1
        i = np.arange(m + 1)
        below = np.cumsum(np.exp(factorials[m] - factorials[i] - factorials[m - i] - m * math.log(2)))
        a = np.arange(max(0, m - 1 - n), min(n, m - 1) + 1)
        table[a, m - 1 - a] = np.minimum(below[a], 1.0)
    table.flags.writeable = False
    return table


def assured(race: Floats) -> Floats:
    """How sure it is that the leader is the majority, after k samples of each order. For votes of weight one. Shape [m, n]."""
    count = np.pad(race.astype(np.int64), ((0, 0), (0, 0), (2, 0)))  # without the hair
    two = np.partition(count, -2, axis=2)[:, :, -2:]
    told: Floats = certainty(race.shape[1])[two[:, :, 1], two[:, :, 0]]
    return told


def adaptive(votes: Votes, race: Floats, thresholds: Sequence[float]) -> tuple[Floats, Floats]:
    """Accuracy and mean number of samples of a vote that stops when its lead is sure, for each threshold. Shapes [thresholds].

    It takes all n samples where the lead is never that sure. For votes of weight one alone: those can be counted.
    """
    n = race.shape[1]
    if not len(votes.right):
        return np.zeros(len(thresholds)), np.full(len(thresholds), float(n))
    wins, sure = elected(votes, race), assured(race)
    rights, used = [], []
    for threshold in thresholds:
        ends = sure > threshold
        ends[:, -1] = True
        at = ends.argmax(axis=1)
        rights.append(wins[np.arange(len(at)), at].mean())
        used.append((at + 1).mean())
    return np.array(rights), np.array(used)
