r"""Many answers, one choice: self-consistency, weighted and filtered votes, best-of-N, and a knockout.

With :math:`w_i` what branch i weighs and :math:`a_i` its answer, a vote chooses :math:`\arg\max_a \sum_{i: a_i = a} w_i`. All weights are 1
in self-consistency (Wang et al. 2022, arXiv 2203.11171). Where a verifier gives them this is the verifier-weighted vote of DIVERSE (Li et
al. 2022, arXiv 2206.02336), which Snell et al. 2024 (arXiv 2408.03314) call weighted best-of-N: that is `vote(by=...)` here. With `top`
only the most confident share votes (DeepConf, Fu et al. 2025, arXiv 2508.15260). Best-of-N takes the one branch with the highest score
(Cobbe et al. 2021, arXiv 2110.14168), by its outcome or by its steps (`process`; Lightman et al. 2023, arXiv 2305.20050). In a knockout two
answers are compared at a time (Liu et al. 2025, arXiv 2501.13007).

The votes may be cast by chains of thought, by programs, or by both: they fail in different ways, so a mix of them knows more.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

from pondera.errors import BadInput
from pondera.ops import Key, Offer, Role, Score, both
from pondera.strategies.think import chains, programs
from pondera.thought import Thought

FOLDS: dict[str, Callable[[Sequence[float]], float]] = {"min": min, "product": math.prod, "last": lambda each: each[-1], "mean": fmean}
STEP = "\n\n"


async def vote(
    root: Thought,
    *,
    n: int = 8,
    over: str = "both",
    by: str = "",
    process: str = "",
    top: float = 1.0,
    temperature: float = 0.6,
    max_tokens: int = 512,
    first: int = 0,
) -> Thought:
    """The answer that most of `n` branches give, each vote weighted by the verifier `by` where one is named.

    With `top` below 1 only that share of the branches with an answer votes, those with the highest scores. `process` makes a branch's
    score of its steps', as in best_of. With `first` the first so many branches to end vote, and all others are cut off (short-m@k): billed
    for what they wrote, on a server, which does not count that, for `max_tokens`. The confidence is the answer's share of the votes that
    all who may vote would have: a branch that failed or was lost has not spoken for it.

    Paper: self-consistency, Wang et al. 2022 (arXiv 2203.11171); filtered votes, DeepConf, Fu et al. 2025 (arXiv 2508.15260); short-m@k,
    Hassid et al. 2025 (arXiv 2505.17813).
    """
    _check(by, process, top)
    pool = await branches(root, n, over, temperature, max_tokens, first=first)
    return await ballot(pool, first or n, by, process, top)


async def best_of(
    root: Thought,
    *,
    n: int = 8,
    over: str = "both",
    by: str = "confidence",
    process: str = "",
    temperature: float = 0.6,
    max_tokens: int = 512,
    first: int = 0,
) -> Thought:
    """The one of `n` branches that the verifier `by` thinks most of.

    It judges whole branches, or with `process` every step of each, of which the "min", "product", "last" or "mean" counts. To add up the
    scores of equal answers is `vote(by=...)`. Where it has no opinion of any, the majority's answer is taken. With `first` the choice is
    among the first so many branches to end, and all others are cut off.

    Paper: Cobbe et al. 2021 (arXiv 2110.14168); by process, Lightman et al. 2023 (arXiv 2305.20050).
    """
    _check(by, process, needed=True)
    pool = await branches(root, n, over, temperature, max_tokens, first=first)
    keys = await Key(tuple(pool))
    whole = [node for node, key in zip(pool, keys, strict=True) if key is not None] or pool
    favourite, share = elect(pool, keys, [1.0] * len(pool))
    await Offer(favourite, share * len(pool) / (first or n))
    scores = await rate(whole, by, process)
    judged = [(score, node) for score, node in zip(scores, whole, strict=True) if score is not None]
    best = max(judged, key=lambda pair: (pair[0], trust(pair[1]), pair[1].reply), default=None)
    return best[1] if best else favourite


async def tournament(
    root: Thought,
    *,
    n: int = 8,
    over: str = "both",
    by: str = "pairwise",
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Thought:
    """A knockout among the answers of `n` branches: the verifier `by` compares two at a time, and the better one goes on.

    Branches that say the same enter as one. The answers with most votes meet those with fewest, one without an opponent goes on, and
    where the verifier has no opinion more votes win.

    Paper: pairwise judging, Zheng et al. 2023 (arXiv 2306.05685).
    """
    _check(by, needed=True)
    pool = await branches(root, n, over, temperature, max_tokens)
    answers = standings(pool, await Key(tuple(pool)), [1.0] * len(pool))
    field = [node for node, _ in answers] or [surest(pool)]
    while len(field) > 1:
        await Offer(field[0])
        seeded, paired = field[: len(field) % 2], field[len(field) % 2 :]
        half = len(paired) // 2
        won = dict(await both(*(duel(i, paired[i], paired[-1 - i], by) for i in range(half))))  # without those that were stopped
        field = seeded + [won.get(i, paired[i]) for i in range(half)]
    return field[0]


async def ballot(pool: list[Thought], n: int, by: str = "", process: str = "", top: float = 1.0) -> Thought:
    """Who is elected by a pool, of `n` that were wanted: offered first by votes, then by what the verifier thinks of them."""
    keys = await Key(tuple(pool))
    winner, share = elect(pool, keys, [1.0] * len(pool))
    await Offer(winner, share * len(pool) / n)
    scores = await rate(pool, by, process) if by else []
    if any(score is not None for score in scores):
        opinions = filled(scores)
        kept = foremost(pool, keys, opinions, top)
        weights = [max(0.0, one) for one in opinions]  # no vote counts against its own answer
        winner, share = elect([pool[i] for i in kept], [keys[i] for i in kept], [weights[i] for i in kept])
        await Offer(winner, share * len(pool) / n)
    return winner


async def duel(i: int, favourite: Thought, other: Thought, by: str) -> tuple[int, Thought]:
    """Pair `i` and who wins it."""
    a, b = await Score((favourite, other), by)
    return i, other if a is not None and b is not None and b > a else favourite


def _check(by: str, process: str = "", top: float = 1.0, *, needed: bool = False) -> None:
    if process and process not in FOLDS:
        raise BadInput(f"process={process!r} makes no score of the steps': use {', '.join(FOLDS)}, or leave it out.")
    if not 0 < top <= 1:
        raise BadInput(f"top={top} is no share of the branches: give a number above 0 and at most 1.")
    if not by and (needed or process or top < 1):
        raise BadInput("Only a verifier can tell which branches are better: name one, as in by='confidence'.")


async def branches(
    root: Thought, n: int, over: str, temperature: float, max_tokens: int, by: Role = "think", keep: int = 0, first: int = 0
) -> list[Thought]:
    """`n` answers of the model in the role `by`, those that survived; `keep` tokens of the budget are left alone.

    With `first`, as many as are the first to end, of each sort its share and at least one, `first` in all; the others are cut off.
    """
    if n < 1:
        raise BadInput(f"n={n} asks for nothing: give 1 branch or more.")
    if not 0 <= first <= n:
        raise BadInput(f"first={first} of n={n} branches cannot be waited for: give a number from 1 to {n}, or 0 for all.")
    if over not in ("chains", "programs", "both"):
        raise BadInput(f"over={over!r}: the branches are 'chains', 'programs' or 'both'.")
    coded = {"chains": 0, "programs": n, "both": n // 2}[over]
    if first == 1 and 0 < coded < n:
        raise BadInput("first=1 cannot be one of each sort: give 2 or more, or over='chains' or over='programs'.")
    share = max(min(first, coded, 1), first * coded // n)  # of the first to end, those that are programs
    parts = []
    if coded < n:
        parts.append(chains(root, n - coded, temperature, max_tokens, by, keep, first - share))
    if coded:
        parts.append(programs(root, coded, temperature, max_tokens, by, keep, share))
    return [node for part in await both(*parts) for node in part]


def elect(pool: list[Thought], keys: list[str | None], weights: list[float]) -> tuple[Thought, float]:
    """The heaviest key's most trusted node, and that key's share of all weight, that of abstentions too."""
    answers = standings(pool, keys, weights)
    return answers[0] if answers else (surest(pool), 0.0)


def standings(pool: Sequence[Thought], keys: Sequence[str | None], weights: Sequence[float]) -> list[tuple[Thought, float]]:
    """Each answer, the heaviest first, as its most trusted node and its share of all weight.

    Ties go by trust, then by key: never by order, nor by the rounding of sums in some order.
    """
    votes: dict[str, list[tuple[Thought, float]]] = defaultdict(list)
    for node, key, weight in zip(pool, keys, weights, strict=True):
        if key is not None:
            votes[key].append((node, weight))
    ranked = [(math.fsum(w for _, w in cast), math.fsum(trust(node) for node, _ in cast), key) for key, cast in votes.items()]
    total = math.fsum(weights)
    return [(surest([node for node, _ in votes[key]]), weight / total if total else 0.0) for weight, _, key in sorted(ranked, reverse=True)]


def filled(scores: Sequence[float | None], unknown: float = 1.0) -> list[float]:
    """Scores in which no opinion is the mean of the others', and not a low one; `unknown` where there is none at all."""
    known = [score for score in scores if score is not None]
    middling = fmean(known) if known else unknown
    return [middling if score is None else score for score in scores]


