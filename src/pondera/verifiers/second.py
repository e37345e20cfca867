"""A second opinion: another model answers the question itself, and what it says is compared.

Agreement between different models is worth more than agreement with oneself, since they err in different ways. It costs a few answers a
question, however many candidates there are, where a judge that reads costs one verdict for each.
"""

from __future__ import annotations

from pondera.errors import BadInput
from pondera.ops import Key, Role, Verdict, Verifier
from pondera.strategies.think import chains, programs
from pondera.thought import Thought


def second(n: int = 4, by: Role = "judge", over: str = "programs", temperature: float = 0.6, max_tokens: int = 512) -> Verifier:
    """Share of another model's own answers that say the same.

    The model of the role `by` answers the question `n` times, in "chains" or "programs". Scores are in [0, 1]; None where it came to no
    answer, and for a thought without one.

    Paper: self-consistency, Wang et al. 2022 (arXiv 2203.11171), with another model's votes.
    """
    if n < 1 or over not in ("chains", "programs"):
        raise BadInput(f"second(n={n}, over={over!r}): it asks for 1 answer or more, in 'chains' or 'programs'.")
    answers = chains if over == "chains" else programs

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        if not nodes:
            return []
        root = Thought(f"{nodes[0].id}?second", question=nodes[0].about)
        own = await answers(root, n, temperature, max_tokens, by)
        keys = await Key((*nodes, *own))
        said = [key for key in keys[len(nodes) :] if key is not None]
        if not said:
            return [None] * len(nodes)
        why = f"Another model's {len(said)} answers: {', '.join(sorted(set(said)))}."
        return [None if key is None else Verdict(said.count(key) / len(said), why) for key in keys[: len(nodes)]]

    return verifier
