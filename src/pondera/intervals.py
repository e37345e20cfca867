"""A value and how sure it is: by Wilson for shares of a count, else by a bootstrap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054  # of a normal distribution: 95 % lie within


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and where it lies with a confidence of 95 %."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int) -> Interval:
    """A share and its Wilson interval; `n` is above 0."""
    p, z2 = successes / n, Z * Z
    middle, half = (p + z2 / (2 * n)) / (1 + z2 / n), Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(p, min(p, max(0.0, middle - half)), max(p, min(1.0, middle + half)))


def spread(value: float, drawn: NDArray[np.float64]) -> Interval:
    """A value and the percentiles of its draws, those that are no number left out; the value alone where there are none."""
    known = drawn[np.isfinite(drawn)]
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (value, value)
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def mean(values: NDArray[np.float64], draws: int = 1_000, rng: np.random.Generator | None = None) -> Interval:
    """The mean of one value or more, and its spread when they are drawn anew, with replacement."""
    chance, batch = rng or np.random.default_rng(0), 100  # draws in memory at once
    drawn = [values[chance.integers(0, len(values), (min(batch, draws - i), len(values)))].mean(axis=1) for i in range(0, draws, batch)]
    return spread(float(values.mean()), np.concatenate(drawn))
