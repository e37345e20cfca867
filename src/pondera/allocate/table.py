"""The calibrated table of a model: what `pondera calibrate` learned of it on questions whose answers are known, as one readable file.

It holds the belief of :mod:`pondera.allocate.posterior`, what a sample of each sort costs, what a verifier makes of the signals that a
sample has alone, and what came of thinking on questions that were held out: the returns curve, the efforts that are points on it, and for
each worth of a right answer and each bin of difficulty (the chance after the first round) how many samples of which sort were drawn and
what they cost. A card says what it was made from. Nothing in the file is run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pondera.allocate.posterior import Belief
from pondera.errors import BadInput

VERSION = 2
EFFORTS = ("low", "medium", "high", "max")
SORTS = ("chains", "programs")
JUDGED = "+orm"  # ends the name of a table with verdicts of the model's own outcome reward model
MOST = 64  # samples of a question, where no table says how far it was looked
HOPELESS = 0.02  # a chance: below it no question is harder, and none easier above what it leaves of 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Held-out questions, where a right answer was worth so many tokens: the share that is right, samples and tokens a question."""

    worth: float
    right: float
    samples: float
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Those of them whose first round ended with a chance from `low` to `high`: their share, the mean number of samples of each sort, the
    5th, 50th and 95th percentile of tokens (prompts with them), and the share that is right."""

    worth: float
    low: float
    high: float
    share: float
    chains: float
    programs: float
    tokens: tuple[float, float, float]
    right: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Larger:
    """What asking a larger model comes to: one answer takes `tokens`, each as dear as `times` of the model's own, and where the model is
    right with log odds x, the larger one is with `start` + `slope` x. The defaults are a guess for two that nobody has measured."""

    tokens: float = 300.0
    times: float = 8.0
    start: float = 0.4
    slope: float = 0.6

    @property
    def price(self) -> float:
        """Of one answer, in the model's own tokens."""
        return self.tokens * self.times

    def gain(self, chance: float) -> float:
        """By how much its answer is likelier right than one of this chance."""
        odds = self.start + self.slope * standing(chance)
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, odds)))) - chance


