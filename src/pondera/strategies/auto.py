r"""The compute-optimal mind: how to think, how long, and when to stop, decided for each question from what it shows.

After each round of samples a posterior over the answers (:mod:`pondera.allocate.posterior`) says how likely the best of them is right, and
by how much k more chains or k more programs are expected to raise that. With w the tokens that a right answer is worth and c those that a
sample costs, what pays best is

.. math:: \arg\max_{a, k} \; w \, \mathrm{gain}_a(k) - k \, c_a

and when nothing pays the run stops: settled early on an easy question, given up early on one where answers are scattered, and spent where
the answer moves (Snell et al. 2024, arXiv 2408.03314; Damani et al. 2024, arXiv 2410.04707). Half of the k that pay best are drawn side
by side, since what they say may change the plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pondera.errors import BRANCH_ERRORS, BadInput, BranchesFailed, PonderaError, Unaffordable
from pondera.ops import Key, Left, Offer, Rng, Score
from pondera.strategies.think import chains, programs
from pondera.strategies.vote import surest
from pondera.thought import Thought

if TYPE_CHECKING:
    from pondera.allocate.decide import Choice

WORTH = {"low": 4_000.0, "medium": 16_000.0, "high": 64_000.0, "max": 1e9}  # tokens that a right answer is worth
SORTS = {"chains": (chains, 250.0), "programs": (programs, 120.0)}  # and the tokens of one, before any was seen
OWED = 8  # samples that may come to nothing before a question is given up, whatever it is worth


async def auto(
    root: Thought,
    *,
    effort: str = "medium",
    worth: float = 0.0,
    most: int = 64,
    by: str = "",
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Thought:
    """As many chains and programs as the question needs and the answer is worth; the likeliest answer.

    `worth` is what a right answer is worth in tokens, or `effort` says it in a word: "low", "medium", "high" or "max". At `most` samples
    it ends. The verifier `by` judges each sample by itself, its score being the chance that it is right.

    Paper: Snell et al. 2024 (arXiv 2408.03314).
    """
    from pondera.allocate.decide import Pool, decide  # which load numpy
    from pondera.allocate.posterior import Belief

    if effort not in WORTH or not worth >= 0 or most < 1:
        raise BadInput(f"effort={effort!r}, worth={worth}, most={most}: an effort is one of {', '.join(WORTH)}; the others are above 0.")
    belief, value, rng = Belief(), worth or WORTH[effort], await Rng()
    pool, nodes = Pool((), (), (), [0] * len(SORTS)), list[Thought]()
    lost: PonderaError = BranchesFailed("No sample came to anything.")
    begun, chosen = (await Left()).seconds, root
    while True:
        price, left = costs(nodes, pool.kinds), (await Left()).seconds
        room = min(most - sum(pool.asked), in_time(nodes, begun, left, max(price)))
        choice = decide(belief, pool, value, price, room, rng.getrandbits(63))
        if nodes:
            await Offer(chosen, pool.best(belief)[1], told(choice, value))
        owed = not nodes and sum(pool.asked) < OWED
        if choice is None or not (choice.pays or owed):
            break
        n, grown = math.ceil(choice.k / 2), list[Thought]()
        try:
            grown = await list(SORTS.values())[choice.kind][0](root, n, temperature, max_tokens)
        except Unaffordable:
            if not nodes:
                raise
            break
        except BRANCH_ERRORS as error:  # recorded by the runtime
            lost = error
        nodes += grown
        asked = [count + n * (kind == choice.kind) for kind, count in enumerate(pool.asked)]
        scores = await Score(tuple(nodes), by) if by and nodes else [None] * len(nodes)
        keys = await Key(tuple(nodes)) if nodes else []
        pool = Pool([*pool.kinds, *[choice.kind] * len(grown)], keys, scores, asked)
        key = pool.best(belief)[0]
        chosen = surest([node for node, own in zip(nodes, keys, strict=True) if own == key]) if nodes else root
    if not nodes:
        raise lost
    return chosen


def costs(nodes: Sequence[Thought], kinds: Sequence[int]) -> list[float]:
    """Tokens of one more sample of each sort: the mean of those so far, what was expected being one of them."""
    spent = [sum(step.tokens for step in node.path) for node in nodes]
    each = [[tokens for tokens, own in zip(spent, kinds, strict=True) if own == kind] for kind in range(len(SORTS))]
    return [(sum(some) + expected) / (len(some) + 1) for some, (_, expected) in zip(each, SORTS.values(), strict=True)]


def in_time(nodes: Sequence[Thought], begun: float, left: float, price: float) -> int:
    """How many more samples of `price` tokens the seconds that are left allow, at the speed so far."""
    spent = sum(step.tokens for node in nodes for step in node.path)
    return int(left * spent / (begun - left) / price) if spent and math.isfinite(left) and begun > left else 1 << 30


def told(choice: Choice | None, worth: float) -> str:
    """What is done next and why, in words."""
    if choice is None:
        return "end: no more samples are allowed, or there is no time for one"
    sort = list(SORTS)[choice.kind].removesuffix("s" if choice.k == 1 else "")
    what = f"{choice.k} {sort}: {choice.gain:+.1%}, worth {choice.gain * worth:,.0f} tokens, for {choice.price:,.0f}"
    return what if choice.pays else f"end: at best {what}"
