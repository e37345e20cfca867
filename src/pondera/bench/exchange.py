r"""The exchange rate: how much thinking of a small model is worth a larger one that does not think.

Floating-point operations are counted as :math:`2 N (p + g)` for a model of N parameters that computes p tokens of prompts and generates g
(a forward pass is two operations a parameter; Kaplan et al. 2020, arXiv 2001.08361; the comparison is that of Snell et al. 2024, arXiv
2408.03314). Prompt tokens read from a cache cost nothing, and stand beside as if each sample had computed them. The small model's samples
are thought once and resampled, so p is what their common prompt cost once, and g grows with k; whoever judges is counted with its own N.

Beside it stand seconds of the machine (a problem's time divided by the problems that shared it), and dollars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pondera.allocate.curve import Curve, Floats, bootstrap
from pondera.allocate.returns import matches
from pondera.bench.bank import MAJORITY, PASS, TRUST, Bank, model_of
from pondera.bench.file import Result
from pondera.errors import BadInput
from pondera.intervals import Interval, spread


def parameters(model: str, given: Mapping[str, float]) -> float:
    """Of a model by name: as they are given, or as Pondera knows them. Raises BadInput."""
    from pondera.models.known import KNOWN

    if model in given:
        return given[model]
    if model in KNOWN:
        return float(KNOWN[model].parameters)
    raise BadInput(f"How many parameters {model} has is not known: say it, as in --parameters {model}=7e9.")


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer costs, of each problem at each point. Shapes [problems, points]: operations (with a cache, and without), seconds."""

    flops: Floats
    uncached: Floats
    seconds: Floats


def cost(results: Sequence[Result], samples: Floats, n: int, sizes: Mapping[str, float], judged: bool) -> Cost:
    """Of `samples` (shape [problems, points]) out of `n`: the first computes the prompt, the others what the cache did not give them.

    `judged` adds those who judge, in proportion, and their time.
    """
    flops, uncached, seconds = [], [], []
    for one, x in zip(results, samples, strict=True):
        bills = one.figures["by_role"]
        own, others = bills.get("think", {"tokens": 0, "prompt": 0, "cached": 0}), [r for r in bills if r != "think" and judged]
        first = own["prompt"] / n
        again = max(0.0, (own["prompt"] - own["cached"] - first) / max(1, n - 1))
        grown = x * own["tokens"] / n
        more = sum(sizes[r] * (bills[r]["tokens"] + bills[r]["prompt"] - bills[r]["cached"]) for r in others) * x / n
        bare = sum(sizes[r] * (bills[r]["tokens"] + bills[r]["prompt"]) for r in others) * x / n
        flops.append(2 * (sizes["think"] * (first + np.maximum(x - 1, 0) * again + grown) + more))
        uncached.append(2 * (sizes["think"] * (x * first + grown) + bare))
        took = max((sample["seconds"] for sample in one.pool), default=one.figures["seconds"])
        took += max(0.0, one.figures["seconds"] - took) if others else 0.0
        seconds.append(took / one.figures.get("at_once", 1) * x / n)
    return Cost(np.array(flops), np.array(uncached), np.array(seconds))


