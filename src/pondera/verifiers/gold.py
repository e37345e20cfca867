"""The verifier that knows the answer: for checks, for training with verifiable rewards, never for a question that is really asked.

Equality is that of votes: symbolic for mathematics (:mod:`pondera.verifiers.keys`), of text or of JSON values for the other kinds.
"""

from __future__ import annotations

from pondera.ops import Key, Verifier
from pondera.thought import Thought


def equals(gold: str = "") -> Verifier:
    """1 where the answer equals the gold one (symbolic equality in mathematics), else 0.

    `gold` is the answer, LaTeX too, or a solution that marks it by \\boxed{} or ####. An answer that cannot be read is wrong: 0. None
    for all where no gold answer is given, or none can be read from it.

    Paper: answer equality as in MATH, Hendrycks et al. 2021 (arXiv 2103.03874).
    """

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        if not gold.strip() or not nodes:
            return [None] * len(nodes)
        bare = nodes[0].about.kind == "json" or "\\boxed" in gold or "####" in gold
        key = Thought("gold", nodes[0].path[0], text=gold if bare else f"\\boxed{{{gold}}}", finish="done")
        *keys, right = await Key((*nodes, key))
        return [None if right is None else float(key == right) for key in keys]

    return verifier
