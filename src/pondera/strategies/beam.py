r"""Search over steps, level by level: beam search, diverse verifier tree search, and reward balanced search.

    beam    the `width` best of all children of the beam go on (with lookahead: Snell et al. 2024, arXiv 2408.03314)
    dvts    `trees` beams of width 1 that never meet, so that one early favourite cannot fill the beam (Beeching, Tunstall and Rush 2024,
            "Scaling test-time compute with open models")
    rebase  every node goes on, with children in proportion to exp(score / balance): REBASE (Wu et al. 2024, arXiv 2408.00724),

.. math:: n_j = B \, e^{r_j / T} / \sum_k e^{r_k / T}

with B the places that no ended path holds yet, rounded so that the sum is B. In all three an ended path keeps its place and is a vote,
also where the verifier would have pruned it: it is paid for. The answer is the vote of the ended paths, weighted by the verifier. Beam
search and REBASE end as soon as the open paths could not overtake it at what the verifier thinks of them now.

Children of one node are asked in one request and a path is continued where it stands, so the cache holds all but what is new.

With `over="programs"` a path is a program instead of a chain of thought: its steps are the parts between blank lines, and one that ends is
run in the sandbox (PAL, Gao et al. 2022, arXiv 2211.10435); one that fails is out.

With `even` every step has `step` tokens, and ends at no blank line: no level waits for its longest step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pondera.errors import BRANCH_ERRORS, BadInput
from pondera.ops import both
from pondera.strategies.search import Scores, at_least, distinct, grow, ranked, settle, spare, tell
from pondera.strategies.steps import steps, worth
from pondera.thought import Thought


async def beam(
    root: Thought,
    *,
    width: int = 2,
    fanout: int = 2,
    depth: int = 24,
    step: int = 96,
    by: str = "confidence",
    temperature: float = 0.8,
    over: str = "chains",
    even: bool = False,
    lookahead: int = 0,
) -> Thought:
    """Beam search over steps: of `fanout` next steps for each of `width` paths the verifier `by` keeps the best.

    `step` is in tokens, `depth` in steps; `over` is "chains" or "programs". With `lookahead` each candidate is judged by where that many
    greedy steps lead it.

    Paper: Snell et al. 2024 (arXiv 2408.03314).
    """
    at_least(1, width=width, fanout=fanout, depth=depth, step=step)
    at_least(0, lookahead=lookahead)
    scores: Scores = {root: 0.0}
    front = [root]
    for level in range(depth):
        pool = distinct(await grow(scores, dict.fromkeys(front, fanout if level else width * fanout), step, temperature, over, even))
        new = [node for node in pool if node not in scores]
        if not new:
            break
        keep = spare(scores)
        pairs = await both(*(ahead(node, lookahead, step, keep, even) for node in new))
        scores |= zip((node for node, _ in pairs), await worth([end for _, end in pairs], by), strict=True)
        best = ranked((node for node in pool if node in scores), scores)[:width]
        front = [node for node in best if not node.done]
        width -= len(best) - len(front)
        if await tell(scores, front) or not front:
            break
    return await settle(scores, front)


async def ahead(node: Thought, k: int, step: int, keep: int, even: bool) -> tuple[Thought, Thought]:
    """A node, and where `k` greedy steps lead from it: as far as they come."""
    end = node
    try:
        for _ in range(k):
            if end.done or not (grown := await steps(end, 1, step=step, temperature=0.0, keep=keep, even=even)):
                break
            end = grown[0]
    except BRANCH_ERRORS:  # recorded by the runtime; the candidate is judged by what there is
        return node, end
    return node, end


async def lookahead(
    root: Thought,
    *,
    k: int = 1,
    width: int = 2,
    fanout: int = 2,
    depth: int = 24,
    step: int = 96,
    by: str = "confidence",
    temperature: float = 0.8,
    over: str = "chains",
    even: bool = False,
) -> Thought:
    """Lookahead search: beam search whose candidates are judged by where `k` greedy steps lead them.

    Paper: Snell et al. 2024 (arXiv 2408.03314).
    """
    return await beam(
        root, width=width, fanout=fanout, depth=depth, step=step, by=by, temperature=temperature, over=over, even=even, lookahead=k
    )


async def dvts(
    root: Thought,
    *,
    trees: int = 2,
    fanout: int = 2,
    depth: int = 24,
    step: int = 96,
    by: str = "confidence",
    temperature: float = 0.8,
    over: str = "chains",
    even: bool = False,
) -> Thought:
    """Diverse verifier tree search: `trees` greedy searches, each of which takes the best of `fanout` next steps; their answers vote.

    Paper: Beeching, Tunstall and Rush 2024, "Scaling test-time compute with open models".
    """
    at_least(1, trees=trees, fanout=fanout, depth=depth, step=step)
    scores: Scores = {root: 0.0}

    async def climb(kids: Sequence[Thought]) -> Thought:
        node = root
        for _ in range(depth):
            if not (new := [kid for kid in kids if kid not in scores]):
                break  # the budget is spent, or every child failed
            scores.update(zip(new, await worth(new, by), strict=True))
            node = ranked(new, scores)[0]
            await tell(scores, ranked((seen for seen in scores if seen is not root), scores))
            if node.done:
                break
            kids = distinct(await grow(scores, {node: fanout}, step, temperature, over, even))
        return node

    first = await grow(scores, {root: trees * fanout}, step, temperature, over, even)
    tips = await both(*(climb(kids) for i in range(trees) if (kids := first[i::trees])))
    return await settle(scores, ranked((tip for tip in tips if not tip.done), scores) or [root])


async def rebase(
    root: Thought,
    *,
    width: int = 4,
    depth: int = 24,
    step: int = 96,
    by: str = "confidence",
    temperature: float = 0.8,
    over: str = "chains",
    even: bool = False,
    balance: float = 0.2,
) -> Thought:
    """Reward balanced search: `width` next steps a level, shared among all open paths by how much the verifier thinks of each.

    `balance` is the temperature of the softmax: near 0 the best path takes all, far above 1 all paths get alike.

    Paper: Wu et al. 2024 (arXiv 2408.00724).
    """
    at_least(1, width=width, depth=depth, step=step)
    if not balance > 0:
        raise BadInput(f"balance={balance} is no temperature: give a number above 0, such as 0.2.")
    scores: Scores = {root: 0.0}
    front, shares = [root], {root: width}
    for _ in range(depth):
        pool = distinct(await grow(scores, shares, step, temperature, over, even))
        new = [node for node in pool if node not in scores]
        if not new:
            break
        scores |= zip(new, await worth(new, by), strict=True)
        front = ranked((node for node in pool if not node.done), scores)
        places = width - sum(node.done for node in scores)
        if await tell(scores, front) or not front or places < 1:
            break
        given = zip(front, balanced([scores[node] for node in front], places, balance), strict=True)
        shares = {node: n for node, n in given if n}
    return await settle(scores, front)


def balanced(rewards: Sequence[float], places: int, balance: float) -> list[int]:
    """`places` shared in proportion to the softmax of the rewards, by largest remainder: the sum is kept, and ties go to the first."""
    top = max(rewards)
    odds = [math.exp((reward - top) / balance) for reward in rewards]
    exact = [places * one / math.fsum(odds) for one in odds]
    shares = [math.floor(quota) for quota in exact]
    order = sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))
    for i in order[: places - sum(shares)]:
        shares[i] += 1
    return shares
