"""What strategies that think step by step have in common: the next steps, what they are worth, how a path ends, and which end is chosen.

A step ends at a blank line, or at `step` tokens where it would go on for ever. An even one ends at `step` tokens alone, so that a level
waits for no straggler: a pass over the one branch that is left costs an engine nearly as much as one over many.

What `keep` has set aside brings a path to its end where the budget ends midway; where that is too little, its answer is forced (`finish`),
which costs a few tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate

from pondera.errors import BadInput, Unaffordable
from pondera.ops import Expand, Key, Score, Until, both
from pondera.repetition import loop
from pondera.strategies.think import CHAIN, FENCE, PROGRAM, UNFENCE, run
from pondera.strategies.vote import elect, filled
from pondera.thought import CLOSE, Thought, dialogue, musing

ANSWER = "\n\nThe final answer is \\boxed{"
ENDING = 32  # tokens at most of a forced answer
KEEP = 2 * ENDING  # tokens that a search leaves for forcing its answer
END = 256  # tokens that it leaves besides, for one path to come to its end: an answer forced midway is rarely right


def fresh(node: Thought, over: str = "chains") -> str:
    """What the user says before the first step, and before no other. Raises BadInput where `over` is no sort of path."""
    if over not in ("chains", "programs"):
        raise BadInput(f"over={over!r}: the paths of a search are 'chains' or 'programs'; give one of them.")
    return "" if node.parent else CHAIN if over == "chains" else PROGRAM


async def steps(node: Thought, n: int, *, step: int, temperature: float, keep: int, over: str = "chains", even: bool) -> list[Thought]:
    """`n` next steps of at most `step` tokens, the first ones of a chain or a program; a program that ends is run.

    An `even` step has `step` tokens, wherever that leaves it; what ends a program may then lie in two of them.

    A path that says step by step what it has said before is out: its model is very sure of it, and a search would follow it for ever.

    Raises Unaffordable where the budget has no more than `keep` tokens for them, BadInput where `over` is no sort of path.
    """
    say = fresh(node, over)
    force, stop = FENCE if say == PROGRAM else "", stops(node, say)
    until: Until = step if even else "step"
    grown = await Expand(node, n, until, say=say, force=force, max_tokens=step, temperature=temperature, stop=stop, keep=keep)
    alive = [child for child in map(closed, grown) if child.finish != "loop" and (child.done or not loop(said(child)))]
    if any(unanswered(child) for child in alive):  # it would be a vote for nothing
        return await both(*(answered(child, step) for child in alive))
    return alive


def said(node: Thought) -> str:
    """What the path of a node says in its turn, its thinking too."""
    return "".join(step.thinking + step.text for step in node.turn)


def unanswered(node: Thought) -> bool:
    """Whether the model has ended and not answered: inside its thought, or with a program that was not run."""
    return node.done and (inside(node) or coded(node))


async def answered(child: Thought, max_tokens: int) -> Thought:
    """A step, or the answer of one at which the model has ended without."""
    return await finish(child, max_tokens) if unanswered(child) else child


def coded(node: Thought) -> bool:
    """Whether a path is a program being written."""
    return node.turn[0].said == PROGRAM


def closed(node: Thought) -> Thought:
    """A program whose end lies in two steps has ended too, which no model sees that is asked for the second."""
    return replace(node, finish="done") if not node.done and coded(node) and UNFENCE in said(node) else node


def stops(node: Thought, say: str) -> tuple[str, ...]:
    """What ends the program that goes on at a node, or that `say` asks for there."""
    return (UNFENCE,) if say == PROGRAM or (not say and coded(node)) else ()


async def worth(nodes: Sequence[Thought], by: str) -> list[float]:
    """What a verifier thinks of each node; no opinion is the mean of the others', and not a low one."""
    return filled(await Score(tuple(nodes), by), 0.5)


async def choose(leaves: Sequence[Thought], scores: Sequence[float]) -> tuple[Thought, float]:
    """The answer that weighs most among ended paths (weighted best-of-N), and its share of all weight."""
    keys = await Key(tuple(leaves))
    return elect(list(leaves), keys, [max(0.0, score) for score in scores])


def inside(node: Thought) -> bool:
    """Whether a path stands inside a thinking model's thought, which has begun and is not closed."""
    return musing(dialogue(node)[1])


def ending(node: Thought) -> str:
    """What forces a path's answer: a thought or a program in which the path stands is closed first."""
    return f"\n{CLOSE}{ANSWER}" if inside(node) else f"{UNFENCE}{ANSWER}" if coded(node) else ANSWER


def length(node: Thought) -> int:
    """Tokens that were generated in the turn that a node ends."""
    return sum(one.tokens for one in node.turn)


async def finish(node: Thought, max_tokens: int) -> Thought:
    """The answer of a path that goes no further.

    The node itself where its model has answered. A program is run. A thought that its model has ended is closed, and at most `max_tokens`
    of answer follow; whatever was cut has its answer forced, which is whole where its box is closed: what was cut then is talk about it.
    Raises CallFailed for a program that fails.
    """
    if node.done and inside(node):
        with suppress(Unaffordable):
            [node] = await Expand(node, force=f"\n{CLOSE}\n\n", max_tokens=max_tokens, temperature=0.0, keep=ENDING)
    if node.done and not inside(node):
        return await run(node) if coded(node) else node
    [answer] = await Expand(node, say=fresh(node), force=ending(node), max_tokens=ENDING, temperature=0.0, stop=("\n",))
    return replace(answer, finish="done") if answer.finish == "length" and boxed(answer.text) else answer


def boxed(text: str) -> bool:
    """Whether the first box of a text is closed."""
    depths = accumulate(((char == "{") - (char == "}") for char in text.partition("\\boxed{")[2]), initial=1)
    return 0 in depths
