"""What to do next about one question: which kind of sample pays best, how many of it, and which answer is the likeliest by now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pondera.allocate.posterior import Belief, Seen, chances, gains, log_odds

KS = (1, 2, 4, 8, 16, 32)
TOGETHER = 0.5  # of the number of samples that pays best is drawn side by side,
ROUND = 8  # and so many at most: what they say may change all plans, and tables know of no larger rounds


@dataclass(frozen=True, slots=True)
class Pool:
    """One question's samples so far: the kind, the answer and the score (a chance, None: no opinion) of those that came to something, and
    how many of each kind were asked for. `middle` are the log odds of a score that says nothing."""

    kinds: Sequence[int]
    keys: Sequence[str | None]
    scores: Sequence[float | None]
    asked: Sequence[int]
    middle: float = 0.0

    @property
    def answers(self) -> list[str]:
        return list(dict.fromkeys(key for key in self.keys if key is not None))

    def seen(self) -> Seen:
        column = {key: j for j, key in enumerate(self.answers)}
        votes, evidence = np.zeros((1, len(self.asked), len(column))), np.zeros((1, len(column)))
        said = [i for i, key in enumerate(self.keys) if key is not None]
        at, scores = [column[self.keys[i] or ""] for i in said], [self.scores[i] for i in said]
        np.add.at(votes[0], ([self.kinds[i] for i in said], at), 1.0)
        told = log_odds([0.5 if score is None else score for score in scores], self.middle)
        np.add.at(evidence[0], at, np.where([score is None for score in scores], 0.0, told))
        return Seen(votes, np.array([self.asked]) - votes.sum(axis=2), evidence / np.maximum(votes.sum(axis=1), 1.0))

    def held(self, belief: Belief) -> dict[str, float]:
        """How likely each answer is right."""
        return dict(zip(self.answers, chances(belief, self.seen())[0].tolist(), strict=True))

    def beside(self, belief: Belief, key: str | None) -> tuple[float, float]:
        """How likely an answer is right, and how likely any other one is that was seen."""
        held = self.held(belief)
        own = held.pop(key, 0.0) if key is not None else 0.0
        return own, sum(held.values(), 0.0)

    def best(self, belief: Belief) -> tuple[str | None, float]:
        """The likeliest answer and its chance; None where there is none."""
        chance, key = max(((chance, key) for key, chance in self.held(belief).items()), default=(0.0, None))
        return key, chance


@dataclass(frozen=True, slots=True)
class Choice:
    """What pays best: `k` samples of a kind, the chance that they are expected to gain, their price, and whether that is worth it."""

    kind: int
    k: int
    gain: float
    price: float
    pays: bool

    def first(self, again: float, each: float) -> int:
        """How many are drawn before it is asked again: all, where that costs more (`again`) than the rest do at `each`."""
        some = side_by_side(self.k)
        return some if again <= (self.k - some) * each else self.k


def side_by_side(k: int) -> int:
    """How many of the k samples that pay best are drawn before it is asked again."""
    return min(ROUND, math.ceil(TOGETHER * k))


def decide(
    belief: Belief, pool: Pool, worth: float, costs: Sequence[float], most: int, seed: int, waiting: Sequence[float] = ()
) -> Choice | None:
    """`worth` is that of a right answer and `costs` those of a sample of each kind, in one unit; None where not one more may be drawn.

    `waiting` is what a round of each kind costs however many are drawn side by side: that they take their time, and their prompt.
    """
    ks = [k for k in KS if k <= most]
    if not ks:
        return None
    gain = gains(belief, pool.seen(), ks, np.random.default_rng(seed))[0]
    price = np.array(costs)[:, None] * np.array(ks) + (np.array(waiting)[:, None] if waiting else 0.0)
    net = worth * gain - price
    kind, at = divmod(int(net.argmax()), len(ks))
    return Choice(kind, ks[at], float(gain[kind, at]), float(price[kind, at]), bool(net[kind, at] > 0))
