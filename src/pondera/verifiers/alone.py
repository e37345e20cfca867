"""The verifier of a calibrated table: the chance that a sample is right, judged by itself, whatever the others say.

A logistic regression as in :mod:`pondera.verifiers.learned`, over those of :mod:`pondera.verifiers.signals` that a sample has alone, and
what the model's own outcome reward model says of it (:mod:`pondera.verifiers.orm`) where the table was fitted with that; so what it says of
one sample and what the vote says are two pieces of evidence (:mod:`pondera.allocate.posterior`). `pondera calibrate` fits it.
"""

from __future__ import annotations

import math

import numpy as np

from pondera.allocate import table as tables
from pondera.errors import BadInput
from pondera.ops import Key, Role, Verifier
from pondera.thought import Thought
from pondera.verifiers.learned import DEFAULT, ORM, Fit, asked
from pondera.verifiers.signals import NAMES, by_themselves, signals


def alone(table: str = DEFAULT, by: Role = "think") -> Verifier:
    """Chance that a sample is right, by cheap signals of it alone: log-probabilities, sums, use of the question's numbers.

    `table` is one that comes with Pondera (its model's name) or a file that `pondera calibrate` wrote; `by` the role of the model that gave
    the samples. A score is a probability; None for a thought without an answer. Raises BadInput for a file that cannot be used, or has no
    verifier.

    Paper: outcome verifiers, Cobbe et al. 2021 (arXiv 2110.14168).
    """
    given = None if table == DEFAULT else fit_of(table)  # what is wrong with it is said before anything is asked

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        fit = given or fit_of(table)
        keys = await Key(nodes)
        rows = by_themselves(np.array(signals(nodes, keys))) if nodes else np.empty((0, len(NAMES)))
        columns = await asked([f"{ask}(by={by!r})" for ask in fit.asks], nodes, keys)
        chances = fit.chance(np.column_stack([rows, *columns])).tolist()
        return [None if key is None else chance for chance, key in zip(chances, keys, strict=True)]

    return verifier


def fit_of(table: str) -> Fit:
    """The verifier of a table, by the table's name or file. Raises BadInput."""
    body = tables.load(table).verifier
    if not body:
        raise BadInput(f"The table {table} has no verifier, since none helped: name another one, such as confidence.")
    try:
        told = {str(column["signal"]): [float(column[part]) for part in ("mean", "scale", "weight")] for column in body["signals"]}
        bias = float(body["bias"])
        asks = tuple(str(ask) for ask in body.get("asks", ()))
        whole = (
            set(asks) <= {ORM}
            and set(told) <= {*NAMES, *asks}
            and all(map(math.isfinite, [bias, *(x for row in told.values() for x in row)]))
        )
        whole = whole and all(scale > 0 for _, scale, _ in told.values())
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise BadInput(f"The verifier of {table} reads other signals than this version of Pondera has: calibrate anew.")
    mean, scale, weights = (tuple(told.get(name, (0.0, 1.0, 0.0))[i] for name in (*NAMES, *asks)) for i in range(3))
    return Fit(mean, scale, weights, bias, asks)
