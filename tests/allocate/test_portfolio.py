"""Many questions, one budget: the choice among offers, its bound, and what it comes to on samples."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pondera.allocate.policies import Deck, Mind
from pondera.allocate.portfolio import equal, hull, share, together
from pondera.allocate.posterior import Belief
from pondera.allocate.resample import Floats

near = pytest.approx
offers = st.lists(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=3, max_size=3), min_size=1, max_size=4)


def best(gains: Floats, prices: Floats, total: float) -> float:
    """By trying all choices."""
    found = 0.0
    for some in product(range(-1, gains.shape[1]), repeat=len(gains)):
        taken = [(gains[i, j], prices[i, j]) for i, j in enumerate(some) if j >= 0]
        if sum(price for _, price in taken) <= total:
            found = max(found, sum(gain for gain, _ in taken))
    return found


@given(offers, st.floats(0, 30))
@settings(max_examples=200, deadline=None)
def test_nothing_gains_more_than_the_bound_and_the_budget_holds(told: list[list[tuple[float, float]]], total: float) -> None:
    gains, prices = (np.array([[offer[i] for offer in each] for each in told]) for i in range(2))
    made = share(gains, prices, total)
    assert made.price <= total + 1e-9
    taken = [(gains[i, j], prices[i, j]) for i, j in enumerate(made.taken) if j >= 0]
    assert (made.gain, made.price) == (near(sum(g for g, _ in taken)), near(sum(p for _, p in taken)))
    top = best(gains, prices, total)
    assert made.gain <= top + 1e-9
    assert top <= made.bound + 1e-9
    steps = [gain for i in range(len(gains)) for _, gain, _, _ in hull(gains[i], prices[i])]
    assert made.bound - made.gain <= max(steps, default=0.0) + 1e-9


def test_what_gains_most_for_its_price_comes_first() -> None:
    gains, prices = np.array([[0.1, 0.3], [0.2, 0.25]]), np.array([[1.0, 4.0], [1.0, 8.0]])
    assert share(gains, prices, 1.0).taken.tolist() == [-1, 0]
    assert share(gains, prices, 2.0).taken.tolist() == [0, 0]
    assert share(gains, prices, 5.0).taken.tolist() == [1, 0]
    whole = share(gains, prices, 100.0)
    assert whole.taken.tolist() == [1, 1]
    assert whole.bound == near(whole.gain)
    assert share(gains, np.full((2, 2), np.inf), 9.0).taken.tolist() == [-1, -1]
    assert share(np.zeros((2, 2)), prices, 9.0).taken.tolist() == [-1, -1]


def test_a_step_below_the_hull_is_no_step() -> None:
    steps = hull(np.array([0.1, 0.15, 0.5]), np.array([1.0, 2.0, 3.0]))
    assert [step[3] for step in steps] == [2], "a third of a token for the last one is better than a tenth for the first"
    assert hull(np.array([0.3, 0.2]), np.array([1.0, 2.0]))[0][3] == 0
    assert len(hull(np.array([0.3, 0.2]), np.array([1.0, 2.0]))) == 1


def decks() -> list[Deck]:
    """Easy questions, contests and hopeless ones."""
    rng = np.random.default_rng(3)
    told = []
    for i in range(30):
        chance, wrong = ((0.95, 2), (0.45, 3), (0.02, 60))[i % 3]
        keys = ["right" if rng.random() < chance else f"wrong{rng.integers(wrong)}" for _ in range(24)]
        told.append(Deck.of(keys, [key == "right" for key in keys], [100.0] * 24))
    return told


def test_one_budget_for_all_beats_an_equal_split_and_holds() -> None:
    some, mind = decks(), Mind(Belief(), np.random.default_rng(0))
    gains = []
    for seed in range(4):
        orders = [np.random.default_rng((seed, i)).permutation(24) for i in range(len(some))]
        for total in (30 * 250.0, 30 * 500.0):
            ours, split = together(some, orders, total, mind, [100.0]), equal(some, orders, total, mind)
            assert ours.tokens.sum() <= total
            assert split.tokens.sum() <= total
            assert -1e-9 <= ours.gap < 0.2
            gains.append(ours.right.mean() - split.right.mean())
    assert np.mean(gains) > 0.01
    nothing = together(some, [np.arange(24)] * len(some), 50.0, mind, [100.0])
    assert (nothing.tokens.sum(), nothing.right.sum()) == (0.0, 0.0)
    assert np.isnan(nothing.gap)
