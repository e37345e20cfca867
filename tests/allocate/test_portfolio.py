"""Many questions, one budget: the choice among offers, its bound, and what it comes to on samples."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pondera.allocate.policies import Deck, Mind
from pondera.allocate.portfolio import SHARES, Pace, equal, hull, share, together
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


CURVE = [(worth, 9 * worth**0.5) for worth in (1e2, 1e3, 1e4, 1e5, 1e6)]


def kept(pace: Pace, at_once: int, seed: int, dear: float = 1.0) -> list[tuple[int, float, float]]:
    """Cap, worth and tokens of all questions, which cost what the curve says times `dear`, in the mean."""
    luck, going, told = np.random.default_rng(seed), list[tuple[int, float, float]](), list[tuple[int, float, float]]()
    while pace.waiting or going:
        begun = pace.begin() if pace.waiting and len(going) < at_once else None
        if begun is None:
            assert going, "what nobody is under way with need not be waited for"
            pace.end(*going.pop(int(luck.integers(len(going)))))
            continue
        cap, worth = begun
        going.append((cap, worth, min(cap, float(luck.gamma(4.0, dear * pace.expects(worth) / 4)))))
        told.append(going[-1])
    return told


@given(st.integers(1, 60), st.floats(1, 3_000), st.integers(1, 12), st.floats(0.05, 20), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_questions_one_after_another_never_come_to_more_than_their_budget(
    n: int, each: float, at_once: int, dear: float, seed: int
) -> None:
    pace = Pace(n * each, n, CURVE)
    told = kept(pace, at_once, seed, dear)
    assert len(told) == n
    assert pace.spent == near(sum(tokens for _, _, tokens in told))
    assert pace.spent <= pace.total + 1e-6
    assert pace.held == 0
    assert all(0 <= cap <= SHARES * pace.total for cap, _, _ in told)


@pytest.mark.parametrize("dear", [0.3, 1.0, 3.0])
def test_nearly_all_of_the_budget_is_put_to_use_whatever_questions_cost(dear: float) -> None:
    pace = Pace(300 * 800, 300, CURVE)
    told = kept(pace, 8, 1, dear)
    assert pace.spent > 0.97 * pace.total
    first, last = (np.mean([tokens for _, _, tokens in part]) for part in (told[30:100], told[-100:-10]))
    assert first == near(last, rel=0.35)


def test_one_question_may_have_the_whole_budget_and_none_begins_on_what_others_hold() -> None:
    assert Pace(5_000, 1, CURVE).begin() == (5_000, near(308_642, rel=0.6))
    pace = Pace(1_000, 3, CURVE)
    caps = [(pace.begin() or (0, 0.0))[0]]
    assert 300 < caps[0] < 1_000
    assert pace.begin() is None, "what is left is less than two shares"
    pace.end(caps[0], 1e3, 10.0)
    assert (pace.begin() or (0, 0.0))[0] > 500


def test_a_question_that_begins_anew_is_no_fault() -> None:
    pace = Pace(1_000, 1, CURVE)
    first = pace.begin()
    assert first is not None
    pace.end(*first, 300.0)
    again = pace.begin()
    assert again is not None
    assert again[0] == 700
    pace.end(*again, 690.0)
    assert (pace.begin() or (1, 0.0))[0] == 0, "ten tokens are no answer"
