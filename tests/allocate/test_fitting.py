"""Beliefs fitted to samples that are drawn from a known process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pondera.allocate.fitting import _rights, _says, _silence, _spread, fit, likelihood, states
from pondera.allocate.policies import Deck
from pondera.allocate.posterior import Belief, chances

near = pytest.approx
TRUE = Belief(discount=0.2, kin=6.0)
THETA = 1.0


def decks(n: int, telling: float = 0.5, seed: int = 0, silent: float = 0.1) -> list[Deck]:
    """Questions with eight samples of two kinds each; the right answer is one that is likely, and a verifier knows it `telling` well."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(n):
        cuts = rng.beta(1 - TRUE.discount, THETA + TRUE.discount * np.arange(1, 31))
        base = cuts * np.concatenate([[1.0], np.cumprod(1 - cuts)[:-1]])
        base /= base.sum()
        said = np.concatenate([rng.choice(30, 8, p=rng.dirichlet(TRUE.kin * base + 1e-9)) for _ in range(2)])
        truth = str(rng.choice(30, p=base**2 / (base**2).sum()))
        keys = [None if rng.random() < silent else str(one) for one in said]
        plain = Deck.of(keys, [key == truth for key in keys])
        evidence = np.where([key == truth for key in keys], telling, -telling) + rng.normal(0, 1, 16)
        kind = np.repeat([0, 1], 8)
        parts = {name: getattr(plain, name) for name in ("options", "right", "tokens", "trust")}
        made.append(Deck(**parts, kind=kind, evidence=evidence))
    return made


def test_what_the_model_says_is_found_again() -> None:
    told = _says(decks(120), Belief(), np.random.default_rng(0))
    assert dict(zip(told.thetas, told.odds, strict=True))[THETA] == max(told.odds)
    assert told.discount == near(TRUE.discount, abs=0.15)
    assert 3 < told.kin < 12
    assert _silence(decks(120, silent=0.25), Belief()) == _silence(decks(120, silent=0.25), Belief())
    speaking, quiet = _silence(decks(120, silent=0.25), Belief())
    assert quiet / (speaking + quiet) == near(0.25, abs=0.03)


def test_how_much_answers_differ_in_evidence_is_told() -> None:
    assert _spread(decks(60, telling=0.0), Belief()) == near(1.0, abs=0.1)
    assert _spread(decks(60, telling=3.0), Belief()) > 1.3
    assert _spread([], Belief()) == Belief().spread


def test_a_fit_is_likelier_on_questions_that_it_has_not_seen_and_is_calibrated() -> None:
    told = states(decks(150, seed=1), np.random.default_rng(2))
    fitted = fit(decks(120))
    assert likelihood(fitted, told).mean() > likelihood(Belief(), told).mean() + 0.05
    held = chances(fitted, told.seen)
    lead, choice = held.max(axis=1), held.argmax(axis=1)
    good = told.right[np.arange(len(lead)), choice]
    for low, high in ((0.0, 0.4), (0.4, 0.7), (0.7, 1.01)):
        some = (lead >= low) & (lead < high)
        assert some.sum() > 100
        assert good[some].mean() == near(lead[some].mean(), abs=0.08)


def test_a_verifier_that_says_nothing_has_little_weight_and_one_that_lies_has_none() -> None:
    assert fit(decks(80, telling=0.5)).evidence > 0.8
    assert fit(decks(80, telling=0.0)).evidence < 0.25
    assert fit(decks(80, telling=-0.5)).evidence == 0.0


@pytest.mark.parametrize("right", [True, False])
def test_a_bank_of_one_sort_leaves_finite_weights(right: bool) -> None:
    some = [Deck.of(["a"] * 6, [right] * 6) for _ in range(30)]
    fitted = fit(some)
    assert all(
        np.isfinite(value) for value in (*fitted.odds, fitted.kin, fitted.share, fitted.size, fitted.evidence, fitted.kinds, fitted.none)
    )
    told = chances(fitted, states(some, np.random.default_rng(0)).seen).max(axis=1)
    assert (told > 0.9).all() if right else (told < 0.1).all()


def test_with_nothing_to_learn_from_the_defaults_stay() -> None:
    fitted = fit([Deck.of([None], [False])])
    assert replace(fitted, silence=Belief().silence, none=0.0) == replace(Belief(), none=0.0)
    assert _rights(states([Deck.of(["a", "b"], [True, False])], np.random.default_rng(0)), Belief()).share == near(2.0, abs=1.0)


def test_states_are_prefixes_of_random_orders() -> None:
    told = states(decks(10), np.random.default_rng(0), 30)
    sizes = told.seen.votes.sum(axis=(1, 2)) + told.seen.silent.sum(axis=1)
    assert sizes.min() == 1
    assert sizes.max() == 16
    assert (told.question == np.repeat(np.arange(10), 30)).all()
    alone = ((told.seen.votes.sum(axis=2) + told.seen.silent) == 0).any(axis=1)
    assert alone[2::3].all()
    assert not alone[sizes > 8].any()
