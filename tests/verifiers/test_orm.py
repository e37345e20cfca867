"""The model's own outcome reward model: what is asked of it, and what is made of its word."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pondera.errors import Unsupported
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.plan import Plan
from pondera.thought import Answer, Question, Thought
from pondera.verifiers.orm import _chance

QUESTION = Question.of("What is 1 + 1?")


async def told(script: Any, strategy: str = "best_of(n=2, over='chains', by='orm')", **more: Any) -> tuple[Answer, Fake]:
    model = Fake(script)
    plan = Plan(model="fake", strategy=strategy)
    return await plan.run({"think": model, **more}).solve(QUESTION, plan.strategy_of()), model


def said(op: Expand, index: int, seed: int) -> str:
    if op.until == "verdict":
        return "Yes" if "{2}" in op.node.text + op.force or op.force == "\n2" else "No"
    return "```python\nprint(2)\n```" if op.force else f"It is \\boxed{{{2 + index}}}."


async def test_the_surer_answer_is_chosen_and_verdicts_are_billed_apart() -> None:
    answer, model = await told(said)
    assert answer.key == "2"
    scores = {one.key: one.scores["orm"] for one in answer.candidates}
    assert 0.5 < scores["2"] < 1.0, "the chance of a Yes"
    assert 0.0 < scores["3"] < 0.5, "what is left beside a No"
    asked = [op for op in model.asked if op.until == "verdict"]
    assert [(op.force, op.temperature, op.max_tokens) for op in asked] == [("", 0.0, 1)] * 2, "the answer itself is gone on with"
    assert {op.node.id for op in asked} == {one.thought.id for one in answer.candidates}
    assert (answer.spend.judging, answer.by_role["judge"].calls) == (2, 2)


async def test_of_a_program_it_is_told_what_it_printed() -> None:
    answer, model = await told(said, "best_of(n=2, over='programs', by='orm')")
    [first, _] = [op for op in model.asked if op.until == "verdict"]
    assert first.force == "\n2"
    assert first.node.text.startswith("```python"), "the program, not its output"
    assert answer.key == "2"


async def test_an_answer_without_a_key_is_not_asked_about() -> None:
    answer, model = await told(lambda op, index, seed: said(op, 0, seed) if op.until == "verdict" or index else "I do not know.")
    assert sum(op.until == "verdict" for op in model.asked) == 1
    assert [one.scores.get("orm") is None for one in answer.candidates if one.key is None] == [True]


async def test_a_model_without_one_has_no_opinion_and_the_run_goes_on() -> None:
    def none(op: Expand, index: int, seed: int) -> Any:
        return Unsupported("no adapter that says whether an answer is right") if op.until == "verdict" else said(op, index, seed)

    answer, _ = await told(none)
    assert answer.key in ("2", "3")
    assert any("no adapter" in why for why in answer.cut)


@pytest.mark.parametrize(
    ("text", "forced", "logprobs", "chance"),
    [
        ("Yes", "", (math.log(0.9),), 0.9),
        ("No", "", (math.log(0.9),), 0.1),
        ("\n72 No", "\n72", (math.log(0.6),), 0.4),
        ("yes", "", (), 1.0),
        ("Perhaps", "", (-1.0,), None),
        ("\nYes", "\nYes", (-1.0,), None),
    ],
)
def test_a_word_is_a_chance(text: str, forced: str, logprobs: tuple[float, ...], chance: float | None) -> None:
    told = _chance(Thought("0/1", text=text, forced=forced, logprobs=logprobs))
    assert told == (None if chance is None else pytest.approx(chance))
