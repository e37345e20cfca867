"""What `auto` goes by: its belief, what an answer, a sample and a second are worth in tokens, and which larger model may be asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pondera.errors import BRANCH_ERRORS, BadInput, Unaffordable
from pondera.ops import Expand, Key, Offer, Role, Score
from pondera.strategies.think import CHAIN
from pondera.thought import Thought

if TYPE_CHECKING:
    from pondera.allocate.decide import Choice, Pool
    from pondera.allocate.posterior import Belief
    from pondera.allocate.table import Larger, Table

WORTH = {"low": 4_000.0, "medium": 16_000.0, "high": 64_000.0, "max": 1e9}  # tokens that a right answer is worth
SORTS = {"chains": 250.0, "programs": 120.0}  # the tokens of one, before any was seen
UNLEARNED = "without what was learned"
STEEPEST = 2.0  # beyond it powers of votes leave the range of floats


@dataclass(frozen=True, slots=True)
class Guide:
    """What a run goes by: the belief, what a right answer, a sample of each sort and a second cost, in tokens, and who judges samples.

    `once`: who judges asks a model, and is to be asked of each sample once.
    """

    belief: Belief
    worth: float
    costs: Sequence[float]
    by: str = ""
    middle: float = 0.0
    table: Table | None = None
    second: float = 0.0
    unlearned: Belief | None = None
    once: bool = False

    @classmethod
    def of(cls, table: str, by: str, role: Role, effort: str, most: int, worth: float, mean: float, right: float, second: float) -> Guide:
        """Raises BadInput for what cannot be used."""
        from pondera.allocate.posterior import Belief  # which loads numpy
        from pondera.allocate.table import load

        if effort not in WORTH or not worth >= 0 or most < 0:
            raise BadInput(
                f"effort={effort!r}, worth={worth}, most={most}: an effort is one of {', '.join(WORTH)}; the others are not below 0."
            )
        if not (mean >= 0 and 0 <= right <= 1):
            raise BadInput(f"mean={mean}, right={right}: tokens a question, above 0, and a share, from 0 to 1.")
        if table in ("", "none"):
            if mean or right:
                raise BadInput(
                    "What tokens or what accuracy a worth comes to is known from a calibrated table: make one by `pondera calibrate`."
                )
            return cls(Belief(), worth or WORTH[effort], list(SORTS.values()), by, second=second)
        known = load(table)
        usual, value = [known.costs[sort] for sort in SORTS], worth or known.efforts[effort]
        if not worth and (mean or right):
            value = known.worth_of("tokens", mean) if mean else known.worth_of("right", right)
        if by or not known.verifier:
            return cls(known.belief, value, usual, by, 0.0, known, second)
        asks = bool(known.verifier.get("asks"))
        return cls(known.belief, value, usual, judge(table, role), known.middle, known, second, once=asks)

    @property
    def reach(self) -> int:
        """As many samples of a question as its table looked at."""
        from pondera.allocate.table import MOST

        return self.table.most if self.table else MOST

    def moved(self, shift: float, steep: float) -> Guide:
        """For questions of a sort that outcomes have told something of. Raises BadInput for no numbers."""
        if not (math.isfinite(shift) and abs(steep) <= STEEPEST):
            raise BadInput(f"shift={shift}, steep={steep}: log odds, and a number from -{STEEPEST:g} to {STEEPEST:g}; 0 for none.")
        return replace(self, belief=self.belief.moved(shift, steep), unlearned=self.belief) if shift or steep else self

    async def offer(self, chosen: Thought, pool: Pool, choice: Choice | None, first: bool) -> None:
        """The answer so far, how sure it is and what is done next; where something was learned, first how sure it were without that."""
        key, chance = pool.best(self.belief)
        why = self.told(choice, chance, first)
        if self.unlearned:
            chance, others = pool.beside(self.unlearned, key)
            await Offer(chosen, chance, UNLEARNED, others)
        chance, others = pool.beside(self.belief, key)
        await Offer(chosen, chance, why, others)

    def pool(
        self,
        kinds: Sequence[int] = (),
        keys: Sequence[str | None] = (),
        scores: Sequence[float | None] = (),
        asked: Sequence[int] = (0,) * len(SORTS),
    ) -> Pool:
        from pondera.allocate.decide import Pool

        return Pool(kinds, keys, scores, asked, self.middle)

    async def scores(self, nodes: Sequence[Thought], fresh: Sequence[Thought], had: Sequence[float | None]) -> Sequence[float | None]:
        """What the verifier thinks of all samples, the `fresh` ones last; of the others it thought what it `had`."""
        if not self.by or not nodes:
            return [None] * len(nodes)
        if not self.once:
            return await Score(tuple(nodes), self.by)
        return [*had, *(await Score(tuple(fresh), self.by) if fresh else ())]

    def decide(self, pool: Pool, each: Sequence[float], room: int, seed: int, waiting: Sequence[float]) -> Choice | None:
        from pondera.allocate.decide import decide

        return decide(self.belief, pool, self.worth, each, room, seed, waiting)

    def told(self, choice: Choice | None, chance: float, first: bool) -> str:
        """What is done next and why, in words; after the first round also what the whole is expected to cost, where a table knows."""
        on = first and choice is not None and choice.pays
        expected = self.table.expected(self.worth, chance) if self.table and on else None
        more = f"; {expected[1]:,.0f} tokens in all are likely, {expected[0]:,.0f} to {expected[2]:,.0f}" if expected else ""
        return told(choice, self.worth) + more


@dataclass(frozen=True, slots=True)
class Dollars:
    """What a right answer brings, an error and a second of waiting cost, and a million generated tokens. Raises BadInput."""

    value: float
    error: float
    waiting: float
    price: float

    def __post_init__(self) -> None:
        every = (self.value, self.error, self.waiting, self.price)
        if not (min(every) >= 0 and math.isfinite(sum(every))):
            names = ("value", "error_cost", "latency_cost", "price")
            told = ", ".join(f"{name}={one}" for name, one in zip(names, every, strict=True))
            raise BadInput(f"{told} are dollars: give numbers that are not negative.")
        if sum(every[:3]) and not self.price:
            raise BadInput("What an answer is worth in dollars needs the price of tokens: give the model's, as in --price 0.15,0.6.")

    @property
    def worth(self) -> float:
        """The tokens that a right answer is worth; 0 where nothing is said."""
        return 1e6 * (self.value + self.error) / self.price if self.price else 0.0

    @property
    def second(self) -> float:
        """The tokens that a second is worth."""
        return 1e6 * self.waiting / self.price if self.price else 0.0

    def asking(self, paid: float, grown: Sequence[Thought], before: float) -> float:
        """The tokens that it costs to ask once more: the least that a round came to beside its samples' own, `before` of those before."""
        if not grown or not self.price:
            return before
        beside = max(0.0, 1e6 * paid / self.price - sum(map(generated, grown)))
        return min(before, beside) if before else beside


