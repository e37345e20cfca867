"""A curve of accuracy and costs by problem and point, and how sure it is: a bootstrap over problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pondera.intervals import Interval, Z, spread

Floats = NDArray[np.float64]

DRAWS = 1_000
NORMAL = NormalDist()
AXES = ("tokens", "seconds", "usd")
PARTS = ("right", *AXES, "samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a way to think comes to at each of its points, problem by problem.

    `x` are the points (samples, or tokens allowed), shape [points], rising. `right` (0 to 1), `tokens` (generated), `seconds` and `usd`
    (of the whole answer), and `samples` that are drawn, have the shape [problems, points].
    """

    name: str
    x: Floats
    right: Floats
    tokens: Floats
    seconds: Floats
    usd: Floats
    samples: Floats

    def take(self, problems: NDArray[np.intp] | NDArray[np.bool_]) -> Curve:
        """The same of some problems."""
        cut = {name: getattr(self, name)[problems] for name in PARTS}
        return Curve(name=self.name, x=self.x, **cut)

    def thin(self, points: int = 12) -> Curve:
        """At most so many points, evenly apart in the logarithm, first and last among them."""
        at = np.unique(np.searchsorted(self.x, np.geomspace(self.x[0], self.x[-1], points) * (1 - 1e-9)))
        return Curve(name=self.name, x=self.x[at], **{name: getattr(self, name)[:, at] for name in PARTS})

    def mean(self, axis: str = "right") -> Floats:
        """Over problems. Shape [points]."""
        found: Floats = getattr(self, axis).mean(axis=0)
        return found


@dataclass(frozen=True, slots=True)
class Means:
    """The means of a curve in each draw of a bootstrap over problems. Shapes [draws, points]."""

    right: Floats
    seconds: Floats
    usd: Floats


def bootstrap(curve: Curve, draws: int = DRAWS, seed: int = 0) -> Means:
    """Problems drawn with replacement, again and again; curves with equal problems and seed are drawn alike, and so can be compared."""
    parts = np.hstack([curve.right, curve.seconds, curve.usd])
    return Means(*np.hsplit(np.concatenate([weights @ parts for weights in _weights(len(parts), draws, seed)]), 3))


def _weights(problems: int, draws: int, seed: int, room: int = 4_000_000) -> Iterator[Floats]:
    """The share of each problem in each draw, in batches that fit into memory."""
    rng = np.random.default_rng(seed)
    size = max(1, room // problems)
    for start in range(0, draws, size):
        some = [np.bincount(rng.integers(0, problems, problems), minlength=problems) for _ in range(min(size, draws - start))]
        yield np.array(some) / problems


def band(curve: Curve, means: Means) -> list[Interval]:
    """Accuracy at each point, with its interval: percentiles of the bootstrap, corrected for bias and for the skew that means near 0 and 1
    have (BCa, Efron 1987, doi 10.1080/01621459.1987.10478410)."""
    return [_corrected(values, drawn) for values, drawn in zip(curve.right.T, means.right.T, strict=True)]


def _corrected(values: Floats, drawn: Floats) -> Interval:
    mean, off = float(values.mean()), values - values.mean()
    squares = float((off**2).sum())
    below = float((drawn < mean).mean() + (drawn == mean).mean() / 2)
    if squares < 1e-12 or not 0 < below < 1:
        return spread(mean, drawn)
    shift, lean = NORMAL.inv_cdf(below), float((off**3).sum()) / (6 * squares**1.5)
    ends = [100 * NORMAL.cdf(shift + (shift + z) / (1 - lean * (shift + z))) for z in (-Z, Z)]
    low, high = np.percentile(drawn, ends)
    return Interval(mean, float(min(low, mean)), float(max(high, mean)))
