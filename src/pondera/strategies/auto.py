r"""The compute-optimal mind: how to think, how long, and when to stop, decided for each question from what it shows.

After each round of samples a posterior over the answers (:mod:`pondera.allocate.posterior`) says how likely the best of them is right, and
by how much k more chains or k more programs are expected to raise that. With w the tokens that a right answer is worth and c those that a
sample costs, what pays best is

.. math:: \arg\max_{a, k} \; w \, \mathrm{gain}_a(k) - k \, c_a - l \, s_a - p

with s the seconds that a sample takes, l what a second of waiting costs, and p what it costs to ask once more, which is the prompt's price;
and when nothing pays the run stops: settled early on an easy question, given up early on one where answers are scattered, and spent where
the answer moves (Snell et al. 2024, arXiv 2408.03314; Damani et al. 2024, arXiv 2410.04707). Half of the k that pay best are drawn side by
side, since what they say may change the plan; all of them where waiting costs, or where to ask once more costs more than the other half.
"""

from __future__ import annotations

import math
from itertools import count

from pondera.errors import BRANCH_ERRORS, BranchesFailed, PonderaError, Unaffordable
from pondera.ops import Key, Left, Rng
from pondera.strategies.guide import Asks, Dollars, Guide, costs, generated, in_time
from pondera.strategies.think import chains, programs
from pondera.strategies.vote import surest
from pondera.thought import Thought

GROW = (chains, programs)  # the sorts of the guide
OWED = 8  # samples that may come to nothing before a question is given up, whatever it is worth


async def auto(
    root: Thought,
    *,
    effort: str = "medium",
    worth: float = 0.0,
    value: float = 0.0,
    error_cost: float = 0.0,
    latency_cost: float = 0.0,
    price: float = 0.0,
    mean: float = 0.0,
    right: float = 0.0,
    shift: float = 0.0,
    steep: float = 0.0,
    larger: str = "",
    times: float = 0.0,
    most: int = 0,
    by: str = "",
    table: str = "",
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Thought:
    """As many chains and programs as the question needs and the answer is worth; the likeliest answer.

    `worth` is what a right answer is worth in tokens, or `effort` says it in a word: "low", "medium", "high" or "max", which are points on
    the model's own returns curve where there is a calibrated `table` of it (a model's name, or a file of `pondera calibrate`; "none" for
    none); so are `mean`, the tokens that a question is to come to in the mean, and `right`, the share that is to be answered right, of
    questions like those of the table. Or say it in dollars: the `value` of a right answer, what an error costs and what a second of
    waiting does, a million generated tokens being `price` (that of the model by default). At `most` samples it ends, by default as far
    as the questions of the table were looked at, or 64. The verifier `by`, else the table's, judges each sample by itself: its score is
    the chance that it is right.

    Questions of another sort than the table's may be easier or harder for the model than its samples say, by `shift` log odds, and second
    answers less of a rival, by a factor exp(`steep`) on log odds: `pondera bench run --learn` learns both from outcomes.

    Where a draft model is named it is the one that samples, and the `larger` one is asked for an answer of its own when that is expected to
    gain more than it costs, a token of its being worth `times` of the draft's; both are known from the draft's table, or guessed.

    Paper: Snell et al. 2024 (arXiv 2408.03314).
    """
    asks = Asks.of(table, larger, times)
    dollars = Dollars(value, error_cost, latency_cost, price / asks.times)
    guide = Guide.of(table, by, asks.by, effort, most, worth or dollars.worth, mean, right, dollars.second).moved(shift, steep)
    rng, start = await Rng(), await Left()
    pool, nodes, grown = guide.pool(), list[Thought](), list[Thought]()
    lost: PonderaError = BranchesFailed("No sample came to anything.")
    now, chosen, longest, asking = start, root, 0, 0.0
    keep = asks.kept(max_tokens, start.tokens)
    for rounds in count():
        each, last, now = costs(nodes, pool.kinds, guide.costs), now, await Left()
        asking = dollars.asking(now.paid - last.paid, grown, asking)
        room = min((most or guide.reach) - sum(pool.asked), in_time(nodes, now.elapsed - start.elapsed, now.seconds, max(each)))
        waiting = [asking + (guide.second * (now.elapsed - start.elapsed) / longest * cost if longest else 0.0) for cost in each]
        choice = guide.decide(pool, each, room, rng.getrandbits(63), waiting)
        if nodes:
            await guide.offer(chosen, pool, choice, rounds == 1)
        owed = not nodes and sum(pool.asked) < OWED
        if choice is None or not (choice.pays or owed):
            break
        n, grown = choice.first(math.inf if guide.second else asking, each[choice.kind]), list[Thought]()
        try:
            grown = await GROW[choice.kind](root, n, temperature, max_tokens, asks.by, keep)
        except Unaffordable:
            if not nodes and not asks.larger:
                raise
            break
        except BRANCH_ERRORS as error:  # recorded by the runtime
            lost = error
        nodes, longest = nodes + grown, longest + max(map(generated, grown), default=0)
        asked = [had + n * (kind == choice.kind) for kind, had in enumerate(pool.asked)]
        scores = await guide.scores(nodes, grown, pool.scores)
        keys = await Key(tuple(nodes)) if nodes else []
        pool = guide.pool([*pool.kinds, *[choice.kind] * len(grown)], keys, scores, asked)
        key = pool.best(guide.belief)[0]
        chosen = surest([node for node, own in zip(nodes, keys, strict=True) if own == key]) if nodes else root
    chosen = await asks.answer(root, chosen, pool.best(guide.belief)[1], guide.worth, max_tokens)
    if chosen is root:
        raise lost
    return chosen
