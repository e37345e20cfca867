r"""Steps as a state space model, its posterior by particles: Puri et al. 2025 (arXiv 2502.01618).

Reasoning is sampled, not maximised: a particle is a path, the verifier's score r of its newest step is the chance that it is right so
far, and after each step n particles are drawn anew in proportion to

.. math:: w_i = e^{\operatorname{logit} r_i} = r_i / (1 - r_i)

so that paths which look worse live on now and then, and an imperfect verifier misleads less. Paths that ended stay in the draw. A sweep
ends as soon as the open ones could not overtake the answer of the ended ones at what the verifier thinks of them now.

The draw is systematic (one number u; the i-th pick lies at (u + i) / n of all weight): each path is taken floor or ceil of its expected
number of times, the draw of least variance. Particle Gibbs repeats the filter with one path of the last sweep kept alive, whatever its
weight, for others to branch off (Andrieu, Doucet and Holenstein 2010); there the other particles are drawn independently, as its proof
asks. Particles at one node are one request, and what is drawn twice shares its cache.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from pondera.ops import Rng
from pondera.strategies.search import Scores, at_least, grow, ranked, settle, tell
from pondera.strategies.steps import worth
from pondera.thought import Thought

SURE = 1e-6  # as near as a score may come to 0 or 1


async def particles(
    root: Thought,
    *,
    n: int = 4,
    depth: int = 24,
    step: int = 96,
    by: str = "confidence",
    temperature: float = 0.8,
    over: str = "chains",
    even: bool = False,
) -> Thought:
    """Particle filtering: `n` paths, drawn anew after each step by what the verifier thinks of them; their answers vote.

    `over` is "chains" or "programs", which are run when they end. An `even` step has `step` tokens and ends at no blank line, so that none
    waits for the longest.

    Paper: Puri et al. 2025 (arXiv 2502.01618).
    """
    return await gibbs(root, n=n, sweeps=1, depth=depth, step=step, by=by, temperature=temperature, over=over, even=even)


async def gibbs(
    root: Thought,
    *,
    n: int = 3,
    sweeps: int = 2,
    depth: int = 24,
    step: int = 96,
    by: str = "confidence",
    temperature: float = 0.8,
    over: str = "chains",
    even: bool = False,
) -> Thought:
    """Particle Gibbs: particle filtering repeated, with one path of the last sweep kept; the answers of all sweeps vote.

    Paper: Puri et al. 2025 (arXiv 2502.01618); Andrieu, Doucet and Holenstein 2010.
    """
    at_least(1, n=n, sweeps=sweeps, depth=depth, step=step)
    at_least(min(2, sweeps), n=n)  # one is the kept path
    rng = await Rng()
    scores: Scores = {root: 0.0}
    votes: list[Thought] = []
    swarm: list[Thought] = []
    trail: tuple[Thought, ...] = ()
    for _ in range(sweeps):
        free, seen = n - bool(trail), len(scores)
        swarm = [root] * free
        for level in range(1, depth + 1):
            grown = await grow(scores, Counter(node for node in swarm if not node.done), step, temperature, over, even)
            new = [node for node in grown if node not in scores]
            if not new:
                break
            scores |= zip(new, await worth(new, by), strict=True)
            swarm = ranked([node for node in swarm if node.done] + grown, scores)
            left = [node for node in swarm if not node.done]
            if await tell(scores, left, [node for node in swarm if node.done]) or not left:
                break  # the weights speak for themselves
            pool = ranked([*swarm, *(trail[level : level + 1] or trail[-1:])], scores)
            weights = odds([scores[node] for node in pool])
            swarm = rng.choices(pool, weights, k=free) if trail else [pool[i] for i in systematic(weights, free, rng.random())]
        ended = [node for node in swarm if node.done]
        if len(scores) == seen or not (ended or trail):
            break  # nothing could be paid, or nothing ends
        if ended:  # the kept path votes beside others, and is no majority of its own
            ended += trail[-1:]
            votes += ended
            [kept] = rng.choices(ended, odds([scores[node] for node in ended]))
            trail = tuple(node for node in kept.path if node in scores)
    front = dict.fromkeys(node for node in swarm if not node.done)
    return await settle(scores, ranked(front, scores), votes)


def odds(scores: Sequence[float]) -> list[float]:
    """The weights of particles: r / (1 - r), finite and above 0."""
    held = [min(max(score, SURE), 1 - SURE) for score in scores]
    return [score / (1 - score) for score in held]


def systematic(weights: Sequence[float], n: int, u: float) -> list[int]:
    """Indices of `n` picks in proportion to weights, by one uniform number 0 <= u < 1: each floor or ceil of its expected times."""
    edges = list(accumulate(weights))
    marks = ((u + i) / n * edges[-1] for i in range(n))
    return [min(bisect_right(edges, mark), len(edges) - 1) for mark in marks]