@dataclass(frozen=True, slots=True)
class Asks:
    """Who samples, and which larger model may be asked for the answer, if any."""

    name: str = ""
    larger: Larger | None = None

    @classmethod
    def of(cls, table: str, name: str, times: float) -> Asks:
        """Raises BadInput for a price that is none."""
        from pondera.allocate.table import Larger, load

        if not (times >= 0 and math.isfinite(times)):
            raise BadInput(f"times={times}: how many tokens of the draft model one of the larger costs, above 0.")
        if not name:
            return cls()
        known = (load(table).larger if table not in ("", "none") else {}).get(name, Larger())
        return cls(name, replace(known, times=times or known.times))

    @property
    def by(self) -> Role:
        return "draft" if self.larger else "think"

    @property
    def times(self) -> float:
        return self.larger.times if self.larger else 1.0

    def kept(self, max_tokens: int, left: float) -> int:
        """Tokens of the budget that the draft leaves for the larger model."""
        return int(min(max_tokens, left / 2)) if self.larger else 0

    async def answer(self, root: Thought, chosen: Thought, chance: float, worth: float, max_tokens: int) -> Thought:
        """The larger model's answer, where asking it pays; else, and where it fails or has none, the one that is there."""
        gain = self.larger.gain(chance) if self.larger else 0.0
        owed = chosen is root
        if not self.larger or not (owed or worth * gain > self.larger.price):
            return chosen
        if not owed:
            why = f"ask {self.name}: {gain:+.1%}, worth {worth * gain:,.0f} tokens, for {self.larger.price:,.0f}"
            await Offer(chosen, chance, why)
        try:
            [node] = await Expand(root, say=CHAIN, temperature=0.0, max_tokens=max_tokens)
        except (Unaffordable, *BRANCH_ERRORS):
            node = chosen
        key = (await Key((node,)))[0] if node is not chosen else None
        if node is chosen or (key is None and not owed):
            if not owed:
                await Offer(chosen, chance, f"end: {self.name} gave no answer")
            return chosen
        await Offer(node, chance + gain, f"end: {self.name} has answered")
        return node


def judge(table: str, role: Role) -> str:
    """The name of the verifier of samples alone that a table holds, where a model of this role gives them."""
    return f"alone(table={table!r})" if role == "think" else f"alone(table={table!r}, by={role!r})"


def costs(nodes: Sequence[Thought], kinds: Sequence[int], usual: Sequence[float]) -> list[float]:
    """Tokens of one more sample of each sort: the mean of those so far, what is usual being one of them."""
    spent = [generated(node) for node in nodes]
    each = [[tokens for tokens, own in zip(spent, kinds, strict=True) if own == kind] for kind in range(len(SORTS))]
    return [(sum(some) + expected) / (len(some) + 1) for some, expected in zip(each, usual, strict=True)]


def generated(node: Thought) -> int:
    """Tokens of a path."""
    return sum(step.tokens for step in node.path)


def in_time(nodes: Sequence[Thought], took: float, left: float, price: float) -> int:
    """How many more samples of `price` tokens the seconds that are left allow, at the speed so far."""
    spent = sum(map(generated, nodes))
    return int(left * spent / took / price) if spent and math.isfinite(left) and took > 0 else 1 << 30


def told(choice: Choice | None, worth: float) -> str:
    """What is done next and why, in words."""
    if choice is None:
        return "end: no more samples are allowed, or there is no time for one"
    sort = list(SORTS)[choice.kind].removesuffix("s" if choice.k == 1 else "")
    what = f"{choice.k} {sort}: {choice.gain:+.1%}, worth {choice.gain * worth:,.0f} tokens, for {choice.price:,.0f}"
    return what if choice.pays else f"end: at best {what}"
