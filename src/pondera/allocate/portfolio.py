r"""Many questions, one budget: to whom the next tokens go (Damani et al. 2024, arXiv 2410.04707).

Each question offers some amounts of more thinking, at a price and an expected gain each, and takes at most one of them: a multiple-choice
knapsack. Of every question the offers on the upper hull of gain over price are kept (Sinha and Zoltners 1979); its steps from one to the
next gain less and less for their price, and all questions' steps are taken in the order of gain per token as long as they can be paid.
Let the first step that cannot be paid be taken in part: that is the linear relaxation, no choice gains more, and what it gains above the
choice made is the bound's gap. It is never more than that one step.

Questions that come one after another are kept in step with their budget by what a right answer is worth (:class:`Pace`): the price of a
token at which all of them together spend it, told anew before each of them.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pondera.allocate import policies
from pondera.allocate.decide import side_by_side
from pondera.allocate.policies import KS, Deck, Mind
from pondera.allocate.resample import Floats, Ints


@dataclass(frozen=True, slots=True)
class Shared:
    """The offer that each question takes (-1: none), what all gain and cost together, and what no choice could gain more than."""

    taken: Ints
    gain: float
    price: float
    bound: float


def share(gains: Floats, prices: Floats, total: float) -> Shared:
    """The choice among offers under a total price. Shapes [questions, offers], both; an offer of infinite price cannot be taken."""
    steps = [(*step, i) for i in range(len(gains)) for step in hull(gains[i], prices[i])]
    steps.sort(key=lambda step: (-step[0], step[4], step[3]))
    taken, gain, price, bound = np.full(len(gains), -1, dtype=np.int64), 0.0, 0.0, 0.0
    shut: set[int] = set()  # a question's later steps follow its earlier ones
    relaxed = total
    for _, more, cost, offer, question in steps:
        if relaxed > 0:
            bound += more * min(1.0, relaxed / cost)
            relaxed -= cost
        if question in shut or price + cost > total:
            shut.add(question)
            continue
        taken[question], gain, price = offer, gain + more, price + cost
    return Shared(taken, gain, price, bound)


def hull(gains: Floats, prices: Floats) -> list[tuple[float, float, float, int]]:
    """The steps along the upper hull from nothing: gain per price, gain, price, and the offer that a step leads to, in falling order."""
    order = [int(j) for j in np.argsort(prices, kind="stable") if np.isfinite(prices[j]) and gains[j] > 0]
    path: list[tuple[float, float, int]] = [(0.0, 0.0, -1)]  # price, gain, offer
    for j in order:
        if gains[j] <= path[-1][1]:
            continue
        while len(path) > 1 and _steep(path[-2], path[-1]) <= _steep(path[-2], (prices[j], gains[j], j)):
            path.pop()
        path.append((float(prices[j]), float(gains[j]), j))
    told = []
    for low, high in itertools.pairwise(path):
        told.append((_steep(low, high), high[1] - low[1], high[0] - low[0], high[2]))
    return told


def _steep(low: tuple[float, float, int], high: tuple[float, float, int]) -> float:
    return (high[1] - low[1]) / max(high[0] - low[0], 1e-12)


@dataclass(frozen=True, slots=True)
class Spread:
    """What came of one budget for all: whether each question was answered right, its samples and tokens, and the bound's gap, as a share of
    the gain, of a plan for what was left when each question had been asked once (NaN where that was not reached)."""

    right: Floats
    samples: Floats
    tokens: Floats
    gap: float = math.nan


def together(decks: Sequence[Deck], orders: Sequence[Ints], total: float, mind: Mind, costs: Sequence[float]) -> Spread:
    """All questions at once, on recorded samples (`orders`: one order of each deck's, shape [n]): always the offer of any question that
    gains most for its price, of whose samples some are drawn, as `auto` does, since what they say may change all plans. `costs` are tokens
    of a sample of each kind. A plan that gives all away at once, as :func:`share` does, forgets that it will know more after a few samples.
    """
    hands = [np.zeros(len(costs), dtype=np.int64) for _ in decks]
    queues = [[order[deck.kind[order] == kind] for kind in range(len(costs))] for deck, order in zip(decks, orders, strict=True)]
    offers = [_offers(deck, queue, hand, mind, costs) for deck, queue, hand in zip(decks, queues, hands, strict=True)]
    spent, gap, new = np.zeros(len(decks)), math.nan, len(decks)
    heap = [(*_steepest(*offer), i) for i, offer in enumerate(offers)]
    heapq.heapify(heap)
    while heap and heap[0][0] < 0:
        _, offer, i = heapq.heappop(heap)
        (kind, k), deck, hand = divmod(offer, len(KS)), decks[i], hands[i]
        n = side_by_side(KS[k])
        price = float(deck.tokens[queues[i][kind][hand[kind] : hand[kind] + n]].sum()) + _opening(deck, hand, kind)
        if spent.sum() + price > total:
            continue
        new -= not hand.any()
        hand[kind] += n
        spent[i] += price
        offers[i] = _offers(deck, queues[i], hand, mind, costs)
        heapq.heappush(heap, (*_steepest(*offers[i]), i))
        if not new and math.isnan(gap):
            plan = share(np.array([gain for gain, _ in offers]), np.array([price for _, price in offers]), total - spent.sum())
            gap = plan.bound / plan.gain - 1 if plan.gain else 0.0
    right = np.array([_right(deck, queue, hand, mind) for deck, queue, hand in zip(decks, queues, hands, strict=True)])
    return Spread(right, np.array([hand.sum() for hand in hands], dtype=float), spent, gap)


SHARES = 8.0  # of what is left for each, that one question may take at most
FAIR = 0.5  # of such a share is kept for each that has not begun
ENOUGH = 2.0  # shares: with less a question waits for what others give back
LEAST = 64  # tokens, below which nothing can be had
PRIOR = 4.0  # questions that have cost what the curve says, before the first
DRIFT = 64.0  # questions are at most so many times as dear as the curve says, or as cheap


@dataclass(eq=False, slots=True)
class Pace:
    """One budget for questions that come one after another, several at a time: how much each may take at most, and what a right answer is
    worth to it, so that all of them together come to `total` tokens and never to more.

    `curve` says what a question costs in the mean at some worths, both rising, in tokens; what those which have ended did cost corrects it.
    `waiting` questions have not begun. A question may take `shares` of what is left for each: 1 is an equal split, in which the next ones
    have what one leaves.
    """

    total: float
    waiting: int
    curve: Sequence[tuple[float, float]]
    shares: float = SHARES
    spent: float = 0.0
    held: float = 0.0
    expected: list[float] = field(default_factory=list)  # of the questions under way
    costs: tuple[float, float] = (0.0, 0.0)  # what questions that have ended were expected to cost, and did

    @property
    def dearer(self) -> float:
        """How many times as much questions cost as the curve says, by now."""
        prior = PRIOR * self.curve[0][1]
        return min(DRIFT, max(1 / DRIFT, (self.costs[1] + prior) / (self.costs[0] + prior)))

    def begin(self) -> tuple[int, float] | None:
        """The most tokens that the next question may take (0: too little is left for any), and the worth of a right answer; None while it
        has to wait for others."""
        rest, under_way, waiting = self.total - self.spent, len(self.expected), max(1, self.waiting)  # one may begin anew
        share = rest / (waiting + under_way)
        cap = int(min(self.shares * share, rest - self.held - FAIR * share * (waiting - 1)))
        if under_way and cap < int(min(ENOUGH, self.shares) * share):
            return None
        cap = cap if cap >= LEAST else 0
        aim = max((rest - sum(self.expected)) / waiting, FAIR * share)
        worths, tokens = zip(*self.curve, strict=True)
        worth = float(np.exp(np.interp(aim / self.dearer, tokens, np.log(worths))))
        self.waiting = waiting - 1
        self.held += cap
        self.expected.append(self.expects(worth) * self.dearer)
        return cap, worth

    def expects(self, worth: float) -> float:
        """What a question costs in the mean by the curve."""
        worths, tokens = zip(*self.curve, strict=True)
        return float(np.interp(np.log(worth), np.log(worths), tokens))

    def end(self, cap: int, worth: float, tokens: float) -> None:
        """A question that was begun with this cap and worth has taken so many tokens."""
        self.held -= cap
        self.spent += tokens
        self.expected.pop(0)  # one of them: which one makes little difference
        self.costs = self.costs[0] + self.expects(worth), self.costs[1] + tokens


def _steepest(gain: Floats, price: Floats) -> tuple[float, int]:
    """What the best offer gains for its price, negative, and which it is."""
    rate = np.where(np.isfinite(price), gain / np.where(np.isfinite(price), price, 1.0), 0.0)
    return -float(rate.max()), int(rate.argmax())


def _opening(deck: Deck, hand: Ints, kind: int) -> float:
    """What the prompt of a kind costs, where it is to be read yet."""
    return 0.0 if hand[kind] else deck.prompt(kind)


def _offers(deck: Deck, queue: Sequence[Ints], hand: Ints, mind: Mind, costs: Sequence[float]) -> tuple[Floats, Floats]:
    """Gains and prices of k more samples of each kind, flat: as many offers for every question."""
    gain = mind.gains(policies.dealt(deck, [one[None] for one in queue], hand[None]))[0]
    drawn = [float(deck.tokens[one[:n]].sum()) for one, n in zip(queue, hand, strict=True)]
    each = np.array([(cost + paid) / (n + 1) for cost, paid, n in zip(costs, drawn, hand, strict=True)])
    price = each[:, None] * np.array(KS) + np.array([[_opening(deck, hand, kind)] for kind in range(len(costs))])
    left = np.array([len(one) for one in queue]) - hand
    price = np.where(np.array(KS) <= left[:, None], price, np.inf)
    return gain.ravel(), price.ravel()


def _right(deck: Deck, queue: Sequence[Ints], hand: Ints, mind: Mind) -> float:
    seen = policies.dealt(deck, [one[None] for one in queue], hand[None])
    return float(policies.choice(mind.belief, deck, seen)[0][0])


def equal(decks: Sequence[Deck], orders: Sequence[Ints], total: float, mind: Mind) -> Spread:
    """An equal split of the same total: each question draws as they come until its own part is spent, and chooses in the same way."""
    part = total / len(decks)
    hands = [int((deck.paid(order[None])[0] <= part).sum()) for deck, order in zip(decks, orders, strict=True)]
    kinds = 1 + max(int(deck.kind.max()) for deck in decks)
    right, spent = [], []
    for deck, order, n in zip(decks, orders, hands, strict=True):
        queue = [order[deck.kind[order] == kind] for kind in range(kinds)]
        hand = np.array([int((deck.kind[order[:n]] == kind).sum()) for kind in range(kinds)])
        right.append(_right(deck, queue, hand, mind))
        spent.append(float(deck.paid(order[None])[0][n - 1]) if n else 0.0)
    return Spread(np.array(right), np.array(hands, dtype=float), np.array(spent))
