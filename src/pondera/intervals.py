"""A value and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
