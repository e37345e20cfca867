"""The sample bank: the samples of a cell serve every strategy that only chooses among samples, with no model call.

A cell whose strategy is `vote`, `best_of` or `tournament` has, for each problem, n samples that were drawn alike. From them come whole
curves over k = 1 ... n (:mod:`pondera.allocate.resample`): pass@k, majority@k, best-of-k and weighted votes by each score that the samples
have (their model's own trust, and whatever verifier scored them), and votes that stop when they are sure. The cost of k samples is what
they cost when they were recorded: tokens and dollars in proportion, seconds those of the slowest of k that run side by side (one after
another for a vote that stops). A verifier's cost is in proportion too, and only in the curves that need it.

A verifier that judges answers beside each other knows more of k when it is shown n. `learned` is asked anew about every k, from the
signals that the samples have alone; curves by others of that sort are not drawn.

A run that came to no answer has samples without one: it is wrong in every curve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pondera import parse
from pondera.allocate import resample
from pondera.allocate.curve import Curve, Floats
from pondera.allocate.returns import bins
from pondera.bench.file import Result
from pondera.bench.grading import SURE
from pondera.bench.spec import Cell
from pondera.thought import Price
from pondera.verifiers import of_pools
from pondera.verifiers.learned import Fit, fit_of
from pondera.verifiers.signals import ALONE, NAMES, beside

CHOOSERS = ("vote", "best_of", "tournament")
SINGLE = ("cot", "few_shot", "program")  # one sample: a bank of one
THRESHOLDS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
POINTS = 12
PASS, MAJORITY, TRUST, ADAPTIVE = "pass@k", "majority@k", "best-of-k by trust", "vote until sure"
FIFTHS = ("easiest", "second", "third", "fourth", "hardest")

Point = tuple[Floats, Floats, Floats, Floats, Floats]  # right, tokens, seconds, usd and samples at each point
Prices = Mapping[str, Price]  # by model
Fits = Mapping[str, Fit]  # by the verifier's name


def _call(cell: Cell) -> tuple[str, dict[str, Any]]:
    """A cell's strategy by its name, and all its arguments."""
    strategy: Any = cell.plan.strategy_of()
    function = getattr(strategy, "func", strategy)
    defaults = {name: one.default for name, one in parse.keywords(function).items()}
    return function.__name__, defaults | getattr(strategy, "keywords", {})


def is_bank(cell: Cell) -> bool:
    """Whether a cell's samples are draws of one kind: not where a budget for all problems, or the first to end, decides which there are."""
    name, given = _call(cell)
    return name in CHOOSERS + SINGLE and not cell.total and not given.get("first")


def draws(cell: Cell) -> tuple[Any, ...] | None:
    """How a strategy that only chooses draws its samples: number, sort, temperature, longest. None for one that does more."""
    name, given = _call(cell)
    return tuple(given[one] for one in ("n", "over", "temperature", "max_tokens")) if name in CHOOSERS and is_bank(cell) else None


def scored(cell: Cell) -> bool:
    """Whether a cell's scores are opinions of whole samples: not those of a tournament's duels, nor of steps."""
    name, given = _call(cell)
    return name != "tournament" and not given.get("process")


def model_of(cell: Cell, role: str) -> str:
    """The model of a role, by name; who has none of its own is the one that thinks."""
    roles = cell.plan.roles()
    return roles.get(role, roles["think"])


def paid(cell: Cell, result: Result, prices: Prices) -> float:
    """Dollars of a run: at the prices that are given, and else as they were recorded."""
    bills = result.figures["by_role"]
    return sum(_paid(bill, prices.get(model_of(cell, role))) for role, bill in bills.items())


def _paid(bill: Mapping[str, float], price: Price | None) -> float:
    return price.of(int(bill["prompt"]), int(bill["cached"]), int(bill["tokens"])) if price else bill["usd"]


