r"""Ways to decide, sample by sample, whether another one is worth it, on samples that are recorded: a fair comparison that costs nothing.

    fixed       vote, or best-of-N, over N samples that were decided upon before (Wang et al. 2022, arXiv 2203.11171)
    cisc        N samples vote with weight exp(c / T), c being what their model thinks of them (Taubenfeld et al. 2025, arXiv 2502.06233)
    deepconf    the surest share of N samples votes, weighted by how sure they are (Fu et al. 2025, arXiv 2508.15260)
    adaptive    sample by sample, until the posterior that the leader is the majority is above a threshold (Aggarwal et al. 2023, arXiv
                2305.11860)
    early       windows of w samples, until all of one window agree (early-stopping self-consistency, Li et al. 2024, arXiv 2401.10480)
    worth       as long as some number of samples of some kind is expected to gain more than it costs (:mod:`pondera.allocate.posterior`)

Each sees samples in random orders, the same ones, and none knows more of a sample than had been seen of it by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pondera.allocate import resample
from pondera.allocate.decide import ROUND
from pondera.allocate.posterior import Belief, Seen, chances, gains
from pondera.allocate.resample import Floats, Ints

KS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deck:
    """One question's samples. `options` numbers their answers (-1: none) and `right[j]` says of answer j whether it is right.

    `kind` numbers how each was asked for; `tokens` are what it cost. `trust` is what its model thinks of it, from 0 to 1, and `evidence`
    what a verifier thinks of it alone, in log odds. All but `right` are of shape [n]. `opening` are the tokens of each kind's prompt, which
    are paid with its first sample.
    """

    options: Ints
    right: NDArray[np.bool_]
    kind: Ints
    tokens: Floats
    trust: Floats
    evidence: Floats
    opening: tuple[float, ...] = ()

    @classmethod
    def of(cls, keys: Sequence[str | None], right: Sequence[bool], tokens: Sequence[float] | None = None) -> Deck:
        """Samples of one kind, of which no more is known."""
        votes, n = resample.Votes.of(keys, right, np.ones(len(keys))), len(keys)
        cost = np.ones(n) if tokens is None else np.asarray(tokens, dtype=float)
        return cls(
            options=votes.options, right=votes.right, kind=np.zeros(n, dtype=np.int64), tokens=cost, trust=np.ones(n), evidence=np.zeros(n)
        )

    def votes(self, weights: Floats | None = None) -> resample.Votes:
        return resample.Votes(self.options, self.right, self.trust, weights)

    def prompt(self, kind: int) -> float:
        """Tokens of a kind's prompt; 0 where they are not known."""
        return self.opening[kind] if kind < len(self.opening) else 0.0

    def paid(self, orders: Ints) -> Floats:
        """Tokens up to each place of each order, prompts with them. Shape [m, n]."""
        cost = self.tokens[orders]
        for kind, prompt in enumerate(self.opening):
            own = self.kind[orders] == kind
            some = np.flatnonzero(own.any(axis=1))
            cost[some, own[some].argmax(axis=1)] += prompt
        return np.cumsum(cost, axis=1)


@dataclass(frozen=True, slots=True)
class Told:
    """What a policy came to, the mean over the orders: chance of being right, samples and tokens, at each of its settings."""

    right: Floats
    samples: Floats
    tokens: Floats


def _stopped(deck: Deck, orders: Ints, won: Floats, at: Sequence[Ints]) -> Told:
    """Of stops after the sample `at[s]` of each order, for each setting s; `won` is whether the choice is right there. Shape [m, n]."""
    rows, spent = np.arange(len(orders)), deck.paid(orders)
    told = [[won[rows, end].mean(), end.mean() + 1, spent[rows, end].mean()] for end in at]
    return Told(*(np.array([one[i] for one in told]) for i in range(3)))


def fixed(deck: Deck, orders: Ints, ns: Sequence[int], weights: Floats | None = None) -> Told:
    """A vote of n samples, for each n."""
    votes = deck.votes(weights)
    return _stopped(deck, orders, resample.elected(votes, votes.race(orders)), [np.full(len(orders), n - 1) for n in ns])


def cisc(deck: Deck, orders: Ints, ns: Sequence[int], temperature: float = 0.1) -> Told:
    """Confidence-informed self-consistency: the softmax over the n samples scales all weights alike, so it may be left out."""
    return fixed(deck, orders, ns, np.exp((deck.trust - deck.trust.max()) / temperature))


