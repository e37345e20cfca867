"""Decks from a bench: each problem's recorded samples, as policies draw them (:mod:`pondera.allocate.policies`).

What a verifier thinks of a sample by itself is told by a fit that reads only the signals that a sample has alone, and what the model's own
outcome reward model said of it where the bank has that; it is centred, so that 0 is the mean of all samples and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pondera.allocate.policies import Deck
from pondera.allocate.posterior import log_odds
from pondera.allocate.resample import Floats, Votes
from pondera.allocate.table import SORTS
from pondera.bench.file import Result
from pondera.bench.grading import SURE
from pondera.verifiers.fit import Pool as Labelled
from pondera.verifiers.fit import fit
from pondera.verifiers.learned import ORM, Fit, column
from pondera.verifiers.signals import ALONE, NAMES, by_themselves


def alone(one: Mapping[str, Any], asks: Sequence[str] = ()) -> Floats:
    """What a sample has alone, as a row of signals, with what `asks` said of it; NaN where it has nothing, or that of another version."""
    told = np.full(len(NAMES), np.nan)
    if len(some := one.get("signals", ())) == len(told[ALONE]):
        told[ALONE] = [np.nan if value is None else value for value in some]
    return np.concatenate([by_themselves(told[None])[0], [column(ask, one["scores"].get(ask)) for ask in asks]])


def own(results: Iterable[Result], card: Mapping[str, Any] | None = None) -> Fit:
    """A verifier of samples by themselves, fitted to pools. Raises BadInput where there is too little to learn from."""
    pools = [result.pool for result in results if result.state == "done" and result.pool]
    asks = (ORM,) if all(ORM in one["scores"] for pool in pools for one in pool if one["key"] is not None) else ()
    told = [Labelled([alone(one, asks).tolist() for one in pool], *_labels(pool)) for pool in pools]
    return fit(told, asks, card=dict(card or {}))[0]


def verdict(result: Result, judge: Fit | None) -> float:
    """Tokens for what a fit asks of one sample, the new ones of its prompt with them, as the bank paid them."""
    bill = result.figures["by_role"].get("judge")
    return (bill["tokens"] + bill["prompt"] - bill["cached"]) / len(result.pool) if bill and judge and judge.asks else 0.0


def _labels(pool: Sequence[Mapping[str, Any]]) -> tuple[list[str | None], list[bool]]:
    return [one["key"] for one in pool], [one["score"] >= SURE for one in pool]


def decks(results: Iterable[Result], judge: Fit | None = None) -> list[Deck]:
    """A deck of every problem that has samples, in the order of the problems."""
    return [deck(result, judge) for result in results if result.state == "done" and result.pool]


def deck(result: Result, judge: Fit | None = None) -> Deck:
    pool = result.pool
    keys, right = _labels(pool)
    trust = np.array([one["trust"] for one in pool], dtype=float)
    votes = Votes.of(keys, right, trust)
    evidence = np.zeros(len(pool))
    if judge is not None:
        chance = judge.chance(np.array([alone(one, judge.asks) for one in pool]))
        known = np.array([bool(one.get("signals")) and one["key"] is not None for one in pool])
        evidence = np.where(known, log_odds(chance, judge.bias), 0.0)
    kind = np.array([int(one["program"]) for one in pool], dtype=np.int64)
    prompt = np.array([one["prompt"] for one in pool], dtype=float)
    return Deck(
        options=votes.options,
        right=votes.right,
        kind=kind,
        tokens=np.array([one["tokens"] for one in pool], dtype=float) + verdict(result, judge),
        trust=trust,
        evidence=evidence,
        opening=tuple(float(prompt[kind == one].mean()) if (kind == one).any() else 0.0 for one in range(len(SORTS))),
    )
