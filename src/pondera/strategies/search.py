"""What the searches over steps share: growing many nodes at once, ranking them, and how a search ends.

A search keeps one table, `scores`: what the verifier thinks of each node that it has seen. The ended paths in it are the votes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from pondera.errors import BRANCH_ERRORS, BadInput, BranchesFailed, Unaffordable
from pondera.ops import Expand, Key, Offer, both
from pondera.strategies.steps import END, ENDING, KEEP, choose, closed, finish, fresh, said, steps, stops
from pondera.strategies.vote import elect, standings
from pondera.thought import Thought

Scores = dict[Thought, float]


def at_least(least: int, **given: int) -> None:
    """Raises BadInput for an argument below `least`."""
    for name, value in given.items():
        if value < least:
            raise BadInput(f"{name}={value} leaves nothing to search: give {least} or more.")


def ranked(nodes: Iterable[Thought], scores: Mapping[Thought, float]) -> list[Thought]:
    """The nodes, highest score first; ties go by what they say."""
    return sorted(nodes, key=lambda node: (-scores[node], said(node)))


def distinct(nodes: Iterable[Thought]) -> list[Thought]:
    """Without open paths that say what another one says: to go on with both would pay twice. Ended ones are votes, and all stay."""
    first: dict[str, Thought] = {}
    return [node for node in nodes if node.done or first.setdefault(said(node), node) is node]


def spare(scores: Scores) -> int:
    """Tokens that growing leaves alone: for an answer by force, and as long as no path has ended for one to come to its end."""
    return KEEP if any(node.done for node in scores) else KEEP + END


async def grow(scores: Scores, shares: Mapping[Thought, int], step: int, temperature: float, over: str, even: bool) -> list[Thought]:
    """So many next steps of each node, asked side by side, the children of one node in one request.

    A node that cannot be paid any further stands for itself; one whose children all failed is gone.
    """
    keep = spare(scores)

    async def one(node: Thought, n: int) -> list[Thought]:
        try:
            return await steps(node, n, step=step, temperature=temperature, keep=keep, over=over, even=even)
        except Unaffordable:
            return [node]
        except BRANCH_ERRORS:  # recorded by the runtime
            return []

    return [child for kids in await both(*(one(node, n) for node, n in shares.items())) for child in kids]


async def rollout(node: Thought, temperature: float, room: int, say: str = "") -> Thought:
    """A path to its end, in at most `room` tokens and then a forced answer. Raises BranchesFailed for one without end."""
    if node.done and not say:
        return await finish(node, ENDING)  # itself, unless all that it did was think
    say = say or fresh(node)
    [end] = await Expand(node, say=say, max_tokens=room, temperature=temperature, stop=stops(node, say), keep=KEEP)
    end = closed(end)
    answer = end if end.finish == "loop" else await finish(end, ENDING)
    if not answer.done:
        raise BranchesFailed("The path comes to no end: it goes on, or says the same over and over.")
    return answer


async def tell(scores: Scores, front: Sequence[Thought], ended: Sequence[Thought] | None = None) -> bool:
    """Offer the best so far, and say whether it is settled: no answer could overtake it if all of `front` ended as they stand, and agreed.

    The best is the vote of the ended paths (all in `scores` unless some are given), before there is one the first of the open ones.
    """
    votes = list(ended or (node for node in scores if node.done))
    if not votes:
        if front:
            await Offer(front[0])
        return False
    keys, weights = await Key(tuple(votes)), [max(0.0, scores[node]) for node in votes]
    await Offer(*elect(votes, keys, weights))
    first, second = [*(share for _, share in standings(votes, keys, weights)), 0.0, 0.0][:2]
    lead, rest = (first - second) * math.fsum(weights), math.fsum(max(0.0, scores.get(node, 1.0)) for node in front)
    return lead > rest and ended != []


async def settle(scores: Scores, front: Sequence[Thought], ended: Sequence[Thought] = ()) -> Thought:
    """The weighted vote of the ended paths (all in `scores` unless they are given); without any the best open one goes to its end."""
    votes = ended or [node for node in scores if node.done] or await conclude(front)
    middling = fmean(scores.values()) if scores else 0.5
    known = [next((scores[step] for step in reversed(node.path) if step in scores), middling) for node in votes]
    winner, share = await choose(votes, known)
    await Offer(winner, share)
    return winner


async def conclude(front: Sequence[Thought]) -> list[Thought]:
    """The end of the first path, or forced answers of the first few where it has none or cannot be paid."""
    try:
        return [await rollout(front[0], 0.0, END)]
    except BRANCH_ERRORS:  # recorded by the runtime
        return await both(*(finish(node, ENDING) for node in front[: KEEP // ENDING]))
