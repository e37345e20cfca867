r"""The returns of thinking: what accuracy does as more is spent, where its curve bends, and where it ends.

Three forms are fitted to the mean over
problems, each by least squares in closed form on a grid of exponents, so that a bootstrap of a thousand draws is one matrix product:

- ``log``: :math:`a + b \ln x`. It has no ceiling.
- ``power``: :math:`A - B x^{-\beta}`, which ends at A.
- ``monkeys``: :math:`A \exp(-B x^{-\beta})`, the exponentiated power law of Large Language Monkeys (Brown et al. 2024, arXiv 2407.21787),
  which there has A = 1.

The form is chosen by what it says of problems and points that it has not seen: fitted to the lower half of the points (in the logarithm)
on four fifths of the problems, it is scored by the log-likelihood of the rest's upper half.

With v the worth of a right answer, e the price of an error and l that of a second, more thinking is worth its cost while
:math:`U(x) = v\,p(x) - e\,(1 - p(x)) - \mathrm{usd}(x) - l\,\mathrm{seconds}(x)` grows. Its maximum is the **bend**: there the next dollar
buys a dollar's worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pondera.allocate.curve import DRAWS, Curve, Floats, Means, band, bootstrap
from pondera.intervals import Interval, spread

FORMS = ("log", "power", "monkeys")
EXPONENTS = np.geomspace(0.05, 3.0, 48)
FOLDS = 5
REACH = 4.0  # times the highest measured point: as far as a bend is looked for
LEAST = 3  # points that a form can be fitted to


# ---------------------------------------------------------------- fits


@dataclass(frozen=True, slots=True)
class Fit:
    """A form with its parameters, one row a curve that it was fitted to: `top`, `rise` and `exponent`, each of shape [rows]."""

    form: str
    top: Floats
    rise: Floats
    exponent: Floats

    def at(self, x: Floats) -> Floats:
        """Accuracy, 0 to 1, at points that need not be those it was fitted to. Shape [rows, points]."""
        top, rise, exponent = self.top[:, None], self.rise[:, None], self.exponent[:, None]
        if self.form == "log":
            found = top + rise * np.log(x)
        elif self.form == "power":
            found = top - rise * x**-exponent
        else:
            found = top * np.exp(-rise * x**-exponent)
        return np.clip(found, 0.0, 1.0)

    @property
    def ceiling(self) -> Floats | None:
        """Where it ends, None where it does not. Shape [rows]."""
        return None if self.form == "log" else self.top


def fit(form: str, x: Floats, y: Floats) -> Fit:
    """The form nearest to accuracies `y`, shape [rows, points], at `x`, shape [points] and above 0."""
    if form == "log":
        slope, height, _ = _line(np.log(x), y, np.ones_like(y))
        return Fit(form, height, slope, np.zeros(len(y)))
    if form == "power":
        z, weight, highest = y, np.ones_like(y), 1.0
    else:  # a line in ln y; the weights make its squares those of y
        z, weight, highest = np.log(np.maximum(y, 1e-4)), np.maximum(y, 1e-4) ** 2, 0.0
    tried = [_line(-(x**-exponent), z, weight, highest) for exponent in EXPONENTS]
    best = np.argmin([error for _, _, error in tried], axis=0)
    slope, height = (np.array([t[i] for t in tried])[best, np.arange(len(y))] for i in (0, 1))
    return Fit(form, height if form == "power" else np.exp(height), slope, EXPONENTS[best])


def _line(x: Floats, y: Floats, weight: Floats, highest: float = np.inf) -> tuple[Floats, Floats, Floats]:
    """Slope, height and squared error of the line through each row of `y`, its height at most `highest`."""
    total = weight.sum(axis=1)
    mx, my = (weight @ x) / total, (weight * y).sum(axis=1) / total
    off = x - mx[:, None]
    slope = (weight * off * y).sum(axis=1) / np.maximum((weight * off * off).sum(axis=1), 1e-12)
    height = my - slope * mx
    over = height > highest
    if over.any():
        slope = np.where(over, (weight * x * (y - highest)).sum(axis=1) / np.maximum(weight @ (x * x), 1e-12), slope)
        height = np.where(over, highest, height)
    return slope, height, (weight * (y - height[:, None] - slope[:, None] * x) ** 2).sum(axis=1)


def choose(curve: Curve, seed: int = 0) -> dict[str, float]:
    """The log-likelihood of each form, in nats a problem and point that it has not seen, the best first. Empty with too few points."""
    x, n = curve.x, len(curve.right)
    low = x <= np.sqrt(x[0] * x[-1]) * (1 + 1e-9)
    if low.sum() < LEAST or n < FOLDS:
        low = np.ones(len(x), dtype=bool)
    if low.sum() < LEAST or n < 2:
        return {}
    high = ~low if not low.all() else low
    fold = np.random.default_rng(seed).permutation(n) % min(FOLDS, n)
    scores = {}
    for form in FORMS:
        told = 0.0
        for k in range(fold.max() + 1):
            seen = curve.right[fold != k][:, low].mean(axis=0)
            p = np.clip(fit(form, x[low], seen[None]).at(x[high])[0], 1e-3, 1 - 1e-3)
            right = curve.right[fold == k][:, high]
            told += float((right * np.log(p) + (1 - right) * np.log(1 - p)).sum())
        scores[form] = told / (n * int(high.sum()))
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


# ---------------------------------------------------------------- what it comes to


@dataclass(frozen=True, slots=True)
class Worth:
    """US dollars: of a right answer, of an error, and of a second that one waits."""

    value: float = 0.0
    error_cost: float = 0.0
    latency_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Bend:
    """The point beyond which more is not worth its cost, and accuracy and what is gained (US dollars a question) there.

    `measured` says that it lies within what was measured; `reached` that it was found at all, up to four times that.
    """

    x: Interval
    right: Interval
    gain: Interval
    measured: bool
    reached: bool


@dataclass(frozen=True, slots=True)
class Returns:
    """A curve, its interval at each point, the form that was chosen and how likely each is, its ceiling and its bend."""

    curve: Curve
    band: Sequence[Interval]
    likelihoods: Mapping[str, float]
    fit: Fit | None
    ceiling: Interval | None
    bend: Bend | None


def returns(curve: Curve, worth: Worth | None = None, draws: int = DRAWS, seed: int = 0) -> Returns:
    """All that is known of a curve. `fit` has the curve itself in its first row, the bootstrap's draws in the others."""
    thin = curve.thin()
    means = bootstrap(thin, draws, seed)
    likelihoods = choose(thin, seed)
    if not likelihoods:
        return Returns(thin, band(thin, means), likelihoods, None, None, None)
    fitted = fit(next(iter(likelihoods)), thin.x, np.vstack([thin.mean(), means.right]))
    top = fitted.ceiling
    ceiling = None if top is None else spread(top[0], top[1:])
    return Returns(thin, band(thin, means), likelihoods, fitted, ceiling, _bend(thin, means, fitted, worth) if worth else None)