def foremost(pool: Sequence[Thought], keys: Sequence[str | None], scores: Sequence[float], top: float) -> list[int]:
    """Who votes, by index: the best share `top` of the branches with an answer, at least one, beside those that abstain."""
    voters = [i for i, key in enumerate(keys) if key is not None]
    ranked = sorted(voters, key=lambda i: (scores[i], trust(pool[i]), pool[i].reply), reverse=True)
    out = set(ranked[max(1, math.ceil(top * len(voters) - 1e-9)) :])
    return [i for i in range(len(pool)) if i not in out]


async def rate(pool: Sequence[Thought], by: str, process: str = "") -> list[float | None]:
    """What a verifier thinks of each node, or of its steps. A step without an opinion is left out; None where there is none at all."""
    if not process:
        return list(await Score(tuple(pool), by))
    paths = [prefixes(node) for node in pool]
    steps = {step.id: step for path in paths for step in path}
    scores = dict(zip(steps, await Score(tuple(steps.values()), by), strict=True))
    told = [[scores[step.id] for step in (path[-1:] if process == "last" else path)] for path in paths]
    known = [[score for score in each if score is not None] for each in told]
    return [FOLDS[process](each) if each else None for each in known]


def prefixes(node: Thought) -> tuple[Thought, ...]:
    """What a turn had come to at the end of each of its steps, the whole of it last, as if it had been grown step by step.

    Steps are the thoughts of its path, each split at blank lines. The parts of a thought have its id and their number ("0.0/3:1"), and
    their share of its log-probabilities by length, since which token spells which letter is not known.
    """
    found: list[Thought] = []
    for step in node.turn:
        before, at = step.parent, 0
        for k, part in enumerate(_parts(step.text)[:-1]):
            low, high = (_share(step, end) for end in (at, at + len(part)))
            before = Thought(
                f"{step.id}:{k}",
                before,
                said="" if at else step.said,
                text=part,
                thinking="" if at else step.thinking,
                finish="step",
                tokens=high - low,
                model=step.model,
                logprobs=step.logprobs[low:high],
            )
            found.append(before)
            at += len(part)
        if step.parent:
            found.append(step)
    return tuple(found)


def _parts(text: str) -> list[str]:
    """A text split after its blank lines, none of the parts empty."""
    parts = [""]
    for piece in text.split(STEP):
        if piece.strip() and parts[-1].strip():
            parts.append("")
        parts[-1] += piece + STEP
    parts[-1] = parts[-1].removesuffix(STEP)
    return parts


def _share(step: Thought, end: int) -> int:
    """How many of a thought's log-probabilities belong to its first `end` characters."""
    given = len(step.forced)
    return round(len(step.logprobs) * max(0, end - given) / max(1, len(step.text) - given))


def surest(nodes: Sequence[Thought]) -> Thought:
    """The node that its model trusted most; ties go by what it says."""
    return max(nodes, key=lambda node: (trust(node), node.reply))


def trust(node: Thought) -> float:
    """The geometric mean of the probabilities of a path's tokens: 1 where the model does not tell any."""
    logprobs = [p for step in node.path for p in step.logprobs]
    return math.exp(math.fsum(logprobs) / len(logprobs)) if logprobs else 1.0
