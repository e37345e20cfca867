r"""What the outcomes of earlier questions say of those to come: how much easier, or plainer, they are than what a belief was fitted to.

A belief that was fitted to one sort of questions is off on another one by much the same throughout: what it calls even chances comes true
nine times in ten where the questions are plain, and a second answer, which it takes for a rival, is then a slip. With a the log odds of a
run's answer beside none being right, and b those of all other answers that were seen, two numbers are learned,

.. math:: P = e^{\tau a + s} / (1 + e^{\tau a + s} + e^{\tau b + s}), \quad \tau = e^k

by the likelihood of the outcomes (temperature scaling with a bias, Guo et al. 2017, arXiv 1706.04599) under normal priors about s = 0 and
k = 0, so a few outcomes move them little; they have bounds, and the belief itself is never touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

WIDE = np.array([1.0, 0.5])  # the priors' standard deviations, of the shift and of the steepness
MOST = np.array([3.0, 1.5])  # no further than this
KEPT = 1_000  # outcomes, the latest ones
STEPS = 25  # of Fisher's scoring
CLEAR = 1e-4  # chances are this far from 0 and 1 at least


@dataclass(eq=False, slots=True)
class Learner:
    """`outcomes` are the log odds that the belief gave an answer and the others beside none of them, and whether it was right."""

    outcomes: list[tuple[float, float, bool]] = field(default_factory=list)

    def hear(self, chance: float, others: float, right: bool) -> None:
        """An answer to which the belief itself gave this chance, and this one to all others that were seen, was right, or wrong."""
        none = max(CLEAR, 1 - chance - others)
        a, b = (math.log(max(CLEAR, one) / none) for one in (chance, others))
        self.outcomes = [*self.outcomes[1 - KEPT :], (a, b, right)]

    @property
    def learned(self) -> tuple[float, float]:
        """The shift and the steepness, as :meth:`~pondera.allocate.posterior.Belief.moved` takes them."""
        a, b, right = (np.array([one[i] for one in self.outcomes], dtype=float) for i in range(3))
        found = np.zeros(2)
        for _ in range(STEPS):
            tau = math.exp(found[1])
            odds, rivals = np.exp(tau * a + found[0]), np.exp(tau * b + found[0])
            none = 1 / (1 + odds + rivals)
            held = np.clip(odds * none, CLEAR, 1 - CLEAR)
            moves = np.array([held * none, held * tau * (a - held * a - rivals * none * b)])
            sure = held * (1 - held)
            slope = moves @ ((right - held) / sure) - found / WIDE**2
            bend = (moves / sure) @ moves.T + np.diag(1 / WIDE**2)
            found = np.clip(found + np.clip(np.linalg.solve(bend, slope), -1.0, 1.0), -MOST, MOST)
        shift, steep = map(float, found)
        return shift, steep
