"""What is believed of a question, and what more samples are worth."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.allocate import posterior
from pondera.allocate.posterior import Belief, Floats, Seen, chances, gains

near = pytest.approx
PLAIN = Belief(kin=1e7, thetas=(1.0,), odds=(1.0,), discount=0.3, silence=(1e9, 1e-3))  # one kind of samples, which never lack an answer

states = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.floats(-4, 4)), min_size=1, max_size=6)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def gain(votes: list[list[float]], silent: list[float] | None = None, evidence: list[float] | None = None, k: int = 4) -> Floats:
    """Of k more samples of each kind."""
    seen = Seen.one(votes, silent or [0.0] * len(votes), evidence or [0.0] * len(votes[0]))
    told: Floats = gains(Belief(), seen, (1, 2, 4, 8, 16, 32), rng(), 4_000)[0, :, (1, 2, 4, 8, 16, 32).index(k)]
    return told


def seen_of(state: list[tuple[int, int, float]]) -> Seen:
    chains, programs, evidence = zip(*state, strict=True)
    return Seen.one([list(chains), list(programs)], [1.0, 2.0], list(evidence))


@given(states)
def test_chances_are_chances_and_answers_nobody_gave_have_none(state: list[tuple[int, int, float]]) -> None:
    told = chances(Belief(), seen_of(state))[0]
    assert (told >= 0).all()
    assert told.sum() <= 1
    assert [value > 0 for value in told] == [a + b > 0 for a, b, _ in state]


@given(states, st.randoms())
def test_which_answer_is_which_does_not_matter(state: list[tuple[int, int, float]], random: object) -> None:
    turned = state[::-1]
    assert chances(Belief(), seen_of(turned))[0][::-1] == near(chances(Belief(), seen_of(state))[0])


@given(states)
def test_more_samples_are_never_worth_less_than_nothing(state: list[tuple[int, int, float]]) -> None:
    told = gains(Belief(), seen_of(state), (1, 3), rng(), 32)
    assert told.shape == (1, 2, 2)
    assert (told >= 0).all()
    assert (told <= 1).all()


def test_votes_and_a_verifier_and_agreement_of_kinds_speak_for_an_answer() -> None:
    def first(votes: list[list[float]], evidence: list[float]) -> float:
        return float(chances(Belief(), Seen.one(votes, [0.0] * len(votes), evidence))[0, 0])

    assert first([[1, 1]], [0, 0]) < first([[2, 1]], [0, 0]) < first([[3, 1]], [0, 0]) < first([[3, 1]], [1, -1])
    assert first([[2, 2], [0, 0]], [0, 0]) < first([[1, 2], [1, 0]], [0, 0])
    assert first([[2]], [0]) > float(chances(Belief(), Seen.one([[2]], [3.0], [0]))[0, 0]), "silence is a bad sign"


def test_a_huge_opinion_is_no_overflow() -> None:
    told = chances(Belief(), Seen.one([[3, 2]], [0], [1e6, -1e6]))[0]
    assert told == near([1.0, 0.0])


def drawn(belief: Belief, seen: Seen, top: int, outcomes: int) -> Floats:
    """Chances of the first `top` answers, four places for what is new, the others, the rest and none. Shape [outcomes, kinds, top + 7]."""
    votes = np.pad(seen.votes[:, :, :top], ((0, 0), (0, 0), (0, posterior.STICKS)))
    apart = seen.votes[:, :, top:].sum(axis=2)
    return posterior._shares(belief, seen, votes, apart, np.arange(top)[None], rng(), outcomes)[0]


def test_answers_that_lead_nowhere_are_counted_together() -> None:
    seen = Seen.one([[6.0, 3.0, 1.0, 1.0]], [1.0], [0.0] * 4)
    apart, whole = drawn(PLAIN, seen, 2, 200_000)[:, 0].mean(axis=0), drawn(PLAIN, seen, 4, 200_000)[:, 0].mean(axis=0)
    assert apart[:2] == near(whole[:2], abs=2e-3)
    assert apart[6] == near(whole[2:4].sum(), abs=2e-3)
    assert apart[-1] == near(whole[-1], abs=2e-3)


@pytest.mark.parametrize("votes", [[[4.0, 3.0, 2.0] + [1.0] * 9], [[2.0, 2.0] + [1.0] * 10], [[5.0] + [1.0] * 11, [1.0] * 12]])
def test_what_more_samples_are_worth_hardly_depends_on_how_many_answers_may_win(
    votes: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen.one(votes, [1.0] * len(votes), [0.5, -0.5] + [0.0] * 10)
    some = gains(Belief(), seen, (1, 4, 16), rng(), 4_000)
    monkeypatch.setattr(posterior, "TOP", 99)
    assert some == near(gains(Belief(), seen, (1, 4, 16), rng(), 4_000), abs=0.006)


def test_what_may_come_has_the_chances_of_a_pitman_yor_process() -> None:
    shares = drawn(PLAIN, Seen.one([[6.0, 3.0, 1.0]], [0.0], [0.0] * 3), 3, 200_000)[:, 0]
    n, k = 10, 3
    expected = [(count - PLAIN.discount) / (n + PLAIN.thetas[0]) for count in (6, 3, 1)]
    assert shares[:, :3].mean(axis=0) == near(expected, abs=2e-3)
    assert shares[:, 3:].sum(axis=1).mean() == near((PLAIN.thetas[0] + PLAIN.discount * k) / (n + PLAIN.thetas[0]), abs=2e-3)
    assert shares.sum(axis=1) == near(np.ones(len(shares)))
    assert all((a > b) for a, b in pairwise(shares[:, 3:7].mean(axis=0))), "what is likelier comes first"


@pytest.mark.parametrize("size", [0.0, 0.4])
def test_the_gain_of_one_sample_is_that_of_all_that_it_may_say(size: float) -> None:
    votes, belief = [3.0, 2.0, 1.0], replace(PLAIN, size=size)
    told = gains(belief, Seen.one([votes], [0], [0.3, 1.0, -0.5]), (1,), rng(), 100_000)[0, 0, 0]
    n, exact = sum(votes), 0.0
    for j in range(3):
        after = [count + (i == j) for i, count in enumerate(votes)]
        right = chances(belief, Seen.one([after], [0], [0.3, 1.0, -0.5]))[0]
        exact += (votes[j] - PLAIN.discount) / (n + PLAIN.thetas[0]) * (right.max() - right[0])
    assert exact > 0.005
    assert told == near(exact, rel=0.05)


@pytest.mark.parametrize("n", [2, 20])
def test_a_share_of_many_samples_says_more_than_that_of_a_few(n: int) -> None:
    plain, told = (chances(replace(PLAIN, size=size), Seen.one([[2.0 * n, n]], [0], [0.0, 0.0]))[0] for size in (0.0, 0.4))
    assert told / (1 - told.sum()) == near(plain / (1 - plain.sum()) * (3 * n + 1) ** 0.4)


def test_how_scattered_a_question_is_is_learned_from_it() -> None:
    told = posterior.scatter(Belief(), np.array([8.0, 8.0]), np.array([1.0, 8.0]))
    assert told.sum(axis=1) == near(np.ones(2))
    one, many = (told @ np.array(Belief().thetas)).tolist()
    assert one < 1 < 20 < many
    exact = [math.prod(theta + 0.2 * i for i in range(1, 8)) / math.prod(theta + i for i in range(1, 8)) for theta in Belief().thetas]
    assert told[1] == near(np.array(exact) / sum(exact))


def test_a_kind_that_nobody_tried_is_expected_to_say_what_the_others_say() -> None:
    shares = drawn(Belief(), Seen.one([[9.0, 1.0], [0.0, 0.0]], [0.0, 0.0], [0.0, 0.0]), 2, 20_000)
    own, other = shares.mean(axis=0)[:, 0]
    assert 0.5 < other <= own + 0.02
    assert shares[:, 1, 0].std() > shares[:, 0, 0].std(), "but less surely"


def test_what_is_settled_and_what_is_hopeless_is_worth_little_and_a_contest_much() -> None:
    settled, contest, hopeless = gain([[12.0, 0.0]]), gain([[3.0, 3.0]]), gain([[1.0] * 12])
    assert settled[0] < 0.001
    assert contest[0] > 10 * settled[0] + 0.03
    assert contest[0] > 1.5 * hopeless[0]
    assert gain([[1.0] * 30])[0] < gain([[1.0] * 12])[0]


def test_a_verifier_may_know_better_of_an_answer_that_nobody_has_given_yet() -> None:
    seen = Seen.one([[2.0, 1.0]], [0.0], [0.5, -0.5])
    narrow, wide = (gains(Belief(spread=sd), seen, (1, 4), rng(), 4_000)[0, 0] for sd in (1e-6, 2.0))
    assert (wide > narrow + 0.005).all()
    blind = Seen.one([[2.0, 1.0]], [0.0], [0.0, 0.0])
    same = [gains(Belief(spread=sd), blind, (1, 4), rng(), 4_000)[0, 0].tolist() for sd in (1e-6, 2.0)]
    assert same[0] == same[1], "nobody judges"


def test_a_verifier_that_is_sure_makes_more_samples_worth_less() -> None:
    assert gain([[2.0, 2.0]], evidence=[3.0, -3.0])[0] < gain([[2.0, 2.0]])[0] / 4


def test_a_kind_that_never_answers_is_not_asked_again() -> None:
    chains, programs = gain([[2.0, 2.0], [0.0, 0.0]], [0.0, 9.0])
    assert programs < chains / 2


def test_before_the_first_sample_the_gain_of_one_is_how_often_it_is_right() -> None:
    one = gain([[]], [0.0], [], 1)[0]
    told = chances(Belief(), Seen.one([[1.0]], [0.0], [0.0]))[0, 0]
    assert one == near(told * 2 / 2.25, abs=0.02), "what one sample says, where it says something"


def test_many_states_at_once_are_as_each_alone() -> None:
    both = Seen(np.array([[[3.0, 2.0]], [[9.0, 0.0]]]), np.zeros((2, 1)), np.zeros((2, 2)))
    together = gains(Belief(), both, (1, 4), rng(), 20_000)
    apart = [gains(Belief(), Seen(both.votes[i : i + 1], both.silent[:1], both.evidence[:1]), (1, 4), rng(), 20_000)[0] for i in (0, 1)]
    assert together == near(np.array(apart), abs=0.006)
