r"""The tree of a Monte Carlo tree search: where to go down, and what is known below each node.

Of the children i of a node with N visits, n_i of them theirs, a round goes down to the one with the greatest

.. math:: Q_i + c \sqrt{\ln N / n_i} \quad\text{(UCT)}  \qquad\qquad  Q_i + c \, P_i \sqrt{N} / (1 + n_i) \quad\text{(PUCT)}

UCT: Kocsis and Szepesvari 2006; a child that was never visited comes first. PUCT: AlphaZero (Silver et al. 2017, arXiv 1712.01815), here
with P the softmax of each step's mean log-probability; a child that was never visited takes its parent's Q. Q is the mean of what was
found below a node, on the scale from the worst to the best found in this tree, as in MuZero (Schrittwieser et al. 2019, arXiv
1911.08265): verifiers of steps differ little, and c should not have to know by how much. A visit in flight counts as one that found the
worst (virtual loss: Chaslot, Winands and van den Herik 2008), so that workers spread out.

A node is closed when nothing is to be found below it any more: it ended, it failed, or all its children are closed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean

from pondera.ops import Key
from pondera.strategies.search import Scores, distinct
from pondera.strategies.steps import said
from pondera.thought import Thought


def uct(q: float, n: int, total: int, c: float) -> float:
    """How much a child with mean value `q` and `n` of its parent's `total` visits deserves the next one."""
    return q + c * math.sqrt(math.log(total) / n) if n else math.inf


def puct(q: float, n: int, total: int, p: float, c: float) -> float:
    """The same with the prior probability `p` of the child."""
    return q + c * p * math.sqrt(total) / (1 + n)


def likelihood(step: Thought) -> float:
    """A step's mean log-probability; 0 where the model does not tell."""
    return fmean(step.logprobs) if step.logprobs else 0.0


def priors(kids: Sequence[Thought]) -> list[float]:
    """The softmax of the steps' mean log-probabilities."""
    odds = [math.exp(likelihood(kid)) for kid in kids]
    return [one / math.fsum(odds) for one in odds]


@dataclass(eq=False, slots=True)
class Tree:
    """`found` holds the ends of all looks below each node, `scores` what each end is worth, `flight` the visits under way."""

    root: Thought
    c: float
    prior: bool
    rounds: int = 0
    kids: dict[Thought, list[Thought]] = field(default_factory=dict)
    found: defaultdict[Thought, list[Thought]] = field(default_factory=lambda: defaultdict(list))
    scores: Scores = field(default_factory=dict)
    flight: Counter[Thought] = field(default_factory=Counter)
    closed: set[Thought] = field(default_factory=set)
    voters: list[Thought] = field(default_factory=list)

    def visits(self, node: Thought) -> int:
        return len(self.found[node]) + self.flight[node]

    def mean(self, node: Thought) -> float:
        """What was found below a node on the tree's scale of 0 to 1, visits in flight counted as 0; its parent's where there is nothing."""
        if not self.visits(node):
            return 0.5 if node is self.root or node.parent is None else self.mean(node.parent)
        low, high = min(self.scores.values(), default=0.0), max(self.scores.values(), default=0.0)
        each = [(self.scores[end] - low) / (high - low) if high > low else 0.5 for end in self.found[node]]
        return math.fsum(each) / self.visits(node)

    def descend(self) -> Thought:
        """The leaf that deserves the next visit: of the open nodes, level by level, the most promising. Ties go by what they say."""
        node = self.root
        while kids := self.kids.get(node):
            weight = dict(zip(kids, priors(kids), strict=True))
            live = [kid for kid in kids if kid not in self.closed]
            node = max(live, key=lambda kid: (self.urge(kid, self.visits(node), weight[kid]), weight[kid], said(kid)))
        return node

    def urge(self, kid: Thought, total: int, p: float) -> float:
        q, n = self.mean(kid), self.visits(kid)
        return puct(q, n, total, p, self.c) if self.prior else uct(q, n, total, self.c)

    @contextmanager
    def visiting(self, node: Thought) -> Iterator[None]:
        """A visit in flight, on all of the path."""
        self.flight.update(node.path)
        try:
            yield
        finally:
            self.flight.subtract(node.path)

    def add(self, node: Thought, grown: Sequence[Thought]) -> list[Thought]:
        """The children that are new; two workers that met here may both bring some."""
        known = self.kids.get(node, [])
        fresh = distinct([*known, *grown])[len(known) :]
        self.kids[node] = [*known, *fresh]
        for kid in [kid for kid in fresh if kid.done] or [node]:
            self.close(kid)
        return fresh

    def close(self, node: Thought) -> None:
        """Nothing more is to be found here, unless another worker has brought children."""
        if any(kid not in self.closed for kid in self.kids.get(node, ())):
            return
        self.closed.add(node)
        if node is not self.root and node.parent is not None:
            self.close(node.parent)

    def front(self) -> list[Thought]:
        """The leaves that have not ended, the most promising first, those that failed last."""
        nodes = [self.root, *(kid for kids in self.kids.values() for kid in kids)]
        leaves = [node for node in nodes if not node.done and not self.kids.get(node)]
        return sorted(leaves, key=lambda node: (node in self.closed, -self.mean(node), said(node))) or [self.root]

    def learn(self, node: Thought, end: Thought, score: float | None) -> None:
        """What a look at `node` found goes to all of its path; no opinion is the mean of all others."""
        self.scores[end] = score if score is not None else fmean(self.scores.values()) if self.scores else 0.5
        for step in node.path:
            self.found[step].append(end)

    async def agree(self, end: Thought) -> float:
        """Worth by vote, of all ends anew: the share of the others that say the same, one for and one against added."""
        self.voters.append(end)
        ends = tuple(self.voters)
        keys = await Key(ends)
        times = Counter(key for key in keys if key is not None)
        shares = {one: times[key] / (1 + len(ends)) if key is not None else 0.0 for one, key in zip(ends, keys, strict=True)}
        self.scores |= {one: share for one, share in shares.items() if one in self.scores}
        return shares[end]
