r"""Fitting a belief to decks of recorded samples, whose right answers are known.

What the model says is fitted by the likelihood of its samples one after another: with :math:`c_{aj}` for answer j in kind a, :math:`N_a`
of that kind, the next sample of kind a says j with

.. math:: (c_{aj} + \kappa g_j) / (N_a + \kappa), \quad g_j = (t_j - d) / (t + \theta)

with :math:`t_j = \sum_a \max(1, \kappa \ln(1 + c_{aj}/\kappa))` the tables of answer j, and what nobody has said with :math:`g = (\theta +
d K) / (t + \theta)`. Which answer is right is fitted by the likelihood of the right one, or of none, in states of random sizes, those of
one kind alone among them; a weak normal prior about the defaults keeps a bank without errors, or a verifier that says nothing, from doing
harm. A verifier whose weight would be negative is worse than chance, and has weight 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from pondera.allocate.policies import Deck
from pondera.allocate.posterior import Belief, Floats, Seen, chances
from pondera.allocate.resample import Ints

STATES = 24  # of each question
SOME = 300  # questions of which what the model says is fitted: the likelihood of a sample after another takes its time
FIRM = 0.2  # how firmly the defaults of the logit hold: the log-likelihood of so many questions for each squared unit

_PULLS = ("share", "size", "evidence", "kinds", "none")
WIDE = (-1.0, 0.3, -0.3, 0.3, 1.0)  # how far each is tried first


@dataclass(frozen=True, slots=True)
class States:
    """What had been seen of questions at random points, which answers are right (shape [m, answers]), and whose they are."""

    seen: Seen
    right: Floats
    question: Ints


def states(decks: Sequence[Deck], rng: np.random.Generator, each: int = STATES) -> States:
    """`each` states of every deck: the first k of a random order, k being any size with equal chance in the logarithm.

    Of decks with several kinds a third of the states are of one kind alone.
    """
    width = max((len(deck.right) for deck in decks), default=0) or 1
    many = 1 + max((int(deck.kind.max()) for deck in decks), default=0)
    votes, silent = np.zeros((len(decks), each, many, width)), np.zeros((len(decks), each, many))
    evidence, right = np.zeros((len(decks), each, width)), np.zeros((len(decks), 1, width))
    for i, deck in enumerate(decks):
        right[i, 0, : len(deck.right)] = deck.right
        for s in range(each):
            order = rng.permutation(len(deck.options))
            if many > 1 and s % 3 == 2:
                order = order[deck.kind[order] == deck.kind[order[0]]]
            some = order[: max(1, round(float(np.exp(rng.uniform(0.0, np.log(len(order) + 0.49))))))]
            said = deck.options[some]
            np.add.at(votes[i, s], (deck.kind[some][said >= 0], said[said >= 0]), 1.0)
            np.add.at(silent[i, s], deck.kind[some][said < 0], 1.0)
            np.add.at(evidence[i, s], said[said >= 0], deck.evidence[some][said >= 0])
    evidence /= np.maximum(votes.sum(axis=2), 1.0)
    seen = Seen(votes.reshape(-1, many, width), silent.reshape(-1, many), evidence.reshape(-1, width))
    return States(seen, np.repeat(right, each, axis=1).reshape(-1, width), np.repeat(np.arange(len(decks)), each))


def likelihood(belief: Belief, told: States) -> Floats:
    """The log-probability of what is right in each state: of the right answers that were seen, or of none. Shape [m]."""
    held = chances(belief, told.seen)
    good = (held * told.right).sum(axis=-1)
    known = ((told.seen.votes.sum(axis=1) > 0) * told.right).sum(axis=-1) > 0
    found: Floats = np.log(np.maximum(np.where(known, good, 1.0 - held.sum(axis=-1)), 1e-12))
    return found


def fit(decks: Sequence[Deck], start: Belief | None = None, seed: int = 0) -> Belief:
    """The belief that decks tell. Needs some questions; with few of them it stays near `start`, the defaults."""
    first, rng = start or Belief(), np.random.default_rng(seed)
    said = _says(decks, replace(first, silence=_silence(decks, first), spread=_spread(decks, first)), rng)
    return _rights(states(decks, rng), said)


def _silence(decks: Sequence[Deck], start: Belief) -> tuple[float, float]:
    """How many samples with and without an answer a kind is expected to have had, by the moments of their shares.

    The defaults count as one question of theirs.
    """
    rows = [
        (float((deck.options[deck.kind == kind] < 0).mean()), int((deck.kind == kind).sum()))
        for deck in decks
        for kind in np.unique(deck.kind)
    ]
    speaking, quiet = start.silence
    shares = np.array([share for share, _ in rows] + [quiet / (speaking + quiet)])
    n = float(np.mean([size for _, size in rows])) if rows else 1.0
    mean = float(np.clip(shares.mean(), 0.01, 0.99))
    spread = float(shares.var()) - mean * (1 - mean) / n  # what is left of it when chance is taken out
    weight = float(np.clip(mean * (1 - mean) / max(spread, 1e-4) - 1, 0.5, 50.0))
    return round(weight * (1 - mean), 4), round(weight * mean, 4)


def _spread(decks: Sequence[Deck], start: Belief) -> float:
    """The standard deviation of evidence among a question's answers, each as its first sample has it; the default counts as ten answers."""
    total, count = 10 * start.spread**2, 10.0
    for deck in decks:
        _, at = np.unique(deck.options, return_index=True)
        told = deck.evidence[at[deck.options[at] >= 0]]
        if len(told) > 1 and told.any():
            total, count = total + float(((told - told.mean()) ** 2).sum()), count + len(told) - 1
    return round(float(np.sqrt(total / count)), 4)


