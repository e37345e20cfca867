r"""What a question's samples tell so far: which answer is right, and what more samples would be worth.

**What the model would say next.** Its answers to one question, however many there are, have chances with a Pitman-Yor prior (Pitman and
Yor 1997): after n samples with :math:`n_j` for answer j of K different ones, the next one is answer j with :math:`(n_j - d) / (n +
\theta)`, and a new one with :math:`(\theta + d K) / (n + \theta)`. How scattered answers are, :math:`\theta`, differs from question to
question: it has a prior over a few values, and a posterior by the samples, so that a hopeless question is known after a few. Samples of
several kinds (chains, programs, another model) share their answers: the chances of kind a are drawn about those of all kinds, from a
Dirichlet with :math:`\kappa` samples' weight (a hierarchical process, Teh et al. 2006), so that a kind nobody has tried is expected to say
what the others say.

**Which answer is right** is a conditional logit (McFadden 1974) over the answers seen, and none of them:

.. math:: P(j) = e^{u_j} / (e^{u_0} + \sum_i e^{u_i}), \quad u_j = \gamma \ln \frac{n_j - d}{n + 1} + \beta e_j + \mu (s_j - 1)

with :math:`e_j` what a verifier thinks of the samples that say j (log odds), and :math:`s_j` the number of kinds that say it. With
:math:`\gamma > 1` a majority is right more often than its share, as it is of real models. n counts those that gave no answer too.

**What k more samples of a kind are worth** is by how much they are expected to move the choice to a better one,

.. math:: E[\max_j P'(j) - P'(j^*)]

over what they may say, P' being the chances after it and j* the choice now (the knowledge gradient, Frazier et al. 2008, of a vote). It is
0 where nothing that may come would change the choice: where a vote has settled, and where the answers are so scattered that no choice
would be good. It is never negative, and before the first sample it says how often k of them would be right.

Arrays hold many questions, or states of one, at once: `m` of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STICKS = 4  # answers not seen yet that are told apart
TOP = 8  # answers that may come to be chosen: the likeliest ones; what the others say is counted together
SUREST = 6.0  # log odds: no verifier is surer than that of one sample
OUTCOMES = 128  # of what may come


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """The parameters; the defaults were fitted to nothing, and suit a model and questions that nobody has measured.

    `thetas` with their `odds`, `discount`, `kin` of what the model says; `share`, `evidence`, `kinds` and `none` (u_0) of which answer is
    right; `silence` are the samples with and without an answer that a kind is expected to have had before the first.
    """

    thetas: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    odds: tuple[float, ...] = (1.0,) * 7
    discount: float = 0.2
    kin: float = 8.0
    share: float = 3.0
    evidence: float = 1.0
    kinds: float = 0.5
    none: float = -2.2
    silence: tuple[float, float] = (2.0, 0.25)


@dataclass(frozen=True, slots=True)
class Seen:
    """Samples by kind and answer: `votes` of shape [m, kinds, answers], those without an answer of shape [m, kinds], and what a verifier
    thinks of each answer, in log odds (0: nothing), of shape [m, answers]. Answers nobody has given have no votes."""

    votes: Floats
    silent: Floats
    evidence: Floats

    @classmethod
    def one(cls, votes: Sequence[Sequence[float]], silent: Sequence[float], evidence: Sequence[float]) -> Seen:
        """Of one question. Without any answer, `votes` has an empty row for each kind."""
        kinds = len(silent)
        return cls(np.array(votes, dtype=float).reshape(1, kinds, -1), np.array([silent], dtype=float), np.array([evidence], dtype=float))


def log_odds(chance: ArrayLike, middle: float = 0.0) -> Floats:
    """What a verifier's chances of single samples say, in log odds above `middle`: none is surer than SUREST."""
    held = np.clip(chance, 1e-9, 1 - 1e-9)
    told: Floats = np.clip(np.log(held / (1 - held)) - middle, -SUREST, SUREST)
    return told


def chances(belief: Belief, seen: Seen) -> Floats:
    """P(right) of each answer. Shape [m, answers]; what is missing to 1 is that none of them is."""
    return _right(belief, seen.votes, seen.silent.sum(axis=-1), seen.evidence)


