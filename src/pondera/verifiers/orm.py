"""The model's own outcome reward model: whether an answer is right, read off what the model had in mind when it gave it.

An adapter that wakes on a few calling tokens after the answer (:mod:`pondera.models.openvino_adapter`) reads the KV cache that is there
already, so a verdict costs those tokens and one more, however long the question and the answer were. It was trained on sampled answers to
questions with known ones, as outcome verifiers are (Cobbe et al. 2021, arXiv 2110.14168); that a model's inner states tell right answers
from wrong ones: Kadavath et al. 2022 (arXiv 2207.05221). After a program, what it printed is shown first.
"""

from __future__ import annotations

import math

from pondera.errors import BRANCH_ERRORS
from pondera.ops import Expand, Key, Role, Verifier, both
from pondera.thought import Thought
from pondera.verifiers.signals import written

LONGEST = 40  # characters of what a program printed that are shown


def orm(by: Role = "think") -> Verifier:
    """Chance that an answer is right, by an adapter that the model itself has for this: about ten tokens an answer.

    `by` is the role of the model that gave the answers. A score is P(yes); None for a thought without an answer, and where the model has
    no such adapter. The default model comes with one; any other of the embedded engine has what lies in its folder of the cache.

    Paper: outcome verifiers, Cobbe et al. 2021 (arXiv 2110.14168); activated LoRA, Greenewald et al. 2025 (arXiv 2504.12397).
    """

    async def one(i: int, node: Thought) -> tuple[int, float | None]:
        try:
            [said] = await ask(node, by)
        except BRANCH_ERRORS:  # recorded by the runtime; no opinion is not a low one
            return i, None
        return i, _chance(said)

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        keys = await Key(nodes)
        said = dict(await both(*(one(i, node) for i, (node, key) in enumerate(zip(nodes, keys, strict=True)) if key is not None)))
        return [said.get(i) for i in range(len(nodes))]

    return verifier


def ask(node: Thought, by: Role = "think") -> Expand:
    """What is asked of the model about an answer: its turn is gone on with, after what a program printed."""
    printed = f"\n{node.text.strip()[:LONGEST]}" if node.tool else ""
    return Expand(written(node), until="verdict", force=printed, by=by, max_tokens=1, temperature=0.0)


def _chance(said: Thought) -> float | None:
    """P(yes): what is not Yes is No, which an adapter was trained to say."""
    word = said.text.removeprefix(said.forced).strip().lower()
    chance = math.exp(min(0.0, said.logprobs[0])) if said.logprobs else 1.0
    return {"yes": chance, "no": 1.0 - chance}.get(word)