def _says(decks: Sequence[Deck], start: Belief, rng: np.random.Generator) -> Belief:
    """The belief with the odds of thetas, discount and kin fitted: the odds by expectation and maximisation, within the likelihood."""
    some = [decks[i] for i in rng.permutation(len(decks))[:SOME]]
    rows = [(deck.kind[order], deck.options[order]) for deck in some for order in (rng.permutation(len(deck.options)),)]
    rows = [(kind[said >= 0], said[said >= 0]) for kind, said in rows]
    kept = [(kind, said) for kind, said in rows if len(said) > 1]
    if not kept:
        return start
    begin = np.array([np.log(start.discount / (1 - start.discount)), np.log(start.kin)])
    prior = np.array(start.odds) / sum(start.odds)

    def made(x: Floats) -> tuple[float, float]:
        return float(np.clip(1 / (1 + np.exp(-x[0])), 0.01, 0.95)), float(np.clip(np.exp(x[1]), 0.1, 1e4))

    def each(x: Floats) -> Floats:
        return np.array([_sequence(kind, said, np.array(start.thetas), *made(x)) for kind, said in kept])

    def loss(x: Floats) -> float:
        told = each(x)
        return -float(_mixed(told, _odds(told, prior)).mean()) + 0.5 * float(((x - begin) ** 2).sum()) / len(kept)

    best = minimize(loss, begin, method="Nelder-Mead", options={"xatol": 0.03, "fatol": 1e-4, "maxiter": 80}).x
    discount, kin = made(best)
    odds = tuple(round(float(one), 4) for one in _odds(each(best), prior))
    return replace(start, odds=odds, discount=round(discount, 4), kin=round(kin, 4))


def _mixed(told: Floats, odds: Floats) -> Floats:
    """The log-likelihood of each question, whose theta is not known. Shapes [questions, thetas] and [thetas] to [questions]."""
    top = told.max(axis=1, keepdims=True)
    found: Floats = (top + np.log(np.exp(told - top) @ odds)[:, None])[:, 0]
    return found


def _odds(told: Floats, prior: Floats) -> Floats:
    """What share of the questions has each theta; the prior counts as one question."""
    odds = prior
    for _ in range(50):
        held = np.exp(told - told.max(axis=1, keepdims=True)) * odds
        odds = (prior + (held / held.sum(axis=1, keepdims=True)).sum(axis=0)) / (1 + len(told))
    return odds


def _sequence(kind: Ints, said: Ints, thetas: Floats, discount: float, kin: float) -> Floats:
    """The log-probability of a question's samples one after another, those without an answer left out, for each theta. Shape [thetas]."""
    counts = np.zeros((int(kind.max()) + 1, int(said.max()) + 1))
    total = np.zeros(len(thetas))
    for a, j in zip(kind, said, strict=True):
        tables = np.where(counts > 0, np.maximum(1.0, kin * np.log1p(counts / kin)), 0.0).sum(axis=0)
        known = tables > 0
        base = (tables[j] - discount if known[j] else thetas + discount * known.sum()) / (tables.sum() + thetas)
        total += np.log((counts[a, j] + kin * base) / (counts[a].sum() + kin))
        counts[a, j] += 1
    return total


def _rights(told: States, start: Belief) -> Belief:
    """The belief with the weights of the logit fitted."""
    begin = np.array([getattr(start, name) for name in _PULLS])
    questions = len(np.unique(told.question))

    def made(x: Floats) -> Belief:
        share, size, evidence, kinds, none = map(float, x)
        return replace(start, share=max(share, 0.05), size=size, evidence=max(evidence, 0.0), kinds=kinds, none=none)

    def loss(x: Floats) -> float:
        return -float(likelihood(made(x), told).mean()) + FIRM * float(((x - begin) ** 2).sum()) / max(questions, 1)

    options = {"initial_simplex": begin + np.vstack([0 * begin, np.diag(WIDE)]), "xatol": 1e-3, "fatol": 1e-6, "maxiter": 900}
    return made(np.round(minimize(loss, begin, method="Nelder-Mead", options=options).x, 4))