def _right(belief: Belief, votes: Floats, silent: Floats, evidence: Floats, others: Floats | float = 0.0) -> Floats:
    """Shapes [..., kinds, answers], [...] and [..., answers] to [..., answers].

    `silent` are all samples that say none of these answers, and `others` the odds that some other answer is right, times the samples there
    are to the power of gamma: that product does not change with what comes. Shape [...].
    """
    count = votes.sum(axis=-2)
    said = count > 0
    total = count.sum(axis=-1) + silent + 1.0
    share = np.where(said, count - belief.discount, 1.0) / total[..., None]
    apart = (votes > 0).sum(axis=-2) - 1
    worth = belief.share * np.log(share) + belief.evidence * evidence + belief.kinds * apart
    odds = np.where(said, np.exp(np.minimum(worth - belief.none, 500.0)), 0.0)
    rest = odds.sum(axis=-1) + others * total**-belief.share
    told: Floats = odds / (1.0 + rest)[..., None]
    return told


def gains(belief: Belief, seen: Seen, ks: Sequence[int], rng: np.random.Generator, outcomes: int = OUTCOMES) -> Floats:
    """By how much k more samples of each kind are expected to raise the chance that the choice is right. Shape [m, kinds, ks]; ks rise."""
    m, kinds, _ = seen.votes.shape
    held = chances(belief, seen)
    lead = np.argsort(-held, axis=1, kind="stable")[:, :TOP]  # the choice first
    answers = lead.shape[1]
    votes = np.pad(np.take_along_axis(seen.votes, lead[:, None], axis=2), ((0, 0), (0, 0), (0, STICKS)))
    evidence = np.pad(np.take_along_axis(seen.evidence, lead, axis=1), ((0, 0), (0, STICKS + 1)))[:, None, None]
    apart = seen.votes.sum(axis=2) - votes.sum(axis=2)
    quiet = (seen.silent + apart).sum(axis=1)
    total = votes.sum(axis=(1, 2)) + quiet + 1.0
    less = held.sum(axis=1) - np.take_along_axis(held, lead, axis=1).sum(axis=1)
    others = less / np.maximum(1.0 - held.sum(axis=1), 1e-12) * total**belief.share
    some = votes[:, :, 0].sum(axis=1) > 0  # without any answer there is no choice to lose
    shares = _shares(belief, seen, votes, apart, lead, rng, outcomes)
    told = np.empty((m, kinds, len(ks)))
    for kind in range(kinds):
        *_, other, rest, mute = np.moveaxis(new := _draws(shares[:, :, kind], ks, rng), -1, 0)
        rare = np.minimum(rest, 1.0)  # of the rest, no two say the same
        after = np.zeros((m, outcomes, len(ks), kinds, answers + STICKS + 1))
        after[..., :-1] = votes[:, None, None]
        after[..., kind, :-1] += new[..., :-3]
        after[..., kind, -1] = rare
        silent = quiet[:, None, None] + other + mute + rest - rare
        right = _right(belief, after, silent, evidence, np.maximum(others, 0.0)[:, None, None])
        told[:, kind] = (right.max(axis=-1) - np.where(some[:, None, None], right[..., 0], 0.0)).mean(axis=1)
    return told


