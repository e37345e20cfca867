"""How much easier or harder questions are than a belief thinks is learned from outcomes, within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.allocate.learning import KEPT, MOST, Learner

near = pytest.approx


def logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


@pytest.mark.parametrize("true", [-1.5, 0.0, 1.0])
def test_it_finds_by_how_much_a_belief_is_off(true: float) -> None:
    luck, learner = np.random.default_rng(0), Learner()
    for _ in range(800):
        told = luck.normal(0, 1.5)
        learner.hear(logistic(told), bool(luck.random() < logistic(told + true)))
    assert learner.shift == near(true, abs=0.25)


def test_a_few_outcomes_move_it_little_and_none_not_at_all() -> None:
    learner = Learner()
    assert learner.shift == 0
    learner.hear(0.5, True)
    assert 0 < learner.shift < 0.5


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_it_has_bounds_whatever_comes(outcomes: list[tuple[float, bool]]) -> None:
    learner = Learner()
    for one in outcomes:
        learner.hear(*one)
    assert -MOST <= learner.shift <= MOST


def test_it_is_the_likeliest_one_under_its_prior() -> None:
    learner = Learner()
    for chance, right in ((0.3, True), (0.6, True), (0.8, False), (0.5, True)):
        learner.hear(chance, right)

    def loss(shift: float) -> float:
        told = (logistic(x + shift) if right else 1 - logistic(x + shift) for x, right in learner.outcomes)
        return -sum(map(np.log, told)) + shift**2 / 2

    grid = np.linspace(-3, 3, 6001)
    assert learner.shift == near(grid[np.argmin([loss(x) for x in grid])], abs=2e-3)


def test_what_was_long_ago_is_forgotten() -> None:
    learner = Learner()
    for right in (True, False):
        for _ in range(KEPT + 5):
            learner.hear(0.5, right)
    assert len(learner.outcomes) == KEPT
    assert learner.shift == near(-MOST)