@dataclass(frozen=True, slots=True)
class Rate:
    """What one way of thinking of the small model is worth. Ratios are the small one's cost by the large one's; below 1 it is cheaper.

    `samples` is where its accuracy reaches that of the large model's single answer, None where it does not up to `n`; the ratios are taken
    there, or at `n`. `gap` is its accuracy there minus the large one's, paired by problem.
    """

    way: str
    samples: Interval | None
    n: int
    accuracy: float
    gap: Interval
    flops: float
    uncached: float
    seconds: float
    usd: float | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A small model that thinks with a larger one that does not, on the problems that both have answered."""

    small: str
    way: str  # of which the small one's samples are
    large: str
    task: str
    problems: int
    single: Interval  # the large one's accuracy
    alone: Interval  # the small one's single answer
    flops: float  # of the large one's single answer
    seconds: float
    rates: Sequence[Rate]
    lines: Mapping[str, tuple[Floats, Floats]]  # operations and accuracy of the small one at each point, by way


def exchange(
    small: Bank, smalls: Sequence[Result], large: Bank, larges: Sequence[Result], given: Mapping[str, float], seed: int = 0
) -> Exchange:
    """Compare two banks of one task; `smalls` and `larges` are the results that they were made of. Raises BadInput."""
    if small.cell.task != large.cell.task:
        raise BadInput(f"{small.cell.task} and {large.cell.task} are two tasks: an exchange rate is between models on the same problems.")
    common = sorted(set(small.problems) & set(large.problems))
    if len(common) < 2:
        raise BadInput("The two models have answered no problems in common: run both on the same ones.")
    rows = [np.array([bank.problems.index(name) for name in common]) for bank in (small, large)]
    mine, theirs = ({one.problem: one for one in some} for some in (smalls, larges))
    sizes_of = [_sizes(bank, results, given) for bank, results in ((small, smalls), (large, larges))]
    one = large.curves[PASS].take(rows[1])
    dear = cost([theirs[name] for name in common], np.ones((len(common), 1)), large.n, sizes_of[1], False)
    drawn = bootstrap(one, seed=seed)
    level, levels = float(one.mean()[0]), drawn.right[:, 0]
    ways = {name: curve.take(rows[0]) for name, curve in small.curves.items() if name != PASS}
    answered = [mine[name] for name in common]
    rates = [_rate(curve, answered, small.n, sizes_of[0], (level, levels), dear, one, seed) for curve in ways.values()]
    lines = {
        name: (_cost(curve, curve.samples, answered, small.n, sizes_of[0]).flops.mean(axis=0), curve.mean()) for name, curve in ways.items()
    }
    alone = small.curves[MAJORITY].take(rows[0])
    return Exchange(
        small.cell.plan.model,
        small.cell.label,
        large.cell.plan.model,
        small.cell.task,
        len(common),
        spread(level, levels),
        spread(float(alone.mean()[0]), bootstrap(alone, seed=seed).right[:, 0]),
        float(dear.flops.mean()),
        float(dear.seconds.mean()),
        rates,
        lines,
    )


def _sizes(bank: Bank, results: Sequence[Result], given: Mapping[str, float]) -> dict[str, float]:
    """Parameters of the model of each role that was asked anything. Raises BadInput."""
    asked = {"think"} | {role for one in results for role in one.figures["by_role"]}
    return {role: parameters(model_of(bank.cell, role), given) for role in asked}


def _rate(
    curve: Curve,
    results: Sequence[Result],
    n: int,
    sizes: Mapping[str, float],
    level: tuple[float, Floats],
    dear: Cost,
    single: Curve,
    seed: int,
) -> Rate:
    means = bootstrap(curve, seed=seed)
    at = matches(curve, means, *level)
    last = len(curve.x) - 1
    x = curve.x[last] if at is None else at.value

    def there(values: Floats) -> float:
        return float(np.interp(x, curve.x, values))

    drawn = np.array([[there(row)] for row in curve.samples])
    spent = _cost(curve, drawn, results, n, sizes)
    gaps = np.array([there(row) for row in means.right]) - level[1]
    paid = float(single.mean("usd")[0])
    return Rate(
        curve.name,
        at,
        n,
        there(curve.mean()),
        spread(there(curve.mean()) - level[0], gaps),
        float(spent.flops.mean() / dear.flops.mean()),
        float(spent.uncached.mean() / dear.uncached.mean()),
        float(spent.seconds.mean() / max(float(dear.seconds.mean()), 1e-9)),
        there(curve.mean("usd")) / paid if paid else None,
    )


def _cost(curve: Curve, samples: Floats, results: Sequence[Result], n: int, sizes: Mapping[str, float]) -> Cost:
    """Of a curve at points; judges are paid where one gives its scores."""
    return cost(results, samples, n, sizes, " by " in curve.name and curve.name != TRUST)
