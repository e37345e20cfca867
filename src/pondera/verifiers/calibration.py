r"""How good a verifier's scores are, on samples of which it is known whether they are right.

**Discrimination** asks whether right answers score higher. AUROC is the chance that a right sample scores above a wrong one, ties counted
half (Mann and Whitney 1947): pooled over all samples, and within each question, which is what choosing among its samples needs. A score
that only knows easy questions from hard ones has the first and not the second. Intervals are 95 % of a bootstrap over questions, since
the samples of one question are not independent.

**Calibration** asks whether a score of 0.7 is right 7 times in 10; it is told for scores in [0, 1] alone.

    Brier     mean of (s - y)^2  =  reliability - resolution + uncertainty                    (Brier 1950; Murphy 1973)
    ECE       sum over bins of (n_b / n) |mean score of b - share right in b|                 (Naeini et al. 2015)

over bins of equal mass, the samples of one score never parted; the decomposition is that of scores set to the mean of their bin. The
share right in a bin has a Wilson interval (Wilson 1927). What cannot be told (one class only, no scores) is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pondera.intervals import Interval, mean, spread, wilson

BINS = 10
LEAST = 10  # samples in a bin of a report, if there are so many
RESAMPLES = 1_000

Floats = NDArray[np.float64]
Scores = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Bin:
    """Samples of neighbouring scores: their number, mean score, and the share that is right."""

    count: int
    score: float
    right: Interval


@dataclass(frozen=True, slots=True)
class Brier:
    """The score and its parts: lower reliability and higher resolution are better, uncertainty is the task's."""

    value: float
    reliability: float
    resolution: float
    uncertainty: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Shares of questions that are answered right by the sample of the highest score (ties shared), by any one, and by the best."""

    best: Interval
    chance: float
    ceiling: float


@dataclass(frozen=True, slots=True)
class Report:
    """What can be told of a verifier; `judged` of `samples` have a score, `mixed` questions have samples both right and wrong."""

    samples: int
    judged: int
    questions: int
    mixed: int
    right: float | None
    auroc: Interval | None
    within: Interval | None
    choice: Choice | None
    brier: Brier | None
    ece: float | None
    bins: tuple[Bin, ...]


def report(scores: Scores, right: Sequence[bool], questions: Sequence[Any]) -> Report:
    """All of it. The three have one length: a score (None where there is none), whether the sample is right, what it belongs to."""
    s, y, q = _known(scores, right, questions)
    bins = min(BINS, max(1, len(s) // LEAST))
    inside = [value for value in (_auroc(s[q == g], y[q == g]) for g in np.unique(q)) if value is not None]
    return Report(
        samples=len(scores),
        judged=len(s),
        questions=len(set(questions)),
        mixed=len(inside),
        right=float(np.mean(y)) if len(y) else None,
        auroc=auroc(scores, right, questions),
        within=_mean(np.array(inside)),
        choice=choice(scores, right, questions),
        brier=brier(scores, right, bins),
        ece=ece(scores, right, bins),
        bins=reliability(scores, right, bins),
    )


def auroc(scores: Scores, right: Sequence[bool], questions: Sequence[Any] | None = None) -> Interval | None:
    """Chance that a right sample scores above a wrong one. The bootstrap draws questions, or samples where none are told apart."""
    s, y, q = _known(scores, right, questions)
    if (value := _auroc(s, y)) is None:
        return None
    alone = len(np.unique(q)) < 2  # one question: only its samples can be drawn
    groups, place = (np.unique(one, return_inverse=True)[1] for one in (np.arange(len(s)) if alone else q, s))
    n, rng = int(groups.max()) + 1, np.random.default_rng(0)
    drawn = [_above(place, y, rng.multinomial(n, np.full(n, 1 / n))[groups]) for _ in range(RESAMPLES)]
    known = [one for one in drawn if one is not None]
    return spread(value, np.array(known)) if known else Interval(value, 0.0, 1.0)


def within(scores: Scores, right: Sequence[bool], questions: Sequence[Any]) -> Interval | None:
    """Mean AUROC over the questions that have samples of both sorts."""
    return report(scores, right, questions).within


def choice(scores: Scores, right: Sequence[bool], questions: Sequence[Any]) -> Choice | None:
    """What choosing the sample of the highest score comes to, over questions with any score."""
    s, y, q = _known(scores, right, questions)
    if not len(s):
        return None
    groups = [(s[q == g], y[q == g]) for g in np.unique(q)]
    best = _mean(np.array([t[v == v.max()].mean() for v, t in groups]))
    assert best is not None
    return Choice(best, float(np.mean([t.mean() for _, t in groups])), float(np.mean([t.max() for _, t in groups])))


def brier(scores: Scores, right: Sequence[bool], bins: int = BINS) -> Brier | None:
    """Mean squared error of scores in [0, 1], and its parts."""
    s, y, _ = _known(scores, right)
    if not _probabilities(s):
        return None
    parts = [(len(b) / len(s), s[b].mean(), y[b].mean()) for b in _bins(s, bins)]
    rel = sum(w * (p - t) ** 2 for w, p, t in parts)
    res = sum(w * (t - y.mean()) ** 2 for w, _, t in parts)
    return Brier(float(np.mean((s - y) ** 2)), float(rel), float(res), float(y.mean() * (1 - y.mean())))


def ece(scores: Scores, right: Sequence[bool], bins: int = BINS) -> float | None:
    """Expected calibration error of scores in [0, 1]."""
    s, y, _ = _known(scores, right)
    if not _probabilities(s):
        return None
    return float(sum(len(b) / len(s) * abs(s[b].mean() - y[b].mean()) for b in _bins(s, bins)))


def reliability(scores: Scores, right: Sequence[bool], bins: int = BINS) -> tuple[Bin, ...]:
    """The reliability curve, lowest scores first; also for scores that are no probabilities."""
    s, y, _ = _known(scores, right)
    return tuple(Bin(len(b), float(s[b].mean()), wilson(int(y[b].sum()), len(b))) for b in _bins(s, bins))


# ---------------------------------------------------------------- inside


def _known(scores: Scores, right: Sequence[bool], questions: Sequence[Any] | None = None) -> tuple[Floats, Floats, NDArray[Any]]:
    """Scores, 1 or 0 for right or wrong, and the number of each one's question, of the samples that have a finite score."""
    s = np.array([math.nan if score is None else float(score) for score in scores], dtype=np.float64)
    y = np.array([float(bool(one)) for one in right], dtype=np.float64)
    numbers: dict[Any, int] = {}
    q = np.array([numbers.setdefault(one, len(numbers)) for one in (range(len(s)) if questions is None else questions)], dtype=np.int64)
    if not len(s) == len(y) == len(q):
        raise ValueError(f"{len(s)} scores, {len(y)} labels and {len(q)} questions: give one of each for a sample")
    finite = np.isfinite(s)
    return s[finite], y[finite], q[finite]


