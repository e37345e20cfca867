"""Policies over recorded samples."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pondera.allocate import policies
from pondera.allocate.paired import paired
from pondera.allocate.policies import Deck, Mind, Told
from pondera.allocate.posterior import Belief
from pondera.allocate.resample import Ints, orders, passed, sway
from pondera.allocate.resample import adaptive as adaptive_of

REPLAY = Path(__file__).parents[3] / "shared/data/replay"
near = pytest.approx


def drawn(n: int, least: int = 64, seed: int = 0) -> Ints:
    return orders(n, np.random.default_rng(seed), least)


def mind() -> Mind:
    return Mind(Belief(), np.random.default_rng(0))


def deck(text: str, right: str = "a", **more: object) -> Deck:
    """Samples by the letters of their answers; "." gave none."""
    keys = [None if letter == "." else letter for letter in text]
    made = Deck.of(keys, [letter == right for letter in text])
    parts = {name: getattr(made, name) for name in ("options", "right", "kind", "tokens", "trust", "evidence")}
    return Deck(**(parts | {name: np.asarray(value) for name, value in more.items()}))


MIXED = deck("aabab.cabaca")


def test_a_fixed_number_of_votes_is_the_majority_at_k() -> None:
    told = policies.fixed(MIXED, drawn(12), range(1, 13))
    assert told.right == near(sway(MIXED.votes(), drawn(12))[0])
    assert told.samples.tolist() == list(range(1, 13))
    assert told.tokens == near(told.samples)


def test_adaptive_consistency_stops_where_the_bench_says() -> None:
    right, used = adaptive_of(MIXED.votes(), MIXED.votes().race(drawn(12)), (0.6, 0.9, 0.99))
    told = policies.adaptive(MIXED, drawn(12), (0.6, 0.9, 0.99), 12)
    assert told.right == near(right)
    assert told.samples == near(used)
    assert policies.adaptive(MIXED, drawn(12), (0.99,), 5).samples <= 5


def test_a_vote_that_believes_itself_not_at_all_is_a_plain_one_and_one_that_does_follows_the_surest() -> None:
    sure = deck("abbb", trust=[0.9, 0.1, 0.2, 0.3])
    assert policies.cisc(sure, drawn(4), [4], 1e6).right == near(policies.fixed(sure, drawn(4), [4]).right)
    assert policies.cisc(sure, drawn(4), [4], 0.1).right.tolist() == [1.0]
    assert policies.deepconf(sure, drawn(4), [4], 0.25).right.tolist() == [1.0]
    assert policies.deepconf(sure, drawn(4), [4], 1.0).right.tolist() == [1.0], "0.9 against 0.6"
    assert policies.deepconf(deck("abb.", trust=[0.5, 0.4, 0.4, 0.9]), drawn(4), [4], 0.5).right.tolist() == [0.0], (
        "who is silent is not sure"
    )


def test_early_stopping_ends_with_a_window_that_agrees() -> None:
    in_order = np.arange(6)[None]
    told = policies.early(deck("abaaab"), in_order, (2, 3, 5), 6)
    assert told.samples.tolist() == [4, 6, 6]  # "aa" is the second window of two; "aab" does not agree
    assert policies.early(deck("..aaaa"), in_order, (2,), 6).samples.tolist() == [4], "to be silent together is no agreement"


def test_what_pays_is_drawn_and_no_more() -> None:
    told = policies.worth(MIXED, drawn(12), [1e9, 0.02, 1e-7], 12, mind())
    assert told.samples[0] == 1, "an answer is owed"
    assert 1 < told.samples[1] < told.samples[2] <= 12
    assert policies.worth(MIXED, drawn(12), [1e-7], 3, mind()).samples <= 3
    easy = policies.worth(deck("a" * 12), drawn(12), [0.003], 12, mind())
    assert easy.samples < 5
    assert easy.right.tolist() == [1.0]
    together = policies.worth(MIXED, drawn(12), [0.02], 12, mind(), together=1.0)
    assert together.samples >= told.samples[1]


def test_tokens_are_those_of_what_was_drawn() -> None:
    costs = [float(3 ** (i % 4)) for i in range(12)]
    one = deck("aabab.cabaca", tokens=costs)
    told = policies.worth(one, drawn(12), [1e9], 12, mind())
    assert told.tokens == near([np.mean(costs)])
    assert policies.fixed(one, drawn(12), [12]).tokens == near([sum(costs)])


def test_of_two_kinds_the_better_one_is_drawn_until_it_is_silent() -> None:
    half = np.repeat([0, 1], 8)
    cheap = deck("aaaabbba" * 2, kind=half, tokens=np.where(half == 0, 100.0, 10.0))
    told = policies.worth(cheap, drawn(16), [2e-4], 16, mind())
    assert told.tokens[0] / told.samples[0] < 40, "mostly the cheap ones"
    mute = deck("aaaabbba" + "." * 8, kind=half, tokens=np.where(half == 0, 100.0, 10.0))
    assert policies.worth(mute, drawn(16), [1e-4], 16, mind()).right >= 0.5


def test_a_question_nobody_answers() -> None:
    for told in (
        policies.fixed(deck("....", "x"), drawn(4), [1, 4]),
        policies.cisc(deck("....", "x"), drawn(4), [4]),
        policies.deepconf(deck("....", "x"), drawn(4), [4]),
        policies.adaptive(deck("....", "x"), drawn(4), [0.9], 4),
        policies.early(deck("....", "x"), drawn(4), [2], 4),
        policies.worth(deck("....", "x"), drawn(4), [0.01], 4, mind()),
    ):
        assert told.right.max() == 0.0
        assert 1 <= told.samples.min() <= told.samples.max() <= 4


# ---------------------------------------------------------------- other people's samples


def recorded(name: str) -> Iterator[Deck]:
    with gzip.open(REPLAY / name, "rt") as lines:
        for row in map(json.loads, lines):
            yield Deck.of([one or None for one in row["ans"]], [bool(ok) for ok in row["ok"]])


def at_equal_samples(ours: list[Told], theirs: list[Told], setting: int) -> np.ndarray:
    """Our chance of being right with as many samples as theirs at a setting takes, between our own settings, by question."""
    samples = np.mean([told.samples for told in ours], axis=0)
    order, wanted = np.argsort(samples), np.mean([told.samples[setting] for told in theirs])
    return np.array([np.interp(wanted, samples[order], told.right[order]) for told in ours])


@pytest.mark.skipif(not REPLAY.exists(), reason="needs the recorded samples of other people's models, which are no part of the project")
@pytest.mark.parametrize("name", ["rg_llama3b_amc23_40x50.jsonl.gz", "tot_game24_gpt4_cot_100x100.jsonl.gz"])
def test_it_is_not_worse_than_adaptive_consistency_where_nothing_was_fitted(name: str) -> None:
    decks, one = list(recorded(name))[:40], mind()
    n = len(decks[0].options)
    order = [drawn(n, 4, i)[::25] for i in range(len(decks))]
    theirs = [policies.adaptive(deck, some, (0.7, 0.85, 0.95), n) for deck, some in zip(decks, order, strict=True)]
    prices = (0.02, 0.007, 0.003, 0.001, 0.0003)
    ours = [policies.worth(deck, some, prices, n, one) for deck, some in zip(decks, order, strict=True)]
    for setting in range(3):
        told = paired(np.array([told.right[setting] for told in theirs]), at_equal_samples(ours, theirs, setting))
        assert told.difference.high >= 0
    assert all(
        (told.right <= passed(list(deck.right[deck.options] & (deck.options >= 0)))[-1]).all()
        for told, deck in zip(ours, decks, strict=True)
    )
