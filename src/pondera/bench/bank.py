"""The sample bank: the samples of a cell serve every strategy that only chooses among samples, with no model call.

A cell whose strategy is `vote`, `best_of` or `tournament` has, for each problem, n samples that were drawn alike. From them come whole
curves over k = 1 ... n (:mod:`pondera.allocate.resample`): pass@k, majority@k, best-of-k and weighted votes by each score that the samples
have (their model's own trust, and whatever verifier scored them), and votes that stop when they are sure. The cost of k samples is what
they cost when they were recorded: tokens and dollars in proportion, seconds those of the slowest of k that run side by side (one after
another for a vote that stops).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pondera.allocate import resample
from pondera.allocate.returns import Curve, Floats, bins
from pondera.bench.file import Result
from pondera.bench.spec import Cell
from pondera.bench.tasks import SURE
from pondera.thought import Price

CHOOSERS = ("vote", "best_of", "tournament")
SINGLE = ("cot", "few_shot", "program")  # one sample: a bank of one
THRESHOLDS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
POINTS = 12
PASS, MAJORITY, TRUST, ADAPTIVE = "pass@k", "majority@k", "best-of-k by trust", "vote until sure"

Point = tuple[Floats, Floats, Floats, Floats]  # right, tokens, seconds, usd at each point


def is_bank(cell: Cell) -> bool:
    return cell.plan.strategy.split("(")[0].strip() in CHOOSERS + SINGLE


@dataclass(frozen=True, slots=True)
class Pool:
    """The samples of one problem: keys, and arrays of shape [n]."""

    keys: Sequence[str | None]
    right: NDArray[np.bool_]
    trust: Floats
    tokens: Floats
    seconds: Floats
    usd: Floats
    scores: Mapping[str, Sequence[float | None]]
    problem: str = ""
    judged: Sequence[float] = (0.0, 0.0, 0.0)  # tokens, seconds and dollars of whoever gave the scores, for one sample

    @classmethod
    def of(cls, result: Result, price: Price | None) -> Pool:
        pool, told = result.pool, result.figures

        def column(name: str) -> Floats:
            return np.array([one[name] for one in pool], dtype=float)

        priced = [price.of(one["prompt"], one["cached"], one["tokens"]) for one in pool] if price else column("usd")
        names = dict.fromkeys(name for one in pool for name in one["scores"])
        scores = {name: [one["scores"].get(name) for one in pool] for name in names}
        right, keys = column("score") >= SURE, [one["key"] for one in pool]
        usd, seconds = np.asarray(priced, dtype=float), column("seconds")
        judges = [bill for role, bill in told["by_role"].items() if role not in ("think", "draft")]
        others = sum(bill["tokens"] for bill in judges), told["seconds"] - seconds.max(), sum(bill["usd"] for bill in judges)
        judged = [max(0.0, one) / len(pool) for one in others]
        return cls(keys, right, column("trust"), column("tokens"), seconds, usd, scores, result.problem, judged)

    def take(self, some: resample.Ints) -> Pool:
        keys, scores = [self.keys[i] for i in some], {name: [said[i] for i in some] for name, said in self.scores.items()}
        return Pool(keys, self.right[some], self.trust[some], self.tokens[some], self.seconds[some], self.usd[some], scores)

    def known(self) -> dict[str, Floats]:
        """The scores that say something; no opinion is worth the mean of the others."""
        found = {}
        for name, said in self.scores.items():
            given = [score for score in said if score is not None]
            if given:
                found[name] = np.array([np.mean(given) if score is None else score for score in said])
        return found

    def votes(self, weights: Floats | None = None) -> resample.Votes:
        return resample.Votes.of(self.keys, list(self.right), self.trust, weights)


def points(pool: Pool, ks: resample.Ints, rng: np.random.Generator) -> dict[str, Point]:
    """What each way to choose comes to with k samples, k in `ks`; the vote that stops, at each of its thresholds."""
    n = len(pool.keys)
    votes = pool.votes()
    drawn = resample.orders(n, rng)
    race = votes.race(drawn)
    at = ks - 1
    cost = (ks * pool.tokens.mean(), resample.slowest(pool.seconds)[at], ks * pool.usd.mean())
    judged = tuple(one + ks * more for one, more in zip(cost, pool.judged, strict=True))
    answered = np.array([key is not None for key in pool.keys])
    trust = np.where(answered, pool.trust, -1.0)  # as in best_of: who has no answer is chosen only among those who have none
    found = {PASS: resample.passed(list(pool.right)), MAJORITY: resample.majority(votes, race), TRUST: resample.best(pool.right, trust)}
    told: dict[str, Point] = {name: (value[at], *cost) for name, value in found.items()}
    for name, scores in pool.known().items():
        weighted = pool.votes(np.maximum(scores, 0.0))
        best = resample.best(pool.right, np.where(answered, scores, scores.min() - 1))
        told[f"best-of-k by {name}"] = (best[at], *judged)
        told[f"weighted vote by {name}"] = (resample.majority(weighted, weighted.race(drawn))[at], *judged)
    right, used = resample.adaptive(votes, race, THRESHOLDS)
    return told | {ADAPTIVE: (right, used * pool.tokens.mean(), used * pool.seconds.mean(), used * pool.usd.mean())}


@dataclass(frozen=True, slots=True)
class Bank:
    """The curves of a cell by name, and those of each fifth of the problems by difficulty (majority@k, the easiest first).

    `n` is the number of samples a problem, `problems` those that have them, by their prints, in the order of the curves' rows, and `short`
    how many were left out since they have fewer.
    """

    cell: Cell
    n: int
    problems: Sequence[str]
    short: int
    curves: Mapping[str, Curve]
    fifths: Sequence[Curve]


def bank(cell: Cell, results: Iterable[Result], price: Price | None = None, seed: int = 0) -> Bank | None:
    """All curves of a cell, None where it has no samples."""
    pools = [Pool.of(one, price) for one in results if one.state == "done" and one.pool]
    if not pools:
        return None
    n = Counter(len(pool.keys) for pool in pools).most_common(1)[0][0]
    whole = [pool for pool in pools if len(pool.keys) == n]
    ks = np.unique(np.round(np.geomspace(1, n, POINTS)).astype(np.int64))
    told = [points(pool, ks, np.random.default_rng((seed, i))) for i, pool in enumerate(whole)]
    names = [name for name in told[0] if all(name in one for one in told)]
    made = {name: curve(name, [one[name] for one in told], ks.astype(float)) for name in names}
    stopped, each = made[ADAPTIVE], made[MAJORITY].tokens[:, :1]  # of one sample
    made[ADAPTIVE] = replace(stopped, x=(stopped.tokens / np.maximum(each, 1.0)).mean(axis=0))
    fifths = _fifths(whole, seed) if n >= 4 and len(whole) >= 10 else ()
    return Bank(cell, n, [pool.problem for pool in whole], len(pools) - len(whole), made, fifths)


def curve(name: str, told: Sequence[Point], x: Floats) -> Curve:
    """The points of every problem as a curve."""
    right, tokens, seconds, usd = (np.array([one[i] for one in told]) for i in range(4))
    return Curve(name=name, x=x, right=right, tokens=tokens, seconds=seconds, usd=usd)


def _fifths(pools: Sequence[Pool], seed: int) -> list[Curve]:
    """majority@k by difficulty: one half of a problem's samples says how hard it is, the other half is shown, then the other way round."""
    rates, told = [], []
    half = len(pools[0].keys) // 2
    ks = np.arange(1, half + 1)
    for i, pool in enumerate(pools):
        rng = np.random.default_rng((seed, i, 1))
        order = rng.permutation(len(pool.keys))
        halves = pool.take(order[:half]), pool.take(order[half : 2 * half])
        for first, second in (halves, halves[::-1]):
            rates.append(first.right.mean())
            told.append(points(second, ks, rng)[MAJORITY])
    parts = bins(np.array(rates))
    return [curve(f"{_NAMES[i]} fifth", [told[j] for j in part], ks.astype(float)) for i, part in enumerate(parts)]


_NAMES = ("easiest", "second", "third", "fourth", "hardest")
