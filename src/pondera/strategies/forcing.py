r"""How long a chain thinks: forced to be longer or shorter, or ended as soon as its answer has settled.

Budget forcing (s1, Muennighoff et al. 2025, arXiv 2501.19393): when the model would stop early, its end is taken back and "Wait" is put
in its place; at the maximum the thought is closed and the answer forced. Early exit: every so many tokens the answer that the chain would
give now is probed on a side branch, which costs a few tokens, since the chain's own are in the cache; the chain itself knows nothing of
it. It is over when probes in a row agree, none of them hesitating (Dynasor, Fu et al. 2024, arXiv 2412.20993), and each of them is sure
enough: :math:`(\prod_{i=1}^{n} p_i)^{1/n}` over its n tokens (which is all that DEER looks at, Yang et al. 2025, arXiv 2504.15895).

Both work on any model that can go on with a partial answer. The thought of a model that thinks between tags is made longer, cut and probed
inside of them; of another model the chain itself is the thought.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from pondera.errors import BRANCH_ERRORS, BadInput, Unaffordable
from pondera.ops import Expand, Key, Offer, both
from pondera.strategies.steps import ANSWER, ENDING, KEEP, finish, fresh, inside, length
from pondera.strategies.vote import elect
from pondera.thought import CLOSE, Thought

WAIT = "Wait"  # in a thought between tags: such models were trained to check themselves
CHECK = "Let me check each step again."  # in a chain of another model, which "Wait" would talk out of right answers

_DOUBT = re.compile(r"\b(?:wait|hold on|hmm|but|however|not sure|maybe)\b", re.IGNORECASE)


async def budget_forcing(
    root: Thought,
    *,
    least: int = 512,
    most: int = 1024,
    waits: int = 2,
    word: str = "",
    temperature: float = 0.0,
    max_tokens: int = 512,
) -> Thought:
    """One chain of thought that is made `least` tokens long, by `word` where it would stop early, and ended at `most`.

    It is told so `waits` times at most; without a `word` it is "Wait" for a model that thinks between tags, and "Let me check each step
    again." for another. An answer that was taken back stands in the text, and where no later one follows it counts. `max_tokens` are for
    the answer of a model that thinks between tags. Longer chains help models that were trained to check themselves; the default model was
    not (docs/lab-notes.md).

    Paper: s1, Muennighoff et al. 2025 (arXiv 2501.19393).
    """
    if not 0 <= least <= most or min(most, max_tokens) < 1 or waits < 0:
        raise BadInput(
            f"least={least}, most={most}, waits={waits}, max_tokens={max_tokens}: a thought has least <= most tokens, "
            "is told to wait 0 times or more, and its answer has 1 token or more."
        )
    known: Thought | None = None
    node = await begin(root, most, temperature)
    for _ in range(waits):
        if not node.done or length(node) >= least:
            break
        known = known if inside(node) else node
        try:
            node = await stretch(node, most - length(node), temperature, force=told(node, word))
        except BRANCH_ERRORS:  # what was thought before still counts
            break
        if node.done and not inside(node):
            await Offer(node)
    return await finish_or(known, node, max_tokens)


async def early_exit(
    root: Thought,
    *,
    n: int = 1,
    every: int = 48,
    patience: int = 3,
    sure: float = 0.0,
    waits: int = 0,
    word: str = "",
    temperature: float = 0.0,
    max_tokens: int = 512,
) -> Thought:
    """A chain of thought that stops as soon as its answer has settled, or the vote of `n` such chains.

    The answer is probed every so many tokens. It has settled when `patience` probes in a row agree and each is at least `sure` of it (the
    geometric mean of its tokens' probabilities): `sure=0` is Dynasor's rule, `patience=1, sure=0.95` is DEER's. A chain that ends unsettled
    hears `word` (see budget_forcing), `waits` times at most; its answer is a probe. It has at most `max_tokens` tokens, probes not counted.
    What it saves depends on how long a chain goes on after its answer is found: nothing where it ends there (docs/lab-notes.md). The
    confidence is the share of the probes that agree, or of the votes.

    Paper: Dynasor, Fu et al. 2024 (arXiv 2412.20993); DEER, Yang et al. 2025 (arXiv 2504.15895).
    """
    if min(n, every, patience, max_tokens) < 1 or waits < 0:
        raise BadInput(f"n={n}, every={every}, patience={patience}, waits={waits}: give 1 or more of each, and 0 or more waits.")
    if not 0 <= sure <= 1:
        raise BadInput(f"sure={sure} is no probability: give 0 to 1.")
    if n > 1 and temperature <= 0:
        raise BadInput(f"{n} greedy chains are one and the same: give a temperature, such as 0.6.")
    ends = await both(*(probed(root, every, patience, sure, waits, word, temperature, max_tokens, ENDING * (n + 1)) for _ in range(n)))
    if n == 1:
        return ends[0]
    winner, share = elect(ends, await Key(tuple(ends)), [1.0] * len(ends))
    await Offer(winner, share * len(ends) / n)
    return winner


async def probed(
    root: Thought, every: int, patience: int, sure: float, waits: int, word: str, temperature: float, max_tokens: int, keep: int
) -> Thought:
    """One chain until its answer has settled: the probe that settled it, or the chain's own answer where it ends before."""
    known: Thought | None = None
    probes: list[Thought] = []
    node = await begin(root, min(every, max_tokens), temperature, keep)
    while length(node) < max_tokens and ((node.finish == "tokens" and node.tokens) or (node.done and waits > 0)):
        try:
            probes = [*probes, await finish(node, ENDING)][-patience:]
            keys = await Key(tuple(probes))
            if keys[-1] is not None:
                await Offer(known := probes[-1])
            if settled(probes, keys, patience, sure):
                return probes[-1]
        except BRANCH_ERRORS:  # a probe that failed says nothing
            probes = []
        waits -= node.done
        try:
            node = await stretch(node, min(every, max_tokens - length(node)), temperature, keep, told(node, word) if node.done else "")
        except BRANCH_ERRORS:  # what was thought before still counts
            break
    return await finish_or(known, node, max_tokens)


async def finish_or(known: Thought | None, node: Thought, max_tokens: int) -> Thought:
    """The answer of a chain, or the one that it had before where the last one fails."""
    try:
        return await finish(node, max_tokens)
    except BRANCH_ERRORS:  # recorded by the runtime
        if known is None:
            raise
        return known


async def begin(root: Thought, tokens: int, temperature: float, keep: int = KEEP) -> Thought:
    """The first stretch of a chain, offered for want of a better answer; the root where it cannot be paid."""
    try:
        node = await stretch(root, tokens, temperature, keep)
    except Unaffordable:
        return root
    if node.reply:
        await Offer(node)
    return node


async def stretch(node: Thought, tokens: int, temperature: float, keep: int = KEEP, force: str = "") -> Thought:
    """The next `tokens` of a chain, fewer where its thought ends."""
    [after] = await Expand(
        node,
        until=tokens,
        say=fresh(node),
        force=force,
        max_tokens=tokens,
        temperature=temperature,
        stop=(CLOSE,),
        keep=keep,
    )
    return after


def told(node: Thought, word: str) -> str:
    """What is put in the place of a chain's end."""
    return f"\n\n{word or (WAIT if inside(node) else CHECK)}"


def settled(probes: Sequence[Thought], keys: Sequence[str | None], patience: int, sure: float) -> bool:
    """Whether these last probes are `patience` in number, agree, do not hesitate and are sure."""
    if len(probes) < patience or None in keys or len(set(keys)) > 1:
        return False
    return all(certainty(probe) >= sure and not doubtful(probe) for probe in probes)


def doubtful(probe: Thought) -> bool:
    """Whether a model goes back on the answer that was forced from it."""
    return probe.forced.endswith(ANSWER) and _DOUBT.search(probe.text.removeprefix(probe.forced)) is not None


def certainty(node: Thought) -> float:
    """The geometric mean of the probabilities of a node's own tokens, 1 where its model does not tell them."""
    return math.exp(math.fsum(node.logprobs) / len(node.logprobs)) if node.logprobs else 1.0
