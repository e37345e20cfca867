r"""Thoughts that are given up too early, and those that go on too long: found, measured, and the first of them mended.

A thought ends where the model turns to another one ("Alternatively", "Wait", "Let me try another way" at the beginning of a sentence). With
:math:`T_i` the tokens of reply i and :math:`\hat T_i` those until the end of its first thought that is right,

    underthinking  :math:`\frac{1}{N} \sum_i (1 - \hat T_i / T_i)` over wrong replies, 0 for one without a right thought
                   (Wang et al. 2025, arXiv 2501.18585): a right thought was there, and was left
    efficiency     :math:`\frac{1}{N} \sum_i \hat T_i / T_i` over all replies, 0 for one without a right thought
                   (Chen et al. 2024, arXiv 2412.21187): what is missing to 1 in right replies was thought after the answer was found

The mend is a penalty on switching thoughts (TIP, of the first paper): the logits of words that begin a new thought are lowered by alpha
while the thought is younger than beta tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean

from pondera.errors import BRANCH_ERRORS, BadInput, Unaffordable, Unsupported
from pondera.ops import Expand, Offer
from pondera.strategies.steps import ENDING, KEEP, finish, fresh, length
from pondera.thought import CLOSE, Thought

PENALISED = ("Alternatively", "Wait", "Another", "Hmm")
ONWARD = "Going on with this approach, "  # what a step begins with instead

_SWITCH = re.compile(
    r"""(?:^|(?<=[.!?:\n])|(?<=[.!?]["')*]))[ \t>*_#-]*        # where a sentence begins
    ((?:(?:but|so|hmm+|ok(?:ay)?|no|now|well|actually|oh)\b[,.]?\ +){0,2}
     (?:wait\b(?!\ +(?:for|till|until|times?|lists?|staff|is|was)\b)|hold\ on\b|on\ second\ thoughts?\b|alternatively\b|hmm+\b
       |another\ (?:approach|way|method|idea|possibility|thought|angle|strategy|option)\b
       |let(?:\ me|'s|\ us)\ (?:try|think\ of|look\ for|consider|use|take)\ (?:an?other|an?\ (?:different|new|alternative))\b
       |let\ me\ (?:try|re-?think|re-?consider|start\ over|start\ again|approach\ (?:this|it))\b
       |(?:maybe|perhaps)\ (?:i|we)\ (?:should|could|can)\ (?:try|instead)\b|instead\ of\ (?:that|this)\b
       |a\ different\ (?:approach|way|method)\b))""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_INK = re.compile(r"\w")
Right = Callable[[str], bool]
Size = Callable[[str], int]


def switches(text: str) -> list[int]:
    """Where a text turns to another thought: the places of the words that say so, at the beginnings of sentences."""
    return [found.start(1) for found in _SWITCH.finditer(text)]


def thoughts(text: str) -> list[str]:
    """A text cut where it turns to another thought; joined, they are the text again."""
    cuts = [0, *(at for at in switches(text) if _INK.search(text, 0, at)), len(text)]
    return [text[start:end] for start, end in pairwise(cuts) if end > start]


def words(text: str) -> int:
    """A text's length where its tokens are not known."""
    return len(text.split())


def reached(text: str, right: Right, size: Size = words) -> float | None:
    """The share of a text's length at which its first right thought ends; None where no thought is right."""
    done = ""
    for thought in thoughts(text):
        done += thought
        if right(thought):
            return size(done) / max(1, size(text))
    return None


def underthinking(wrong: Sequence[str], right: Right, size: Size = words) -> float | None:
    """The mean share of wrong replies that came after a right thought: 0 (there was none) to nearly 1. None where there are no replies.

    `right` says of one thought whether it is, `size` how many tokens a text has.
    """
    shares = [reached(text, right, size) for text in wrong]
    return fmean(0.0 if share is None else 1 - share for share in shares) if shares else None


def efficiency(texts: Sequence[str], right: Right, size: Size = words) -> float | None:
    """The mean share of replies until their first right thought, 0 for those without one; over right replies, 1 less overthinking."""
    return fmean(reached(text, right, size) or 0.0 for text in texts) if texts else None


async def steady(
    root: Thought,
    *,
    alpha: float = 3.0,
    beta: int = 600,
    step: int = 96,
    temperature: float = 0.0,
    max_tokens: int = 512,
) -> Thought:
    """One chain of thought that does not leave a thought before it is `beta` tokens old.

    It is grown step by step. In a young thought the logits of words that begin another one are lowered by `alpha`, for whole steps; where
    the model takes no such bias, a step that begins with a switch is taken back, and one that goes on with the thought is begun in its
    place.

    Paper: TIP, Wang et al. 2025 (arXiv 2501.18585).
    """
    if not 0 <= alpha < math.inf or min(beta, step, max_tokens) < 1:
        raise BadInput(f"alpha={alpha}, beta={beta}, step={step}: a penalty is 0 or more, and thoughts and steps have 1 token or more.")
    bias = tuple((word, -alpha) for word in PENALISED)
    try:
        try:
            node = await grow(root, min(step, max_tokens), temperature, bias)
        except Unsupported:  # by this model
            bias = ()
            node = await grow(root, min(step, max_tokens), temperature)
    except Unaffordable:
        return await finish(root, ENDING)
    age = node.tokens
    while not node.done and node.finish != "loop" and node.tokens and length(node) < max_tokens:
        await Offer(node)
        size, young = min(step, max_tokens - length(node)), age < beta
        try:
            after = await grow(node, size, temperature, bias if young else ())
            if young and not bias and leaves(after):
                after = await grow(node, size, temperature, force=ONWARD)
        except BRANCH_ERRORS:  # what was thought before still counts
            break
        node, age = after, after.tokens if switches(after.thinking + after.text) else age + after.tokens
    return await finish(node, max_tokens)


async def grow(node: Thought, size: int, temperature: float, bias: tuple[tuple[str, float], ...] = (), force: str = "") -> Thought:
    """The next step of a chain."""
    [after] = await Expand(
        node,
        until="step",
        say=fresh(node),
        force=force,
        max_tokens=size,
        temperature=temperature,
        stop=(CLOSE,),
        bias=bias,
        keep=KEEP,
    )
    return after


def leaves(step: Thought) -> bool:
    """Whether a step begins with a switch to another thought."""
    text = step.thinking + step.text
    return any(not _INK.search(text, 0, at) for at in switches(text)[:1])