def deepconf(deck: Deck, orders: Ints, ns: Sequence[int], top: float = 0.5) -> Told:
    """Of n samples the surest share `top` votes, weighted by trust."""
    won = np.zeros((len(orders), len(deck.options)))
    for n in ns:
        some = orders[:, :n]
        trust = np.where(deck.options[some] >= 0, deck.trust[some], -1.0)
        least = -np.sort(-trust, axis=1)[:, max(1, round(top * n)) - 1, None]
        cast = np.where((trust >= least) & (trust >= 0), trust, 0.0)
        race = (deck.options[some][:, :, None] == np.arange(len(deck.right))) * cast[:, :, None]
        won[:, n - 1] = resample.elected(deck.votes(), race.sum(axis=1, keepdims=True))[:, 0]
    return _stopped(deck, orders, won, [np.full(len(orders), n - 1) for n in ns])


def adaptive(deck: Deck, orders: Ints, thresholds: Sequence[float], most: int) -> Told:
    """Adaptive-Consistency, of at most `most` samples."""
    votes, some = deck.votes(), orders[:, :most]
    race = votes.race(some)
    sure = resample.assured(race)
    return _stopped(deck, some, resample.elected(votes, race), [_first(sure > threshold) for threshold in thresholds])


def early(deck: Deck, orders: Ints, windows: Sequence[int], most: int) -> Told:
    """Early-stopping self-consistency, of at most `most` samples; the answer is the vote of all that were drawn."""
    votes, some = deck.votes(), orders[:, :most]
    said = deck.options[some]
    at = []
    for w in windows:
        whole = said[:, : most // w * w].reshape(len(said), -1, w)
        agreed = (whole == whole[:, :, :1]).all(axis=2) & (whole[:, :, 0] >= 0)
        ends = np.zeros(said.shape, dtype=bool)
        ends[:, w - 1 : most // w * w : w] = agreed
        at.append(_first(ends))
    return _stopped(deck, some, resample.elected(votes, votes.race(some)), at)


def _first(ends: NDArray[np.bool_]) -> Ints:
    """Where each row ends, at the last place if nowhere before."""
    ends = ends.copy()
    ends[:, -1] = True
    found: Ints = ends.argmax(axis=1)
    return found


@dataclass(eq=False, slots=True)
class Mind:
    """A belief, and what it has thought of already: equal states come back again and again, at any price."""

    belief: Belief
    rng: np.random.Generator
    known: dict[bytes, Floats] = field(default_factory=dict)

    def gains(self, seen: Seen) -> Floats:
        """As :func:`pondera.allocate.posterior.gains` of KS."""
        states = np.concatenate([seen.votes, seen.evidence[:, None]], axis=1)
        order = np.lexsort([*(-seen.evidence[None]), *(-seen.votes.transpose(1, 0, 2))])  # which answer is which does not matter
        states = np.take_along_axis(states, order[:, None], axis=2)
        names = [row.tobytes() + quiet.tobytes() for row, quiet in zip(states, seen.silent, strict=True)]
        new = list({name: i for i, name in enumerate(names) if name not in self.known}.values())
        if new:
            width = max(1, int((states[new, :-1].sum(axis=1) > 0).sum(axis=1).max()))
            some = Seen(states[new, :-1, :width], seen.silent[new], states[new, -1, :width])
            self.known |= zip((names[i] for i in new), gains(self.belief, some, KS, self.rng), strict=True)
        return np.array([self.known[name] for name in names])


@dataclass(frozen=True, slots=True)
class Ends:
    """How `worth` ended in each order: the chance that its choice is right and the one that it gave that choice, samples of each kind and
    tokens, and the chance that it gave its choice after its first round. Shapes [m], [m], [m, kinds], [m] and [m]."""

    right: Floats
    chance: Floats
    hands: Ints
    tokens: Floats
    first: Floats


def pooled(ends: Sequence[Ends], part: str) -> Floats:
    """One part of how all questions ended, order by order. Shape [questions x m] or, of `hands`, with a column for each kind."""
    return np.concatenate([getattr(one, part) for one in ends])


def worth(
    deck: Deck, orders: Ints, prices: Sequence[float], most: int, mind: Mind, together: float = 0.0, costs: Sequence[float] = ()
) -> Told:
    """By the posterior: `prices` are those of a token, where a right answer is worth 1. See :func:`ends`."""
    told = [ends(deck, orders, price, most, mind, together, costs) for price in prices]
    means = [(one.right.mean(), one.hands.sum(axis=1).mean(), one.tokens.mean()) for one in told]
    return Told(*(np.array([one[i] for one in means]) for i in range(3)))


def ends(
    deck: Deck, orders: Ints, price: float, most: int, mind: Mind, together: float = 0.0, costs: Sequence[float] = (), kinds: int = 0
) -> Ends:
    """By the posterior, at one price.

    A kind's next samples are those of its own that come next in the order, at most `most` of all; they are drawn one by one, or the share
    `together` of the number that pays best side by side, ROUND at most. What one costs is expected to be as many tokens as those so far had
    in the mean, `costs[kind]` among them (the deck's own mean where they are not given). `hands` has a column for each of `kinds`, or of
    the deck's.
    """
    own, rows = np.unique(deck.kind), np.arange(len(orders))
    queues = [np.array([row[deck.kind[row] == kind] for row in orders]) for kind in own]
    spent = [np.cumsum(np.pad(deck.tokens[queue], ((0, 0), (1, 0))), axis=1) for queue in queues]
    usual = np.array([costs[kind] if costs else deck.tokens[deck.kind == kind].mean() for kind in own])
    hands, first = np.zeros((len(orders), len(own)), dtype=np.int64), np.full(len(orders), np.nan)
    going = rows
    while len(going):
        seen, held = dealt(deck, [queue[going] for queue in queues], hands[going]), hands[going]
        drawn = held.sum(axis=1)
        begun = (drawn > 0) & np.isnan(first[going])
        first[going[begun]] = chances(mind.belief, seen).max(axis=1, initial=0.0)[begun]
        each = (usual + np.stack([paid[going, held[:, a]] for a, paid in enumerate(spent)], axis=1)) / (held + 1)
        left = np.minimum(np.array([queue.shape[1] for queue in queues]) - held, most - drawn[:, None])
        net = mind.gains(seen) - price * each[:, :, None] * np.array(KS)
        net = np.where(np.array(KS) <= left[:, :, None], net, -np.inf).reshape(len(going), -1)
        best, net = net.argmax(axis=1), net.max(axis=1)
        more = np.isfinite(net) & ((net > 0) | (drawn == 0))  # an answer is owed
        kind, k = best // len(KS), np.array(KS)[best % len(KS)]
        hands[going[more], kind[more]] += np.clip(np.ceil(together * k[more]), 1, ROUND).astype(np.int64)
        going = going[more]
    right, chance = choice(mind.belief, deck, dealt(deck, queues, hands))
    each = [paid[rows, hands[:, a]] + (hands[:, a] > 0) * deck.prompt(int(own[a])) for a, paid in enumerate(spent)]
    tokens: Floats = np.sum(each, axis=0)
    whole = np.zeros((len(orders), max(kinds, len(own))), dtype=np.int64)
    whole[:, own if kinds else np.arange(len(own))] = hands
    return Ends(right, chance, whole, tokens, np.nan_to_num(first))


def choice(belief: Belief, deck: Deck, seen: Seen) -> tuple[Floats, Floats]:
    """The chance that the likeliest answer is right (equals each as often), and the one that the belief gives it. Shapes [m]."""
    held = chances(belief, seen)
    chance = held.max(axis=1, initial=0.0)
    top = (held == chance[:, None]) & (held > 0)
    return (top & deck.right).sum(axis=1) / np.maximum(top.sum(axis=1), 1), chance


def dealt(deck: Deck, queues: Sequence[Ints], hands: Ints) -> Seen:
    """What is seen of the first `hands[row, kind]` samples of each kind."""
    answers = len(deck.right)
    votes, silent = np.zeros((len(hands), len(queues), answers)), np.zeros((len(hands), len(queues)))
    evidence = np.zeros((len(hands), answers))
    for a, queue in enumerate(queues):
        shown = np.arange(queue.shape[1]) < hands[:, a, None]
        said = deck.options[queue]
        hits = (said[:, :, None] == np.arange(answers)) & shown[:, :, None]
        votes[:, a] = hits.sum(axis=1)
        silent[:, a] = ((said < 0) & shown).sum(axis=1)
        evidence += (hits * deck.evidence[queue][:, :, None]).sum(axis=1)
    return Seen(votes, silent, evidence / np.maximum(votes.sum(axis=1), 1.0))