def _auroc(s: Floats, y: Floats) -> float | None:
    return _above(np.unique(s, return_inverse=True)[1], y, np.ones(len(s)))


def _above(place: NDArray[Any], y: Floats, weight: NDArray[Any]) -> float | None:
    """AUROC from the places of scores among all different ones, with ties; each sample counts as often as it was drawn."""
    good, bad = np.bincount(place, weight * y), np.bincount(place, weight * (1 - y))
    pairs = good.sum() * bad.sum()
    return float((good * (np.cumsum(bad) - bad / 2)).sum() / pairs) if pairs else None


def _mean(values: Floats) -> Interval | None:
    if len(values) < 2:
        return Interval(float(values[0]), 0.0, 1.0) if len(values) else None
    return mean(values, RESAMPLES)


def _bins(s: Floats, bins: int) -> list[NDArray[Any]]:
    """Indices of bins of about equal mass, by score; equal scores are in one bin."""
    order = np.argsort(s, kind="stable")
    found: list[NDArray[Any]] = []
    start = 0
    for k in range(1, bins + 1):
        end = round(k * len(s) / bins)
        while 0 < end < len(s) and s[order[end]] == s[order[end - 1]]:
            end += 1
        if end > start:
            found.append(order[start:end])
            start = end
    return found


def _probabilities(s: Floats) -> bool:
    return bool(len(s) and s.min() >= 0 and s.max() <= 1)
