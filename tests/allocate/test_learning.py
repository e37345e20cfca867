"""How much easier questions are than a belief thinks, and how much plainer, is learned from outcomes, within bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.allocate.learning import CLEAR, KEPT, MOST, WIDE, Learner
from pondera.allocate.posterior import Belief, Seen, chances

near = pytest.approx


def softmax(a: float, b: float) -> tuple[float, float]:
    odds = np.exp([a, b])
    told = odds / (1 + odds.sum())
    return float(told[0]), float(told[1])


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.8])
@pytest.mark.parametrize("steep", [-0.5, 0.0, 0.7])
def test_it_finds_by_how_much_a_belief_is_off(shift: float, steep: float) -> None:
    luck, learner, tau = np.random.default_rng(0), Learner(), np.exp(steep)
    for _ in range(1000):
        a, b = luck.normal(0.5, 1.5), luck.normal(-1, 1.5)
        right, _ = softmax(tau * a + shift, tau * b + shift)
        learner.hear(*softmax(a, b), bool(luck.random() < right))
    assert learner.learned == (near(shift, abs=0.3), near(steep, abs=0.25))


def test_a_few_outcomes_move_it_little_and_none_not_at_all() -> None:
    learner = Learner()
    assert learner.learned == (0, 0)
    learner.hear(0.5, 0.2, True)
    assert all(0 <= one < 0.5 for one in learner.learned)
    assert learner.learned[0] > 0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), max_size=60))
def test_it_has_bounds_whatever_comes(outcomes: list[tuple[float, float, bool]]) -> None:
    learner = Learner()
    for chance, part, right in outcomes:
        learner.hear(chance, part * (1 - chance), right)
    assert np.isfinite(learner.learned).all()
    assert (np.abs(learner.learned) <= MOST).all()


def test_they_are_the_likeliest_ones_under_their_priors() -> None:
    learner = Learner()
    for chance, others, right in ((0.3, 0.1, True), (0.6, 0.3, True), (0.8, 0.1, False), (0.5, 0.4, True), (0.1, 0.2, False)):
        learner.hear(chance, others, right)

    def loss(shift: float, steep: float) -> float:
        tau = np.exp(steep)
        told = [(softmax(tau * a + shift, tau * b + shift)[0], right) for a, b, right in learner.outcomes]
        said = [held if right else 1 - held for held, right in told]
        return float(-np.log(said).sum() + ((np.array([shift, steep]) / WIDE) ** 2).sum() / 2)

    best = min(itertools.product(np.linspace(-1.5, 1.5, 121), np.linspace(-1, 1, 81)), key=lambda one: loss(*one))
    assert loss(*learner.learned) <= loss(*best) + 1e-6
    assert learner.learned == (near(best[0], abs=0.03), near(best[1], abs=0.03))


def test_questions_whose_second_answers_are_slips_make_it_steeper_and_hard_ones_flatter() -> None:
    for share, sign in ((0.95, 1), (0.4, -1)):
        luck, learner = np.random.default_rng(1), Learner()
        for _ in range(300):
            learner.hear(0.6, 0.35, bool(luck.random() < share))
        assert learner.learned[1] * sign > 0.1


def test_what_was_long_ago_is_forgotten() -> None:
    learner = Learner()
    for right in (True, False):
        for _ in range(KEPT + 5):
            learner.hear(0.5, 0.0, right)
    assert len(learner.outcomes) == KEPT
    assert learner.learned[0] == near(-MOST[0])


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=5).filter(any),
    st.floats(-3, 3),
    st.floats(-1.5, 1.5),
)
def test_a_moved_belief_gives_the_chances_that_were_learned(votes: list[int], shift: float, steep: float) -> None:
    seen, belief, tau = Seen.one([votes], [1.0], [0.3 * i for i in range(len(votes))]), Belief(), np.exp(steep)
    held, moved = chances(belief, seen)[0], chances(belief.moved(shift, steep), seen)[0]
    said = held > CLEAR
    odds = np.where(said, np.exp(shift) * (np.where(said, held, 1.0) / (1 - held.sum())) ** tau, 0.0)
    assert moved[said] == near((odds / (1 + odds.sum()))[said], rel=0.02, abs=2e-3)
    assert moved.argmax() == held.argmax()
