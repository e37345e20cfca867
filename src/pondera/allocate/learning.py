"""What the outcomes of earlier questions say of those to come: how much easier, or harder, they are than what a belief was fitted to.

A belief that was fitted to one sort of questions is off on another one by much the same log odds throughout: what it calls even chances
comes true nine times in ten where the questions are plain. That one number is learned, by the likelihood of the outcomes under a normal
prior about 0, so a few outcomes move it little; it has bounds, and the belief itself is never touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

WIDE = 1.0  # the prior's standard deviation, in log odds
MOST = 3.0  # log odds: no further than this
KEPT = 1_000  # outcomes, the latest ones
STEPS = 25  # of Newton's method
CLEAR = 1e-4  # a chance is this far from 0 and 1 at least


@dataclass(eq=False, slots=True)
class Learner:
    """`outcomes` are the log odds that the belief gave an answer, without a shift, and whether it was right."""

    outcomes: list[tuple[float, bool]] = field(default_factory=list)

    def hear(self, chance: float, right: bool) -> None:
        """An answer to which the belief itself, without a shift, gave this chance has turned out right, or wrong."""
        held = min(1 - CLEAR, max(CLEAR, chance))
        self.outcomes = [*self.outcomes[1 - KEPT :], (math.log(held / (1 - held)), right)]

    @property
    def shift(self) -> float:
        """The log odds by which answers are likelier right than the belief says."""
        told, right = (np.array([one[i] for one in self.outcomes], dtype=float) for i in range(2))
        shift = 0.0
        for _ in range(STEPS):
            held = 1 / (1 + np.exp(-(told + shift)))
            slope, bend = float((right - held).sum()) - shift / WIDE**2, float((held * (1 - held)).sum()) + 1 / WIDE**2
            shift += min(1.0, max(-1.0, slope / bend))
        return min(MOST, max(-MOST, shift))
