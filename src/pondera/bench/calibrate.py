"""From a bank to a calibrated table: the verifier of samples alone, the belief, and what thinking comes to on questions held out of both.

Folds part questions. The evidence by which the belief is fitted is that of verifiers which had not seen the question; the curve and the
efforts of the table are those of questions that neither the verifier nor the belief of their fold had seen. What is kept is fitted to all,
and the rows say what thinking comes to under what is kept: how long it goes on turns on the thresholds of that belief, not of a fold's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pondera.allocate import policies
from pondera.allocate.decide import TOGETHER
from pondera.allocate.fitting import fit
from pondera.allocate.policies import Deck, Ends, Mind
from pondera.allocate.posterior import Belief
from pondera.allocate.resample import shuffles
from pondera.allocate.table import EFFORTS, SORTS, Larger, Point, Row, Table, standing
from pondera.bench.decks import deck, own
from pondera.bench.file import Result
from pondera.bench.grading import SURE
from pondera.errors import BadInput
from pondera.verifiers.calibration import ece
from pondera.verifiers.learned import Fit

FOLDS = 5
ORDERS = 4  # of each question's samples
LEAST = 2 * FOLDS  # questions
WORTHS = (250.0, 500.0, 1e3, 2e3, 4e3, 8e3, 16e3, 32e3, 64e3, 128e3, 256e3, 1e6)  # tokens
EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the chance after the first round
GAINED = {"low": 0.5, "medium": 0.8, "high": 0.95}  # of what thinking gains at best
NEWTON = 20  # steps
FIRM = 1.0  # how firmly the defaults for a larger model hold: as the log-likelihood of so many questions for each squared unit

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Fold:
    """A belief, and questions to think about under it."""

    belief: Belief
    decks: list[Deck]


@dataclass(frozen=True, slots=True)
class Beside:
    """A larger model's one answer to some of the questions, by the question, and how many of the model's tokens one of its costs."""

    name: str
    answers: Mapping[str, Result]
    times: float


def calibrate(
    results: Sequence[Result],
    model: str,
    card: Mapping[str, Any],
    tell: Tell = lambda stage, done, total: None,
    beside: Beside | None = None,
) -> Table:
    """A model's table from a bank's results. Raises BadInput where there is too little to learn from."""
    some = [result for result in results if result.state == "done" and result.pool]
    if len(some) < LEAST:
        raise BadInput(f"{len(some)} questions with samples calibrate nothing: give {LEAST} at least, better some hundred.")
    if beside and (common := sum(one.problem in beside.answers for one in some)) < LEAST:
        raise BadInput(f"{beside.name} has answered {common} of the questions with samples: {LEAST} at least are needed.")
    parts = [[one for i, one in enumerate(some) if i % FOLDS == fold] for fold in range(FOLDS)]
    judges = [_judge([one for part in parts if part is not held for one in part]) for held in parts]
    held_out = [[deck(one, judge) for one in part] for part, judge in zip(parts, judges, strict=True)]
    every = [one for part in held_out for one in part]
    costs = _costs(every)
    folds = _folds(held_out, tell)
    belief = fit(every)
    told = _thought(folds, costs, partial(tell, "thinking"))
    kept = _thought([Fold(belief, part) for part in held_out], costs, partial(tell, "foretelling"))
    curve = tuple(_point(worth, ends) for worth, ends in told.items())
    efforts = _efforts(curve)
    judge = _judge(some) if belief.evidence > 0 else None
    notes = {"verifier": "none: it was no better than chance, or there was too little to learn from"} if judge is None else {}
    counted = {"questions": len(some), "samples": sum(len(one.pool) for one in some), "held out": _held_out(told[efforts["medium"]])}
    rows = tuple(row for worth, ends in kept.items() for row in _rows(worth, ends))
    verifier = _body(judge) if judge else {}
    larger = {beside.name: _larger(beside, [one.problem for part in parts for one in part], told[efforts["medium"]])} if beside else {}
    return Table(
        model=model,
        belief=belief,
        costs=costs,
        efforts=efforts,
        curve=curve,
        rows=rows,
        verifier=verifier,
        card={**card, **counted, **notes},
        larger=larger,
        most=max(len(one.pool) for one in some),
    )


def _folds(held_out: Sequence[list[Deck]], tell: Tell) -> list[Fold]:
    """For each part of the questions a belief that was fitted to the others; told so that fitting to all comes last."""
    folds = []
    for i, part in enumerate(held_out):
        tell("fitting", i, FOLDS + 1)
        folds.append(Fold(fit([one for other in held_out if other is not part for one in other]), part))
    tell("fitting", FOLDS, FOLDS + 1)
    return folds


def _larger(beside: Beside, questions: Sequence[str], ends: Sequence[Ends]) -> Larger:
    """How often a larger model is right where the model ended with a chance, by a logistic regression held near the defaults."""
    both = [(beside.answers[name].figures, one) for name, one in zip(questions, ends, strict=True) if name in beside.answers]
    orders = len(both[0][1].chance)
    chance = np.array([[1.0, standing(float(x))] for _, one in both for x in one.chance])
    right = np.repeat([figures["right"] >= SURE for figures, _ in both], orders)
    usual = Larger()
    prior = np.array([usual.start, usual.slope])
    weights = prior.copy()
    for _ in range(NEWTON):
        held = 1 / (1 + np.exp(-(chance @ weights)))
        slope = chance.T @ (right - held) / orders - FIRM * (weights - prior)
        bend = (chance * (held * (1 - held))[:, None]).T @ chance / orders + FIRM * np.eye(2)
        weights = weights + np.linalg.solve(bend, slope)
    tokens = float(np.mean([figures["tokens"] + figures["prompt"] for figures, _ in both]))
    return Larger(tokens=round(tokens, 1), times=beside.times, start=round(float(weights[0]), 4), slope=round(float(weights[1]), 4))


def _judge(results: Sequence[Result]) -> Fit | None:
    try:
        return own(results)
    except BadInput:  # nothing wrong, or nothing right, to learn from
        return None


def _body(judge: Fit) -> dict[str, Any]:
    """A fit as a table keeps it: the signals that weigh nothing are left out, and who would be asked for them."""
    rows = zip(judge.names, judge.mean, judge.scale, judge.weights, strict=True)
    signals = [{"signal": name, "mean": m, "scale": s, "weight": w} for name, m, s, w in rows if w]
    asks = [one["signal"] for one in signals if one["signal"] in judge.asks]
    return {"bias": judge.bias, **({"asks": asks} if asks else {}), "signals": signals}


def _costs(decks: Sequence[Deck]) -> dict[str, float]:
    """Mean tokens of a sample of each sort; a sort that nobody tried is as dear as the others."""
    told = [np.concatenate([deck.tokens[deck.kind == i] for deck in decks]) for i in range(len(SORTS))]
    usual = float(np.mean(np.concatenate(told)))
    return {sort: round(float(np.mean(some)) if len(some) else usual, 1) for sort, some in zip(SORTS, told, strict=True)}


def _thought(folds: Sequence[Fold], costs: Mapping[str, float], tell: Callable[[int, int], None]) -> dict[float, list[Ends]]:
    """How `auto` ends on each question, by the belief of its fold, for each worth of a right answer."""
    told: dict[float, list[Ends]] = {worth: [] for worth in WORTHS}
    done, total = 0, len(WORTHS) * sum(len(fold.decks) for fold in folds)
    for number, fold in enumerate(folds):
        mind = Mind(fold.belief, np.random.default_rng(number))
        for i, one in enumerate(fold.decks):
            n = len(one.options)
            orders = shuffles(n, ORDERS, np.random.default_rng((number, i)))
            for worth in WORTHS:
                told[worth].append(policies.ends(one, orders, 1 / worth, n, mind, TOGETHER, tuple(costs.values()), len(SORTS)))
                done += 1
            tell(done, total)
    return told


def _point(worth: float, ends: Sequence[Ends]) -> Point:
    right, tokens = (float(np.mean([getattr(one, part).mean() for one in ends])) for part in ("right", "tokens"))
    samples = float(np.mean([one.hands.sum(axis=1).mean() for one in ends]))
    return Point(worth=worth, right=round(right, 4), samples=round(samples, 2), tokens=round(tokens, 1))


def _efforts(curve: Sequence[Point]) -> dict[str, float]:
    """The least worth at which a part of what thinking gains on the way from the first point to the best is there."""
    right = np.maximum.accumulate([point.right for point in curve])
    found = {
        effort: curve[int(np.argmax(right >= right[0] + part * (right[-1] - right[0]) - 1e-12))].worth for effort, part in GAINED.items()
    }
    return {effort: found.get(effort, curve[-1].worth) for effort in EFFORTS}


def _rows(worth: float, ends: Sequence[Ends]) -> list[Row]:
    """By difficulty: the chance after the first round."""
    first, tokens, right, hands = (policies.pooled(ends, part) for part in ("first", "tokens", "right", "hands"))
    told = []
    for low, high in itertools.pairwise(EDGES):
        here = (first >= low) & ((first < high) | (high == EDGES[-1]))
        if not here.any():
            continue
        q05, q50, q95 = (round(float(q)) for q in np.quantile(tokens[here], (0.05, 0.5, 0.95)))
        chains, programs = (round(float(x), 2) for x in hands[here].mean(axis=0))
        share, good = round(float(here.mean()), 4), round(float(right[here].mean()), 4)
        made = Row(worth=worth, low=low, high=high, share=share, chains=chains, programs=programs, tokens=(q05, q50, q95), right=good)
        told.append(made)
    return told


def _held_out(ends: Sequence[Ends]) -> dict[str, Any]:
    """How well the chances of questions that were held out are calibrated, at medium effort."""
    chance, right = (policies.pooled(ends, part) for part in ("chance", "right"))
    error = ece(chance.tolist(), (right >= 0.5).tolist())
    return {"right": round(float(right.mean()), 4), "expected": round(float(chance.mean()), 4), "calibration error": round(error or 0.0, 4)}