def standing(chance: float) -> float:
    """The log odds of a chance that says how hard a question is; far down and far up they say no more."""
    held = min(1 - HOPELESS, max(HOPELESS, chance))
    return math.log(held / (1 - held))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What is known of a model. `costs` are tokens of a sample by sort, `efforts` tokens that a right answer is worth, `verifier` the body
    of a fitted verifier of samples alone (empty: none was found that helps); `larger` models by name. `most` samples of a question are as
    far as it was looked."""

    model: str
    belief: Belief
    costs: Mapping[str, float]
    efforts: Mapping[str, float]
    curve: tuple[Point, ...] = ()
    rows: tuple[Row, ...] = ()
    verifier: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    larger: Mapping[str, Larger] = field(default_factory=dict)
    most: int = MOST

    @property
    def middle(self) -> float:
        """The log odds of a sample of which the verifier knows nothing."""
        return float(self.verifier.get("bias", 0.0))

    @property
    def rising(self) -> list[tuple[float, float]]:
        """Worths, and the tokens that a question comes to at each, where both rise."""
        return [(worth, tokens) for tokens, worth in self._rising("tokens")]

    def _rising(self, name: str) -> list[tuple[float, float]]:
        """The values of the curve that are above all before them, with their worths."""
        told: list[tuple[float, float]] = []
        for point in self.curve:
            if not told or getattr(point, name) > told[-1][0]:
                told.append((getattr(point, name), point.worth))
        return told

    def expected(self, worth: float, chance: float) -> tuple[float, float, float] | None:
        """The 5th, 50th and 95th percentile of tokens that a question comes to after such a first round; None where that is not known.

        Between two worths of the table it lies between theirs, by the logarithm of the worth.
        """
        here = {row.worth: row.tokens for row in reversed(self.rows) if row.low <= chance <= row.high}
        if not here:
            return None
        less = max((one for one in here if one <= worth), default=min(here))
        more = min((one for one in here if one >= worth), default=max(here))
        part = math.log(worth / less) / math.log(more / less) if less < worth < more else 0.0
        low, mid, high = (a + (b - a) * part for a, b in zip(here[less], here[more], strict=True))
        return low, mid, high

    def worth_of(self, name: str, wanted: float) -> float:
        """What a right answer is to be worth so that a question comes to so many tokens in the mean, or so large a share is right.

        `name` is "tokens" or "right", of the curve of held-out questions. Raises BadInput for what no worth comes to.
        """
        told = [(value, math.log(worth)) for value, worth in self._rising(name)]
        if not told or not told[0][0] <= wanted <= told[-1][0]:
            spell = "{:.0%}".format if name == "right" else "{:,.0f} tokens".format
            have = f"from {spell(told[0][0])} to {spell(told[-1][0])}" if told else "nowhere"
            raise BadInput(f"{self.model} goes {have} on the questions of its table, not to {spell(wanted)}: ask for what it can.")
        for (low, start), (high, end) in pairwise(told):
            if wanted <= high:
                return math.exp(start + (end - start) * (wanted - low) / (high - low))
        return math.exp(told[0][1])

    def save(self, path: Path) -> None:
        """Write it as JSON, a point, a row, a signal a line."""
        body: dict[str, Any] = {
            "version": VERSION,
            "card": {"model": self.model, **self.card},
            "efforts": self.efforts,
            "costs": self.costs,
            "most": self.most,
        }
        body |= {"belief": asdict(self.belief)}
        body |= {"larger": {name: asdict(one) for name, one in self.larger.items()}} if self.larger else {}
        lists = {"curve": [asdict(one) for one in self.curve], "rows": [asdict(one) for one in self.rows]}
        told = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in body.items()]
        told += [f"{json.dumps(name)}: {_lines(some)}" for name, some in lists.items()]
        if self.verifier:
            head = {name: value for name, value in self.verifier.items() if name != "signals"}
            inner = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
            told += ['"verifier": {' + ", ".join(inner) + f', "signals": {_lines(self.verifier["signals"])}' + "}"]
        path.write_text("{\n" + ",\n".join(told) + "\n}\n", encoding="utf-8")


def _lines(some: Sequence[Any]) -> str:
    return "[" + ",".join(f"\n  {json.dumps(one)}" for one in some) + "\n]"


def read(text: str, name: str) -> Table:
    """A table from its file's text. Raises BadInput where it is none, or one of another version."""
    try:
        body = json.loads(text)
        if body["version"] != VERSION:
            raise BadInput(f"{name} was made by another version of Pondera: calibrate anew, as in pondera calibrate --out {name}.")
        card, belief = dict(body["card"]), _made(Belief, body["belief"])
        told = Table(
            model=str(card.pop("model")),
            belief=belief,
            costs={sort: float(body["costs"][sort]) for sort in SORTS},
            efforts={effort: float(body["efforts"][effort]) for effort in EFFORTS},
            curve=tuple(_made(Point, one) for one in body["curve"]),
            rows=tuple(_made(Row, one) for one in body["rows"]),
            verifier=body.get("verifier", {}),
            larger={str(name): _made(Larger, one) for name, one in body.get("larger", {}).items()},
            card=card,
            most=int(body.get("most", MOST)),
        )
        numbers = [told.most, *told.costs.values(), *told.efforts.values()]
        numbers += [x for one in told.larger.values() for x in (one.tokens, one.times)]
        numbers += [*belief.thetas, *belief.odds, belief.discount, belief.kin, *belief.silence]
        numbers += [*(one.worth for one in told.curve), *(one.worth for one in told.rows)]
        whole = min(numbers) > 0 and belief.discount < 1 and len(belief.thetas) == len(belief.odds)
        weights = belief.share, belief.size, belief.evidence, belief.kinds, belief.none, belief.spread
        larger = [value for one in told.larger.values() for value in asdict(one).values()]
        whole = whole and all(map(math.isfinite, [*numbers, *weights, *larger]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        whole = False
    if not whole:
        raise BadInput(f"{name} holds no calibrated table: give a file that `pondera calibrate` wrote.")
    return told


def _made(sort: type[T], body: Mapping[str, Any]) -> T:
    """A dataclass of numbers and tuples of them. Raises TypeError for anything else."""
    names = {one.name for one in fields(sort)}  # type: ignore[arg-type]
    values = {name: tuple(map(float, value)) if isinstance(value, list) else float(value) for name, value in body.items()}
    if set(values) != names:
        raise TypeError
    return sort(**values)


def name_of(model: str) -> str:
    """How a model is known to its table: without its address, folder and ending."""
    return Path(model.partition("@")[0]).name.removesuffix(".gguf")


def of_model(spec: str, embedded: bool) -> str:
    """The table that comes with Pondera for a model; "" where there is none.

    One of the `embedded` engine, whose adapter says what it thinks of each answer, has one that was fitted with that.
    """
    name = name_of(spec)
    return next((own for own in ([name + JUDGED] if embedded else []) + [name] if own in shipped()), "")


@cache
def shipped() -> tuple[str, ...]:
    """The tables that come with Pondera: models' names, and those of their tables with verdicts."""
    return tuple(sorted(file.name.removesuffix(".json") for file in _folder().iterdir() if file.name.endswith(".json")))


def _folder() -> Any:
    return resources.files("pondera.allocate") / "tables"


@cache
def _shipped(name: str) -> Table:
    return read((_folder() / f"{name}.json").read_text(encoding="utf-8"), name)


def load(name: str) -> Table:
    """A table by the name of its model among those shipped, or from a file as it is now. Raises BadInput."""
    if name in shipped():
        return _shipped(name)
    try:
        return read(Path(name).read_text(encoding="utf-8"), name)
    except OSError:
        raise BadInput(f"There is no calibrated table {name!r}: give a file of `pondera calibrate`, or one of {', '.join(shipped())}.")
    except ValueError:  # not UTF-8, or a name that no file can have
        raise BadInput(f"{name} holds no calibrated table: give a file that `pondera calibrate` wrote.")