def _bend(curve: Curve, means: Means, fitted: Fit, worth: Worth) -> Bend:
    x = np.geomspace(curve.x[0], REACH * curve.x[-1], 400)
    right = fitted.at(x)
    usd, seconds = (_beyond(curve.x, np.vstack([curve.mean(a), getattr(means, a)]), x) for a in ("usd", "seconds"))
    utility = worth.value * right - worth.error_cost * (1 - right) - usd - worth.latency_cost * seconds
    at = utility.argmax(axis=1)
    rows = np.arange(len(at))
    best, gained = right[rows, at], utility[rows, at] - utility[:, 0]
    where, there, gain = (spread(column[0], column[1:]) for column in (x[at], best, gained))
    return Bend(where, there, gain, measured=bool(x[at[0]] <= curve.x[-1]), reached=bool(at[0] < len(x) - 1))


def _beyond(x: Floats, y: Floats, wanted: Floats) -> Floats:
    """Costs between the points and beyond the last: as a line. Shape [rows, wanted]."""
    slope = (y[:, -1] - y[:, 0]) / max(x[-1] - x[0], 1e-12)
    inside = np.array([np.interp(wanted, x, row) for row in y])
    return np.where(wanted > x[-1], y[:, -1:] + slope[:, None] * (wanted - x[-1]), inside)


# ---------------------------------------------------------------- difficulty


def bins(first: Floats, count: int = 5) -> list[NDArray[np.intp]]:
    """Problems in equal parts by pass rate, the easiest first, as in Snell et al. 2024 (arXiv 2408.03314).

    The rate must come of other samples than the curve that is shown for the parts, or chance alone makes easy problems easier.
    """
    return [part for part in np.array_split(np.argsort(-first, kind="stable"), count) if len(part)]


# ---------------------------------------------------------------- exchange


def matches(curve: Curve, means: Means, level: float, levels: Floats) -> Interval | None:
    """The least point at which a curve reaches a level of accuracy, `levels` being those of the bootstrap's draws.

    Between points it is a line in the logarithm. None where the curve does not reach it; draws that do not count as infinite.
    """
    reached = [_reach(curve.x, row, goal) for row, goal in zip(np.vstack([curve.mean(), means.right]), [level, *levels], strict=True)]
    if not np.isfinite(reached[0]):
        return None
    low, high = np.percentile(reached[1:], [2.5, 97.5], method="closest_observation")
    return Interval(float(reached[0]), float(min(low, reached[0])), float(max(high, reached[0])))


def _reach(x: Floats, y: Floats, level: float) -> float:
    over = np.flatnonzero(y >= level)
    if not len(over):
        return float("inf")
    i = over[0]
    if i == 0:
        return float(x[0])
    part = (level - y[i - 1]) / (y[i] - y[i - 1])
    return float(np.exp(np.log(x[i - 1]) + part * (np.log(x[i]) - np.log(x[i - 1]))))
