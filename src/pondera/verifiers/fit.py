"""Fitting the learned verifier: logistic regression on the signals of labelled pools, with scikit-learn, judged out of fold.

Folds part questions, never the samples of one. How strongly weights are held back is chosen by the log-likelihood of held-out
questions, and every figure of the card is of held-out questions too.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pondera.errors import BadInput
from pondera.verifiers.calibration import Report, report
from pondera.verifiers.learned import Fit
from pondera.verifiers.signals import NAMES

FOLDS = 5
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # inverse strengths of the penalty (scikit-learn's C)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pool:
    """The answers to one question: a row of signals, a key and whether it is right, for each."""

    rows: Sequence[Sequence[float]]
    keys: Sequence[str | None]
    right: Sequence[bool]


def fit(pools: Sequence[Pool], asks: Sequence[str] = (), card: dict[str, Any] | None = None) -> tuple[Fit, Report]:
    """A fit to pools, and how it does on questions that were held out of it. Raises BadInput where there is too little to learn from."""
    linear = sklearn("linear_model").LogisticRegression
    pools = [pool for pool in pools if any(key is not None for key in pool.keys)]
    right = np.array([ok for pool in pools for ok, key in zip(pool.right, pool.keys, strict=True) if key is not None], dtype=bool)
    if len(pools) < 2 * FOLDS or min(int(right.sum()), int((~right).sum())) < FOLDS:
        raise BadInput(f"{len(pools)} questions with {int(right.sum())} right answers of {len(right)} teach nothing: give more of both.")
    raw = np.array([row for pool in pools for row, key in zip(pool.rows, pool.keys, strict=True) if key is not None], dtype=float)
    group = np.array([i for i, pool in enumerate(pools) for key in pool.keys if key is not None])
    mean, scale = _moments(raw)
    x = np.nan_to_num((raw - mean) / scale, nan=0.0)

    def learn(rows: Floats, strength: float) -> Any:
        return linear(C=strength, max_iter=2000).fit(x[rows], right[rows])

    def held_out(strength: float) -> Floats:
        chance = np.empty(len(x))
        for fold in range(FOLDS):
            test = group % FOLDS == fold
            chance[test] = learn(~test, strength).predict_proba(x[test])[:, 1]
        return chance

    tried = {strength: held_out(strength) for strength in STRENGTHS}
    best = max(tried, key=lambda strength: _likelihood(tried[strength], right))
    model = learn(np.ones(len(x), dtype=bool), best)
    weights = tuple(round(float(w), 5) for w in model.coef_[0])
    made = Fit(
        tuple(round(float(m), 5) for m in mean),
        tuple(round(float(s), 5) for s in scale),
        weights,
        round(float(model.intercept_[0]), 5),
        tuple(asks),
        {**(card or {}), "questions": len(pools), "answers": len(x), "right": int(right.sum()), "C": best},
    )
    return made, report(list(tried[best]), list(right), list(group))


def votes(pools: Sequence[Pool]) -> Report:
    """How the plain vote does as a verifier, ties going by trust."""
    told = [
        (row[0] + 1e-3 * row[NAMES.index("trusted share")], ok, i)
        for i, pool in enumerate(pools)
        for row, key, ok in zip(pool.rows, pool.keys, pool.right, strict=True)
        if key is not None
    ]
    return report([score for score, _, _ in told], [ok for _, ok, _ in told], [i for _, _, i in told])


def sklearn(part: str) -> Any:
    """A part of scikit-learn. Raises BadInput where it is not installed."""
    try:
        return importlib.import_module(f"sklearn.{part}")
    except ImportError:
        raise BadInput("Training a verifier needs scikit-learn: install Pondera with its extra, as in pip install 'pondera[train]'.")


def _moments(raw: Floats) -> tuple[Floats, Floats]:
    """Mean and spread of each signal where it applies; 0 and 1 where it never does or never varies."""
    count = np.maximum(1, (~np.isnan(raw)).sum(axis=0))
    mean = np.nansum(raw, axis=0) / count
    spread = np.sqrt(np.nansum((raw - mean) ** 2, axis=0) / count)
    return mean, np.where(spread > 1e-4, spread, 1.0)


def _likelihood(chance: Floats, right: NDArray[np.bool_]) -> float:
    return float(np.log(np.clip(np.where(right, chance, 1 - chance), 1e-9, 1)).mean())