@dataclass(frozen=True, slots=True)
class Pool:
    """The samples of one problem: keys (None: no answer), and arrays of shape [n]."""

    keys: Sequence[str | None]
    right: NDArray[np.bool_]
    trust: Floats
    tokens: Floats
    seconds: Floats
    usd: Floats
    scores: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    signals: Floats | None = None  # shape [n, signals], NaN throughout for one that no verifier was shown; None: they are not known
    problem: str = ""
    judged: Sequence[float] = (0.0, 0.0, 0.0)  # tokens, seconds and dollars of whoever gave the scores, for one sample

    @classmethod
    def of(cls, cell: Cell, result: Result, prices: Prices) -> Pool:
        pool, told = result.pool, result.figures

        def column(name: str) -> Floats:
            return np.array([one[name] for one in pool], dtype=float)

        price = prices.get(model_of(cell, "think"))
        usd, seconds = np.array([_paid(one, price) for one in pool], dtype=float), column("seconds")
        names = dict.fromkeys(name for one in pool for name in one["scores"]) if scored(cell) else ()
        scores = {name: [one["scores"].get(name) for one in pool] for name in names}
        judges = [(role, bill) for role, bill in told["by_role"].items() if role not in ("think", "draft")]
        spent = sum(bill["tokens"] for _, bill in judges), sum(_paid(bill, prices.get(model_of(cell, role))) for role, bill in judges)
        waited = max(0.0, told["seconds"] - float(seconds.max())) if judges else 0.0
        judged = [one / len(pool) for one in (spent[0], waited, spent[1])]
        keys = [one["key"] for one in pool]
        right, trust, tokens = column("score") >= SURE, column("trust"), column("tokens")
        return cls(keys, right, trust, tokens, seconds, usd, scores, _signals(pool), result.problem, judged)

    @classmethod
    def silent(cls, cell: Cell, result: Result, n: int, prices: Prices) -> Pool:
        """Of a run that came to nothing: its bill in `n` parts."""
        ones, told = np.ones(n), result.figures
        costs = ones * told["tokens"] / n, ones * told["seconds"], ones * paid(cell, result, prices) / n
        signals = np.full((n, len(NAMES)), np.nan)
        return cls([None] * n, np.zeros(n, dtype=bool), ones, *costs, signals=signals, problem=result.problem)

    def take(self, some: resample.Ints) -> Pool:
        keys = [self.keys[i] for i in some]
        return Pool(keys, self.right[some], self.trust[some], self.tokens[some], self.seconds[some], self.usd[some])

    def votes(self, weights: Sequence[float] | None = None) -> resample.Votes:
        return resample.Votes.of(self.keys, list(self.right), self.trust, weights)


def _signals(pool: Sequence[Mapping[str, Any]]) -> Floats | None:
    """None where some candidate has none, or those of another version."""
    if any(one["key"] is not None and len(one.get("signals", ())) != len(NAMES[ALONE]) for one in pool):
        return None
    told = np.full((len(pool), len(NAMES)), np.nan)
    for i, one in enumerate(pool):
        if "signals" in one:
            told[i, ALONE] = [np.nan if value is None else value for value in one["signals"]]
    return told


def points(
    pool: Pool, ks: resample.Ints, rng: np.random.Generator, names: Iterable[str] = (), fits: Fits = MappingProxyType({})
) -> dict[str, Point]:
    """What each way to choose comes to with k samples, k in `ks`, the scores `names` among them; the vote that stops, at each threshold.

    Those of `names` that have a fit in `fits` are asked anew about every k.
    """
    at, votes = ks - 1, pool.votes()
    drawn = resample.orders(len(pool.keys), rng)
    cost = (ks * pool.tokens.mean(), resample.slowest(pool.seconds)[at], ks * pool.usd.mean())
    tokens, seconds, usd = (one + ks * more for one, more in zip(cost, pool.judged, strict=True))
    answered = np.array([key is not None for key in pool.keys])
    majority, right, used = resample.sway(votes, drawn, THRESHOLDS)
    trusted = resample.best(pool.right, resample.ranks(answered, pool.trust))
    found = {PASS: resample.passed(list(pool.right)), MAJORITY: majority, TRUST: trusted}
    counts = ks.astype(float)
    told: dict[str, Point] = {name: (value[at], *cost, counts) for name, value in found.items()}
    for name in names:
        fit = fits.get(name)
        best, vote = _anew(pool, fit, ks, drawn) if fit else [one[at] for one in _by(pool, pool.scores.get(name, ()), drawn, majority)]
        told[f"best-of-k by {name}"] = (best, tokens, seconds, usd, counts)
        told[f"weighted vote by {name}"] = (vote, tokens, seconds, usd, counts)
    costs = (used * pool.tokens.mean(), used * pool.seconds.mean(), used * pool.usd.mean())
    return told | {ADAPTIVE: (right, *costs, used)}


def _by(pool: Pool, said: Sequence[float | None], drawn: resample.Ints, majority: Floats) -> tuple[Floats, Floats]:
    """best-of-k and the weighted vote by a verifier, as the strategies choose: equals by trust; where it has no opinion, the majority."""
    given = [score for score in said if score is not None]
    if not given:
        return majority, majority
    answered, known = (np.array([one is not None for one in some]) for some in (pool.keys, said))
    scores = np.array([np.mean(given) if score is None else score for score in said])
    best = resample.best(pool.right, resample.ranks(answered, known, scores, pool.trust))
    return best, resample.sway(pool.votes(list(np.maximum(scores, 0.0))), drawn)[0]


