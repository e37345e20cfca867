"""A reward model scores each step of a candidate, or all of it at once, and one number is made of that.

An outcome reward model (ORM; Cobbe et al. 2021, arXiv 2110.14168) says how likely the whole answer is right; a process reward model (PRM;
Lightman et al. 2023, arXiv 2305.20050) says it of each step, given those before, and a solution is worth the product of its steps, or the
least. Snell et al. 2024 (arXiv 2408.03314) find the score of the last step alone better than both, with a PRM whose labels are the chances
of success from each step on; a PRM that was trained to find the first mistake is one for "min" or "product".

A reward model reads from left to right, so a step's score does not depend on what follows. Of candidates that are the same, or beginnings
of one another, only the longest is asked about, and each reads the scores of its own steps from that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pondera.errors import BRANCH_ERRORS, BadInput, VerifierError
from pondera.ops import Expand, Verifier, both
from pondera.strategies.vote import FOLDS as OF_STEPS
from pondera.thought import Thought

FOLDS = {"last": OF_STEPS["last"], **OF_STEPS, "orm": OF_STEPS["last"]}
Steps = tuple[str, ...]


def reward(how: str = "last", step: str = "\n\n") -> Verifier:
    """Probability that the answer is right, as a reward model on a server scores its steps (PRM) or all of it (ORM).

    `how` makes one score of the steps': "last", "min", "product" or "mean"; "orm" does not split the answer, which is scored as one. Steps
    are a path's thoughts where it was grown step by step, else the text split at `step`. A model that gives one number for the whole answer
    is taken at that, whatever `how` says. None where there is no text, or the model could not be asked. Raises VerifierError where whoever
    answers for the role "reward" is no reward model.

    Paper: Cobbe et al. 2021 (arXiv 2110.14168); Lightman et al. 2023 (arXiv 2305.20050).
    """
    if how not in FOLDS:
        raise BadInput(f"how={how!r} makes no score of the steps': use {', '.join(FOLDS)}.")
    if not step:
        raise BadInput("step is empty: give what stands between two steps, such as a blank line.")

    async def ask(nodes: Sequence[Thought], paths: Sequence[Steps], which: Iterable[int]) -> dict[int, list[float]]:
        async def one(i: int) -> tuple[int, list[float]]:
            try:
                [said] = await Expand(chain(nodes[i], paths[i]), by="reward", max_tokens=1, temperature=0.0)
            except BRANCH_ERRORS:  # recorded by the runtime; a model that fails says nothing, which is not a low score
                return i, []
            return i, numbers(said.text, len(paths[i]))

        return dict(await both(*(one(i) for i in sorted(which))))

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        paths = [steps_of(node, "" if how == "orm" else step) for node in nodes]
        source = cover(nodes, paths)
        said = await ask(nodes, paths, set(source.values()))
        alone = [j for j, i in source.items() if i in said and len(said[i]) != len(paths[i]) > len(paths[j])]
        if alone:  # one number for a whole answer says nothing of its beginnings, and neither does its failure
            again = {j: next(i for i in alone if paths[i] == paths[j] and same(nodes, paths, i, j)) for j in alone}
            said |= await ask(nodes, paths, set(again.values()))
            source |= again
        told = [said.get(source[j], [])[: len(paths[j])] if j in source else [] for j in range(len(nodes))]
        return [FOLDS[how](scores) if scores else None for scores in told]

    return verifier


def steps_of(node: Thought, step: str = "\n\n") -> Steps:
    """The steps of the turn that a node ends: each thought that ends a step, and all other text split at `step` ("": not at all)."""
    if not step:
        return (node.reply,) if node.reply.strip() else ()
    steps: list[str] = []
    rest = ""
    for one in node.turn:
        if one.finish == "step" and not rest.strip():
            steps, rest = [*steps, one.text], ""
        elif one.finish == "step":
            steps, rest = [*steps, *(rest + one.text).split(step)], ""
        else:
            rest += one.text
    return tuple(text.strip() for text in (*steps, *rest.split(step)) if text.strip())


def cover(nodes: Sequence[Thought], paths: Sequence[Steps]) -> dict[int, int]:
    """For each node with text, the longest path about the same question that begins with its own: the first of several."""
    longest = sorted((i for i, path in enumerate(paths) if path), key=lambda i: -len(paths[i]))
    return {j: next(i for i in longest if same(nodes, paths, i, j)) for j in sorted(longest)}


def same(nodes: Sequence[Thought], paths: Sequence[Steps], i: int, j: int) -> bool:
    """Whether path i begins with path j."""
    return paths[i][: len(paths[j])] == paths[j] and nodes[i].about == nodes[j].about


def chain(node: Thought, steps: Steps) -> Thought:
    """The steps as thoughts below the question. Their number is in the ids, which tell one op from another in the ledger."""
    made = Thought(f"{node.id}?reward", question=node.about)
    for i, text in enumerate(steps, 1):
        made = Thought(f"{node.id}?reward{i}", made, text=text, finish="step")
    return made


def numbers(text: str, steps: int) -> list[float]:
    """The scores that a reward model's sample spells: one for each step, or a single one. Raises VerifierError."""
    try:
        scores = json.loads(text)
    except (ValueError, RecursionError):
        scores = None
    good = isinstance(scores, list) and all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in scores)
    if not isinstance(scores, list) or not good or len(scores) not in (1, steps):
        raise VerifierError(
            "What answers for the role 'reward' is no reward model: give the run one, which is a model on a server that scores (NAME@URL)."
        )
    return [float(x) for x in scores]