def _shares(belief: Belief, seen: Seen, votes: Floats, apart: Floats, lead: Ints, rng: np.random.Generator, outcomes: int) -> Floats:
    """Chances of each of the leading answers, of those not seen yet, of all other ones, of the rest, and of no answer, from the posterior.

    `votes` are those of the leading answers and of the ones not seen yet, `apart` those of the others by kind, shape [m, kinds]. Shape
    [m, outcomes, kinds, answers + 3].
    """
    m, kinds, answers = votes.shape
    tables = np.where(seen.votes > 0, np.maximum(1.0, belief.kin * np.log1p(seen.votes / belief.kin)), 0.0).sum(axis=1)
    known = tables > 0
    different = known.sum(axis=1)[:, None]
    theta = _thetas(belief, tables.sum(axis=1), different[:, 0], rng, outcomes)
    each = np.where(known, tables - belief.discount, 0.0)
    leading = np.take_along_axis(each, lead, axis=1)
    weights = np.concatenate([leading, each.sum(axis=1, keepdims=True) - leading.sum(axis=1, keepdims=True)], axis=1)
    weights = np.maximum(weights, 0.0)[:, None].repeat(outcomes, axis=1)
    drawn = rng.standard_gamma(np.concatenate([weights, (theta + belief.discount * different)[..., None]], axis=-1))
    drawn /= np.maximum(drawn.sum(axis=-1, keepdims=True), 1e-300)
    rest = drawn[..., -1]
    cuts = rng.beta(1 - belief.discount, theta[..., None] + belief.discount * (different[..., None] + np.arange(1, STICKS + 1)))
    base = np.empty((m, outcomes, answers + 2))
    base[..., : answers - STICKS], base[..., -2] = drawn[..., :-2], drawn[..., -2]
    for j in range(STICKS):
        base[..., answers - STICKS + j] = rest * cuts[..., j]
        rest = rest * (1 - cuts[..., j])
    base[..., -1] = rest
    counts = np.concatenate([votes, apart[..., None], np.zeros((m, kinds, 1))], axis=-1)
    own = rng.standard_gamma(belief.kin * base[:, :, None] + counts[:, None])
    own /= np.maximum(own.sum(axis=-1, keepdims=True), 1e-300)
    speaking, quiet = belief.silence
    mute = rng.beta(quiet + seen.silent[:, None], speaking + seen.votes.sum(axis=-1)[:, None], (m, outcomes, kinds))[..., None]
    return np.concatenate([own * (1 - mute), mute], axis=-1)


def scatter(belief: Belief, tables: Floats, different: Floats) -> Floats:
    """The posterior of each theta, after so many tables of so many different answers (by the exchangeable partition's probability).

    Shapes [m] and [m] to [m, thetas].
    """
    theta, d = np.array(belief.thetas)[None], belief.discount
    n, k = np.maximum(tables, 1.0)[:, None], np.maximum(different, 1.0)[:, None]
    told = _log_gamma(theta / d + k) - _log_gamma(theta / d + 1) - _log_gamma(theta + n) + _log_gamma(theta + 1)
    told = np.exp(told - told.max(axis=1, keepdims=True)) * np.array(belief.odds)
    found: Floats = told / told.sum(axis=1, keepdims=True)
    return found


def _log_gamma(x: Floats) -> Floats:
    """Stirling's series, from 8 above x on: right to eleven digits."""
    y = x + 8
    shift = np.log(x * (x + 1) * (x + 2) * (x + 3)) + np.log((x + 4) * (x + 5) * (x + 6) * (x + 7))
    told: Floats = (y - 0.5) * np.log(y) - y + 0.5 * np.log(2 * np.pi) + 1 / (12 * y) - 1 / (360 * y**3) + 1 / (1260 * y**5) - shift
    return told


def _thetas(belief: Belief, tables: Floats, different: Floats, rng: np.random.Generator, outcomes: int) -> Floats:
    """Thetas drawn from their posterior. Shape [m, outcomes]."""
    edges = np.cumsum(scatter(belief, tables, different), axis=1)[:, None, :-1]
    found: Floats = np.array(belief.thetas)[(rng.random((len(tables), outcomes, 1)) > edges).sum(axis=-1)]
    return found


def _draws(shares: Floats, ks: Sequence[int], rng: np.random.Generator) -> Floats:
    """How often each comes in the first k of a row of samples, for each k: the longer rows begin as the shorter ones do.

    Shape [m, outcomes, chances] to [m, outcomes, ks, chances].
    """
    edges = np.cumsum(shares, axis=-1)[..., None, :-1]
    picks = (rng.random((*shares.shape[:2], ks[-1], 1)) > edges).sum(axis=-1, dtype=np.int8 if shares.shape[-1] < 128 else np.int64)
    hits = (picks[..., None] == np.arange(shares.shape[-1], dtype=picks.dtype)).view(np.int8)
    told = np.add.reduceat(hits, [0, *ks[:-1]], axis=2, dtype=np.int16)
    return np.cumsum(told, axis=2).astype(float)
