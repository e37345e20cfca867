r"""What a question's samples tell so far: which answer is right, and what more samples would be worth.

**What the model would say next.** Its answers to one question, however many there are, have chances with a Pitman-Yor prior (Pitman and
Yor 1997): after n samples with :math:`n_j` for answer j of K different ones, the next one is answer j with :math:`(n_j - d) / (n +
\theta)`, and a new one with :math:`(\theta + d K) / (n + \theta)`. How scattered answers are, :math:`\theta`, differs from question to
question: it has a prior over a few values, and a posterior by the samples, so that a hopeless question is known after a few. Samples of
several kinds (chains, programs, another model) share their answers: the chances of kind a are drawn about those of all kinds, from a
Dirichlet with :math:`\kappa` samples' weight (a hierarchical process, Teh et al. 2006), so that a kind nobody has tried is expected to say
what the others say.

**Which answer is right** is a conditional logit (McFadden 1974) over the answers seen, and none of them:

.. math:: P(j) = e^{u_j} / (e^{u_0} + \sum_i e^{u_i})
.. math:: u_j = \gamma \ln \frac{n_j - d}{n + 1} + \nu \ln(n + 1) + \beta e_j + \mu (s_j - 1)

with :math:`e_j` what a verifier thinks of the samples that say j (log odds), and :math:`s_j` the number of kinds that say it. With
:math:`\gamma > 1` a majority is right more often than its share, as it is of real models, and with :math:`\nu > 0` a share of many samples
says more than that of a few. n counts those that gave no answer too.

**What k more samples of a kind are worth** is by how much they are expected to move the choice to a better one,

.. math:: E[\max_j P'(j) - P'(j^*)]

over what they may say, P' being the chances after it and j* the choice now (the knowledge gradient, Frazier et al. 2008, of a vote). What
a verifier will think of an answer nobody has given yet is drawn about what it thinks of the question's others. The gain is 0 where nothing
that may come would change the choice: where a vote has settled, and where the answers are so scattered that no choice would be good. It is
never negative, and before the first sample it says how often k of them would be right.

Arrays hold many questions, or states of one, at once: `m` of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STICKS = 4  # answers not seen yet that are told apart
TOP = 8  # answers that may come to be chosen: the likeliest ones; what the others say is counted together
SUREST = 6.0  # log odds: no verifier is surer than that of one sample
OUTCOMES = 64  # of what may come


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """The parameters; the defaults were fitted to nothing, and suit a model and questions that nobody has measured.

    `thetas` with their `odds`, `discount`, `kin` of what the model says; `share`, `size`, `evidence`, `kinds` and `none` (u_0) of which
    answer is right; `spread` is by how much a question's answers differ in evidence (the standard deviation); `silence` are
    the samples with and without an answer that a kind is expected to have had before the first.
    """

    thetas: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    odds: tuple[float, ...] = (1.0,) * 7
    discount: float = 0.2
    kin: float = 8.0
    share: float = 3.0
    size: float = 0.0
    evidence: float = 1.0
    kinds: float = 0.5
    none: float = -2.2
    spread: float = 1.0
    silence: tuple[float, float] = (2.0, 0.25)

    def moved(self, shift: float, steep: float) -> Belief:
        """For questions of another sort: log odds beside none being right are exp(`steep`) times as far from 0, and `shift` higher.

        Which answer is the likeliest stays as it is.
        """
        by = math.exp(steep)
        return replace(
            self,
            share=by * self.share,
            size=by * self.size,
            evidence=by * self.evidence,
            kinds=by * self.kinds,
            none=by * self.none - shift,
        )


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


def _right(belief: Belief, votes: Floats, silent: Floats, evidence: Floats) -> Floats:
    """Shapes [..., kinds, answers], [...] and [..., answers] to [..., answers]."""
    count = votes.sum(axis=-2)
    odds = np.where(count > 0, np.maximum(count - belief.discount, 0.0) ** belief.share * _pull(belief, votes, evidence), 0.0)
    told: Floats = odds / ((count.sum(axis=-1) + silent + 1.0) ** (belief.share - belief.size) + odds.sum(axis=-1))[..., None]
    return told


def _pull(belief: Belief, votes: Floats, evidence: Floats) -> Floats:
    """What speaks for answers besides their share, as a factor of their odds. Shapes as in `_right`."""
    worth = belief.evidence * evidence + belief.kinds * ((votes > 0).sum(axis=-2) - 1) - belief.none
    told: Floats = np.exp(np.clip(worth, -300.0, 300.0))
    return told


def gains(belief: Belief, seen: Seen, ks: Sequence[int], rng: np.random.Generator, outcomes: int = OUTCOMES) -> Floats:
    """By how much k more samples of each kind are expected to raise the chance that the choice is right. Shape [m, kinds, ks]; ks rise."""
    kinds = seen.votes.shape[1]
    held = chances(belief, seen)
    lead = np.argsort(-held, axis=1, kind="stable")[:, :TOP]  # the choice first
    answers = lead.shape[1] + STICKS
    votes = _roomy(np.take_along_axis(seen.votes, lead[:, None], axis=2), 0.0)
    heard = seen.votes.sum(axis=1)  # what is to come is expected to be judged as what has come
    usual = (heard * seen.evidence).sum(axis=1, keepdims=True) / (heard.sum(axis=1, keepdims=True) + 1.0)
    evidence = _roomy(np.take_along_axis(seen.evidence, lead, axis=1), usual)
    apart = seen.votes.sum(axis=2) - votes.sum(axis=2)
    count, total = votes.sum(axis=1).astype(np.int64), (seen.votes.sum(axis=2) + seen.silent).sum(axis=1).astype(np.int64)
    # odds are those of the shares' powers; the sum of all of them, and of none of them being right, has the samples' number to that power
    powers = np.maximum(np.arange(int(total.max(initial=0)) + ks[-1] + 2) - belief.discount, 0.0) ** belief.share
    sizes = (np.arange(len(powers)) + 1.0) ** (belief.share - belief.size)
    less = np.maximum(held.sum(axis=1) - np.take_along_axis(held, lead, axis=1).sum(axis=1), 0.0)
    others = less / np.maximum(1.0 - held.sum(axis=1), 1e-12) * sizes[total]  # what is not among the leading ones does not change
    whole = (others[:, None] + sizes[total[:, None] + np.array(ks)])[:, None, None]
    some = count[:, 0] > 0  # without any answer there is no choice to lose
    new = _draws(_shares(belief, seen, votes, apart, lead, rng, outcomes), ks, rng)
    spread = votes[:, None].repeat(kinds, axis=1)
    spread[:, range(kinds), range(kinds)] = 1.0  # as soon as this kind says it too
    before, after = _pull(belief, votes, evidence)[:, None, None, None], _pull(belief, spread, evidence[:, None])[:, None, :, None]
    come, had = new[..., :answers], count[:, None, None, None]
    odds = powers[had + come] * np.where(come > 0, after, before)
    odds *= had + come > 0
    single = powers[1] * np.exp(belief.evidence * usual - belief.none)[:, :, None, None]
    first = np.minimum(new[..., -2], 1) * single  # of the rest, no two say the same
    if seen.evidence.any():
        luck = np.exp(belief.evidence * belief.spread * rng.standard_normal((len(votes), outcomes, 1, 1, STICKS + 1)))
        odds[..., -STICKS:] *= luck[..., 1:]
        first = first * luck[..., 0]
    best = np.maximum(odds.max(axis=-1), first) - odds[..., 0] * some[:, None, None, None]
    told: Floats = (best / (whole + odds.sum(axis=-1) + first)).mean(axis=1)
    return told


def _roomy(told: Floats, value: Floats | float) -> Floats:
    """With places for answers not seen yet, of the same value each."""
    return np.concatenate([told, np.zeros((*told.shape[:-1], STICKS)) + value], axis=-1)


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
    parts = _log_gamma(np.stack(np.broadcast_arrays(theta / d + k, theta / d + 1, theta + n, theta + 1)))
    told = parts[0] - parts[1] - parts[2] + parts[3]
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


def _draws(shares: Floats, ks: Sequence[int], rng: np.random.Generator) -> Ints:
    """How often each comes in the first k of a row of samples, for each k: the longer rows begin as the shorter ones do.

    Shape [..., chances] to [..., ks, chances].
    """
    many, edges = shares.shape[-1], np.cumsum(shares, axis=-1)
    luck = rng.random((*shares.shape[:-1], ks[-1]))
    picks = np.zeros(luck.shape, dtype=np.int64)
    for j in range(many - 1):
        picks += luck > edges[..., j, None]
    part = np.searchsorted(np.array(ks), np.arange(ks[-1]), side="right")
    rows = np.arange(luck.size // ks[-1]).reshape(*shares.shape[:-1], 1)
    hits = np.bincount(((rows * len(ks) + part) * many + picks).ravel(), minlength=shares.size * len(ks))
    told: Ints = np.cumsum(hits.reshape(*shares.shape[:-1], len(ks), many), axis=-2)
    return told
