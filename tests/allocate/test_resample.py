"""Estimators against enumeration of all subsets."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.allocate.resample import Votes, adaptive, best, certainty, elected, orders, passed, ranks, slowest, sway

near = pytest.approx


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(right: list[bool]) -> None:
    for k, value in enumerate(passed(right), 1):
        assert value == near(fmean(any(some) for some in combinations(right, k)))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=7))
def test_best_of_k_is_the_mean_over_subsets_equals_sharing(samples: list[tuple[bool, int]]) -> None:
    values, scores = [float(v) for v, _ in samples], [float(s) for _, s in samples]

    def chosen(some: tuple[int, ...]) -> float:
        """What the highest of a subset are worth: those of the whole pool with that score, since which of them are in it is chance."""
        top = max(scores[i] for i in some)
        return fmean(values[i] for i in range(len(values)) if scores[i] == top)

    for k, value in enumerate(best(values, scores), 1):
        assert value == near(fmean(chosen(some) for some in combinations(range(len(values)), k)))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_the_slowest_of_k(seconds: list[float]) -> None:
    for k, value in enumerate(slowest(seconds), 1):
        assert value == near(fmean(max(some) for some in combinations(seconds, k)))


def winner(keys: list[str | None], trust: list[float], some: tuple[int, ...], weights: list[float]) -> str | None:
    cast: dict[str, list[float]] = {}
    for i in some:
        if (key := keys[i]) is not None:
            cast.setdefault(key, [0.0, 0.0])
            cast[key][0] += weights[i]
            cast[key][1] += trust[i]
    return max(cast, key=lambda key: cast[key]) if cast else None


@pytest.mark.parametrize("weights", [[1.0] * 7, [0.9, 0.1, 0.6, 0.5, 0.7, 0.2, 0.37]])
def test_majority_at_k_is_the_mean_over_subsets(weights: list[float]) -> None:
    keys: list[str | None] = ["a", "a", "b", None, "b", "c", "a"]
    trust = [0.5, 0.4, 0.9, 0.3, 0.2, 0.95, 0.1]
    votes = Votes.of(keys, [key == "b" for key in keys], trust, weights)
    found = sway(votes, orders(7, np.random.default_rng(0), 30_000))[0]
    for k, value in enumerate(found, 1):
        exact = fmean(winner(keys, trust, some, weights) == "b" for some in combinations(range(7), k))
        assert value == near(exact, abs=0.01)
    assert found[0] == near(2 / 7)  # exact, and so is the last
    assert found[-1] == float(winner(keys, trust, tuple(range(7)), weights) == "b")


def test_every_sample_stands_at_every_place_equally_often() -> None:
    drawn = orders(5, np.random.default_rng(1), 20)
    assert drawn.shape == (20, 5)
    for place in drawn.T:
        assert np.bincount(place).tolist() == [4] * 5


def test_a_pool_without_any_answer_elects_nobody() -> None:
    votes = Votes.of([None, None], [False, False], [0.5, 0.5])
    race = votes.race(orders(2, np.random.default_rng(0)))
    assert not elected(votes, race).any()
    assert adaptive(votes, race, [0.9])[1].tolist() == [2.0]


def test_certainty_is_that_of_two_answers_with_a_uniform_prior() -> None:
    assert certainty(4)[0, 0] == 0.5
    assert certainty(4)[3, 1] == near(0.8125)  # P(Bin(5, 1/2) <= 3)
    assert certainty(4)[1, 3] == near(1 - 0.8125)


def test_a_vote_that_stops_spends_less_where_all_agree_and_all_where_none_do() -> None:
    agreed = Votes.of(["x"] * 12, [True] * 12, [0.5] * 12)
    right, used = adaptive(agreed, agreed.race(orders(12, np.random.default_rng(0))), [0.6, 0.95, 0.9999])
    assert right.tolist() == [1.0] * 3
    assert used[0] == 1
    assert used[1] == 4  # 1 - 1/2^5 is the first above 0.95
    assert used[2] == 12
    apart = Votes.of([str(i) for i in range(12)], [i == 0 for i in range(12)], [0.5] * 12)
    assert adaptive(apart, apart.race(orders(12, np.random.default_rng(0))), [0.95])[1].tolist() == [12.0]


def test_certainty_of_many_samples_is_no_matter() -> None:
    table = certainty(600)
    assert table[300, 300] == near(0.5)
    assert table[600, 0] == 1.0
    assert (np.diff(table[:, 50]) >= -1e-12).all()


def test_ranks_go_by_the_first_column_then_by_the_next() -> None:
    assert ranks([True, True, False, True], [0.5, 0.5, 0.9, 0.7], [0.2, 0.1, 0.3, 0.0]).tolist() == [2, 1, 0, 3]
    assert ranks([1, 1], [2, 2]).tolist() == [0, 0]


def test_light_votes_are_parted_by_their_weight_before_their_trust() -> None:
    votes = Votes.of(["a", "b"], [True, False], [0.1, 0.9], [5e-12, 1e-12])
    assert sway(votes, orders(2, np.random.default_rng(0)))[0][-1] == 1.0


def test_batches_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    from pondera.allocate import resample

    votes = Votes.of(["a", "b", "a", None, "c", "b"], [True, False, True, False, False, False], [0.1, 0.9, 0.3, 0.4, 0.5, 0.6])
    drawn = orders(6, np.random.default_rng(0))
    whole = sway(votes, drawn, (0.7, 0.9))
    monkeypatch.setattr(resample, "ROOM", 100)
    for one, other in zip(whole, sway(votes, drawn, (0.7, 0.9)), strict=True):
        assert one == near(other)