def _anew(pool: Pool, fit: Fit, ks: resample.Ints, drawn: resample.Ints) -> tuple[Floats, Floats]:
    """The same at each of `ks` by a fit, which is shown the first k of each order: those with an answer, in a vote all candidates."""
    assert pool.signals is not None
    votes = pool.votes()
    shown = (~np.isnan(pool.signals)).sum(axis=1) > 0
    told = np.zeros((2, len(ks)))
    for i, k in enumerate(ks):
        some = drawn[:, :k]
        options, trust = votes.options[some], pool.trust[some]
        there = options >= 0, shown[some]
        best, chance = (np.where(there[0], fit.chance(beside(pool.signals[some], options, here)), 0.0) for here in there)
        told[0, i] = resample.taken(pool.right[some], there[0], best, trust).mean()
        race = (options[:, :, None] == np.arange(len(votes.right))) * (chance + resample.HAIR * trust)[:, :, None]
        told[1, i] = resample.elected(votes, race.sum(axis=1, keepdims=True)).mean()
    return told[0], told[1]


@dataclass(frozen=True, slots=True)
class Bank:
    """The curves of a cell by name, and those of each fifth of the problems by difficulty (majority@k, the easiest first).

    `n` is the number of samples a problem, `problems` those that have them, by their prints, in the order of the curves' rows, and `others`
    how many were left out since they have another number of them. `undrawn` are verifiers without curves: what they say of k is not known.
    """

    cell: Cell
    n: int
    problems: Sequence[str]
    others: int
    undrawn: Sequence[str]
    curves: Mapping[str, Curve]
    fifths: Sequence[Curve]


def bank(cell: Cell, results: Iterable[Result], prices: Prices | None = None, seed: int = 0) -> Bank | None:
    """All curves of a cell, None where it has no samples."""
    rates, done = prices or {}, [one for one in results if one.state == "done"]
    sizes = Counter(len(one.pool) for one in done if one.pool)
    if not sizes:
        return None
    n = sizes.most_common(1)[0][0]
    whole = [Pool.of(cell, one, rates) if one.pool else Pool.silent(cell, one, n, rates) for one in done if len(one.pool) in (0, n)]
    named = dict.fromkeys(name for pool in whole for name in pool.scores)
    known = all(pool.signals is not None for pool in whole)
    fits = {name: fit for name in named if known and (fit := fit_of(name))}
    names = [name for name in named if not of_pools(name) or name in fits]
    ks = np.unique(np.round(np.geomspace(1, n, POINTS)).astype(np.int64))
    told = [points(pool, ks, np.random.default_rng((seed, i)), names, fits) for i, pool in enumerate(whole)]
    made = {name: curve(name, [one[name] for one in told]) for name in told[0]}
    fifths = _fifths(whole, seed) if n >= 4 and len(whole) >= 10 else ()
    undrawn = [name for name in named if name not in names]
    return Bank(cell, n, [pool.problem for pool in whole], len(done) - len(whole), undrawn, made, fifths)


def curve(name: str, told: Sequence[Point]) -> Curve:
    """The points of every problem as a curve, over the mean number of samples."""
    right, tokens, seconds, usd, samples = (np.array([one[i] for one in told]) for i in range(5))
    return Curve(name=name, x=samples.mean(axis=0), right=right, tokens=tokens, seconds=seconds, usd=usd, samples=samples)


def _fifths(pools: Sequence[Pool], seed: int) -> list[Curve]:
    """majority@k by difficulty: one half of a problem's samples says how hard it is, the other half is shown, then the other way round.

    A problem whose halves fall into two parts is in both, and one whose halves fall into one part is there once, with their mean.
    """
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
    return [curve(f"{FIFTHS[i]} fifth", _merged(part, told)) for i, part in enumerate(bins(np.array(rates)))]


def _merged(part: NDArray[np.intp], told: Sequence[Point]) -> list[Point]:
    """The points of a part, the two halves of one problem (2i and 2i + 1) as one."""
    own: dict[int, list[Point]] = {}
    for j in part:
        own.setdefault(int(j) // 2, []).append(told[j])
    return [_mean(halves) for halves in own.values()]


def _mean(halves: Sequence[Point]) -> Point:
    right, tokens, seconds, usd, samples = (np.mean([one[i] for one in halves], axis=0) for i in range(5))
    return right, tokens, seconds, usd, samples
