r"""An outcome verifier that was trained: the chance that an answer is right, by a logistic regression over cheap signals.

    P(right) = 1 / (1 + exp(-(b + sum over j of w_j (x_j - m_j) / s_j)))

x are the columns of :mod:`pondera.verifiers.signals`, and after them the scores of other verifiers that the fit asks (a judge, say); where
a signal does not apply, x = m. Outcome verifiers trained on sampled solutions: Cobbe et al. 2021 (arXiv 2110.14168); that the votes of the
pool are among the signals, and that fits are small: the difference to a model that reads. `pondera verifier train` makes a fit for any
model and data; it is a readable file of JSON with a card that says what it was fitted on, and nothing in it is run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pondera import parse
from pondera.allocate.posterior import log_odds
from pondera.errors import BRANCH_ERRORS, BadInput
from pondera.ops import Key, Verifier, both
from pondera.thought import Thought
from pondera.verifiers.signals import NAMES, signals

VERSION = 1
DEFAULT = "qwen2.5-coder-0.5b"
ORM = "orm"  # whose chances are signals as log odds: it is very sure of much


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted verifier: a mean, a scale and a weight for each signal, and the verifiers whose scores follow the signals in a row."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    asks: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return (*NAMES, *self.asks)

    def chance(self, rows: ArrayLike) -> NDArray[np.float64]:
        """P(right) of rows of signals: one for each row, in the shape of `rows` without its last axis."""
        x = (np.asarray(rows, dtype=float) - np.array(self.mean)) / np.array(self.scale)
        total = self.bias + (np.nan_to_num(x, nan=0.0) * np.array(self.weights)).sum(axis=-1)
        told: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(total, -700.0, 700.0)))
        return told

    def save(self, path: Path) -> None:
        """Write the fit as JSON, a signal a line."""
        rows = zip(self.names, self.mean, self.scale, self.weights, strict=True)
        columns = [{"signal": name, "mean": m, "scale": s, "weight": w} for name, m, s, w in rows]
        body = {"version": VERSION, "card": self.card, "asks": self.asks, "bias": self.bias}
        lines = ",\n    ".join(json.dumps(column) for column in columns)
        path.write_text(json.dumps(body, indent=2).removesuffix("\n}") + f',\n  "signals": [\n    {lines}\n  ]\n}}\n')


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, x))))


def read(text: str, name: str) -> Fit:
    """A fit from its file's text. Raises BadInput where it is none, or one for other signals than this version's."""
    try:
        body = json.loads(text)
        columns, asks = body["signals"], tuple(str(ask) for ask in body["asks"])
        told = [column["signal"] for column in columns]
        mean, scale, weights = (tuple(float(column[part]) for column in columns) for part in ("mean", "scale", "weight"))
        whole = all(map(math.isfinite, (*mean, *scale, *weights, float(body["bias"])))) and min(scale, default=0.0) > 0
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise BadInput(f"{name} holds no fitted verifier: give a file that `pondera verifier train` wrote.")
    if body.get("version") != VERSION or told != [*NAMES, *asks] or not whole:
        raise BadInput(f"{name} was fitted for other signals than this version of Pondera reads: train it anew.")
    return Fit(mean, scale, weights, float(body["bias"]), asks, body.get("card", {}))


@cache
def shipped() -> tuple[str, ...]:
    """The names of the fits that come with Pondera."""
    return tuple(sorted(file.name.removesuffix(".json") for file in _folder().iterdir() if file.name.endswith(".json")))


def _folder() -> Any:
    return resources.files("pondera.verifiers") / "fitted"


@cache
def _shipped(name: str) -> Fit:
    return read((_folder() / f"{name}.json").read_text(encoding="utf-8"), name)


def load(name: str) -> Fit:
    """A fit by its name among those shipped, or from a file as it is now. Raises BadInput."""
    if name in shipped():
        return _shipped(name)
    try:
        return read(Path(name).read_text(encoding="utf-8"), name)
    except OSError:
        raise BadInput(f"There is no fitted verifier {name!r}: give a file, or one of {', '.join(shipped())}.")
    except ValueError:  # not UTF-8, or a name that no file can have
        raise BadInput(f"{name} holds no fitted verifier: give a file that `pondera verifier train` wrote.")


def learned(fit: str = DEFAULT) -> Verifier:
    """Chance of being right, by a small model of cheap signals: agreement, log-probabilities, sums, use of the question's numbers.

    `fit` is one that comes with Pondera (its name) or a file that `pondera verifier train` wrote. A score is a probability; None for a
    thought without an answer. It judges answers beside each other, so give it a whole pool. Raises BadInput for a file that cannot be used.

    Paper: outcome verifiers, Cobbe et al. 2021 (arXiv 2110.14168).
    """
    given = None if fit == DEFAULT else load(fit)  # what is wrong with it is said before anything is asked

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        fitted = given or load(fit)
        keys = await Key(nodes)
        rows = signals(nodes, keys)
        for column in await asked(fitted.asks, nodes, keys):
            rows = [[*row, score] for row, score in zip(rows, column, strict=True)]
        chances = fitted.chance(rows).tolist() if rows else []
        return [None if key is None else chance for chance, key in zip(chances, keys, strict=True)]

    return verifier


def fit_of(verifier: str) -> Fit | None:
    """The fit by which a verifier, named as in "learned(fit='mine.json')", judges from signals alone; None for any other verifier."""
    from pondera.verifiers import VERIFIERS

    try:
        made: Any = parse.call(verifier, VERIFIERS, "verifier")
        fit = load(made.keywords.get("fit", DEFAULT)) if made.func is learned else None
    except BadInput:  # it judged elsewhere, and is not here
        return None
    return None if fit is None or fit.asks else fit


async def asked(asks: Sequence[str], nodes: tuple[Thought, ...], keys: Sequence[str | None]) -> list[list[float]]:
    """What other verifiers think of the nodes that have an answer, a column for each; NaN where one has no opinion."""
    from pondera.verifiers import VERIFIERS

    some = [i for i, key in enumerate(keys) if key is not None]
    answered = tuple(nodes[i] for i in some)

    async def one(k: int, ask: str) -> tuple[int, list[float | None]]:
        verifier = parse.call(ask, VERIFIERS, "verifier")()
        try:
            return k, await verifier(answered)
        except BRANCH_ERRORS:  # recorded by the runtime; the signals are there all the same
            return k, [None] * len(answered)

    said = dict(await both(*(one(k, ask) for k, ask in enumerate(asks)))) if answered else {}
    columns = [[math.nan] * len(nodes) for _ in asks]
    for k, scores in said.items():
        for i, score in zip(some, scores, strict=True):
            columns[k][i] = column(asks[k], score)
    return columns


def column(ask: str, score: float | None) -> float:
    """A verifier's score as a signal; NaN where it has no opinion."""
    if score is None or not math.isfinite(score):
        return math.nan
    return float(log_odds(score)) if ask.partition("(")[0] == ORM else float(score)
