"""Replay: what another policy would have made of the samples that are recorded, with no model call.

A recorded sample answers any op that asks the same model role to continue the same conversation from the same forced words, and ends in the
same way. Which of them come, and in which order, is chance: each repetition draws anew, without replacement, so that a policy that takes
few of many is judged by all of them. What nobody recorded cannot be replayed, and says so. Temperatures are those of the recording.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pondera.bench.file import Bench, Result
from pondera.bench.grading import Problem, graded
from pondera.bench.spec import Cell
from pondera.errors import BadInput, ModelError, NoAnswer, PonderaError
from pondera.ledger import Row, last, tree
from pondera.ops import Expand
from pondera.plain import digest
from pondera.plan import Plan
from pondera.ports import Failure, Piece, Sample
from pondera.thought import Budget, Price, Spend, Thought, dialogue

SPENT = "The record holds no more samples of what this policy asks: ask for fewer, or record more."
_ENDS = {"done": ("done", "length", "loop"), "step": ("step", "done", "length", "loop")}


class Recorded:
    """A model that says again what a ledger has of one run. `price` is not known: what a call cost then is in the record."""

    exact = True
    price: Price | None = None

    def __init__(self, rows: Sequence[Row], seed: int = 0) -> None:
        self.name = "recorded"
        self.missed = 0  # samples that were asked for and are not there
        self.said: dict[str, list[tuple[Thought, Spend]]] = {}
        nodes = tree(rows)
        for row in rows:
            node = nodes.get(row.key) if row.kind == "sample" and row.body["status"] == "answered" else None
            if node is not None and node.parent is not None:
                spend = Spend(**{**row.body["spend"], "seconds": 0.0})
                self.said.setdefault(_asked(row.body["by"], node.parent, node.said, node.forced), []).append((node, spend))
        chance = random.Random(seed)
        for some in self.said.values():
            chance.shuffle(some)

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
        """Where the first to end are waited for, all are written side by side, a token at a time each."""
        drawn = [self._one(op, index) for index in range(len(seeds))]
        said = sorted(drawn, key=_length) if op.first else drawn
        written = 0
        for i, one in enumerate(said):
            if ahead := op.first and _length(one) - written:
                written += ahead
                for other in said[i:]:
                    yield Piece(other.index, "", ahead)
            yield one

    def _one(self, op: Expand, index: int) -> Sample | Failure:
        found = self.said.get(_asked(op.by, op.node, op.say, op.force), [])
        at = next((i for i, (node, _) in enumerate(found) if _fits(node, op)), None)
        if at is None:
            self.missed += 1
            return Failure(index, ModelError(SPENT))
        node, spend = found.pop(at)
        text = node.text.removeprefix(node.forced)
        if node.tokens <= op.max_tokens:
            return Sample(index, text, node.finish, spend, node.thinking, node.ids, node.logprobs)
        kept = text[: len(text) * op.max_tokens // node.tokens]  # it would have been cut there
        return Sample(index, kept, "length", replace(spend, thinking=0, answer=op.max_tokens))

    def prompt_bound(self, op: Expand) -> int:
        return 0

    async def close(self) -> None: ...


def _length(one: Sample | Failure) -> int:
    return one.spend.tokens


def _asked(by: str, node: Thought, say: str, force: str) -> str:
    """What a model was asked, whichever node of whichever run asked it."""
    turns, begun = dialogue(node, say)
    return digest((by, turns, begun, force))


def _fits(node: Thought, op: Expand) -> bool:
    """Whether a sample ended as the op wants it to end."""
    if isinstance(op.until, int):
        return node.tokens == op.until or (node.finish == "done" and node.tokens < op.until)
    return node.finish in _ENDS.get(op.until, ())


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a policy made of one problem's record, the mean of its repetitions; `failed` of these came to nothing."""

    problem: str
    right: float
    tokens: float
    calls: float
    failed: int
    error: str = ""


async def replay(bench: Bench, cell: Cell, plan: Plan, budget: Budget, repeats: int = 8, seed: int = 0) -> AsyncIterator[Replayed]:
    """Run a plan's strategy on what a cell recorded, problem by problem. Raises BadInput for a strategy that is none."""
    for result in bench.results(cell):
        if result.state == "done":
            problem, rows = bench.problem(cell.task, result.problem), bench.rows(cell.print, result.problem)
            if not rows and not result.figures["calls"]:  # of a budget for all problems nothing was left for it
                yield Replayed(result.problem, 0.0, 0.0, 0.0, 0)
                continue
            if not rows:
                raise BadInput(f"{bench.path} was merged without texts, and a replay needs them: give the bench that it was made of.")
            known = _graded(rows, result)
            turns = [await _turn(plan, budget, problem, rows, known, seed + turn) for turn in range(repeats)]
            errors = [turn for turn in turns if isinstance(turn, str)]
            rights = [turn[0] for turn in turns if not isinstance(turn, str)]
            spends = [turn[1] for turn in turns if not isinstance(turn, str) and turn[1]]
            means = ([one.tokens for one in spends], [one.calls for one in spends])
            right, tokens, calls = (fmean(some) if some else 0.0 for some in (rights, *means))
            yield Replayed(result.problem, right, tokens, calls, len(errors), errors[-1] if errors else "")


async def _turn(
    plan: Plan, budget: Budget, problem: Problem, rows: Sequence[Row], known: Mapping[str, float], seed: int
) -> tuple[float, Spend | None] | str:
    """One run on a record: its score and its bill, none where the budget was too small for an answer; or why it came to nothing."""
    model = Recorded(rows, seed)
    try:
        answer = await plan.run({"think": model}, budget, seed).solve(problem.question, plan.strategy_of())
    except NoAnswer:
        return 0.0, None
    except PonderaError as error:
        return str(error)
    if model.missed:  # not this policy's answer, but that of one with fewer samples
        return SPENT
    said = answer.thought.reply if answer.key is not None else ""
    return known[said] if said in known else (await graded(problem, [said]))[0], answer.spend


def _graded(rows: Sequence[Row], result: Result) -> dict[str, float]:
    """Whether what was recorded is right, by its text, as it was graded then: a scorer of one's own may not be here."""
    answer = last(rows, "answer")
    texts = {one["id"]: one["text"] for one in answer["candidates"]} if answer else {}
    return {"": 0.0} | {texts[one["id"]]: one["score"] for one in result.pool if one["id"] in texts and one["key"] is not None}
