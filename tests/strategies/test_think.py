"""One line of thought, as a chain and as a program."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pondera.errors import BadInput, Unsupported
from pondera.ledger import Ledger
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.strategies import strategy
from pondera.strategies.think import CHAIN, FENCE, PROGRAM, SHOTS, few_shot
from pondera.thought import Message, Question, dialogue
from tests.test_laws import QUESTION, run_of


async def test_a_chain_is_asked_greedily_after_the_question() -> None:
    model = Fake(["\\boxed{41}"])
    answer = await run_of(model).solve(QUESTION, strategy("cot"))
    assert (answer.key, answer.confidence, answer.stopped) == ("41", None, "done")
    [op] = model.asked
    assert (op.say, op.temperature, op.n) == (CHAIN, 0.0, 1)


async def test_a_program_is_begun_for_the_model_and_its_output_is_the_answer() -> None:
    model = Fake([" add\nprint(41)\n```\nIt prints 41."])
    answer = await run_of(model).solve(QUESTION, strategy("program"))
    assert (answer.text, answer.key, answer.thought.tool) == ("41", "41", "python")
    [op] = model.asked
    assert (op.say, op.force) == (PROGRAM, FENCE)
    code = answer.thought.parent
    assert code is not None
    assert code.text == "```python\n# Step 1: add\nprint(41)\n```"


async def test_a_program_that_was_cut_off_is_not_run_and_abstains() -> None:
    answer = await run_of(Fake(["\nprint(41)\n" * 50])).solve(QUESTION, strategy("program(max_tokens=10)"))
    assert (answer.key, answer.abstentions, answer.thought.tool) == (None, 1, "")


async def test_where_a_server_cannot_begin_an_answer_the_model_writes_all_of_it() -> None:
    def script(op: Expand, index: int, seed: int) -> Any:
        return Unsupported("The server cannot continue a partial answer.") if op.force else "Here it is:\n```python\nprint(41)\n```"

    ledger = Ledger()
    answer = await run_of(Fake(script)).solve(QUESTION, strategy("vote(n=3, over='programs')"), ledger=ledger)
    assert dict(answer.votes) == {"41": 3}
    again = await run_of(None).solve(QUESTION, strategy("vote(n=3, over='programs')"), ledger=Ledger(list(ledger.rows)))
    assert again.text == answer.text


async def test_effort_and_thinking_cap_the_thought_and_leave_the_answer_its_tokens() -> None:
    async def asked(text: str) -> tuple[int | None, int]:
        model = Fake(["\\boxed{41}"])
        await run_of(model).solve(QUESTION, strategy(text))
        return model.asked[0].thinking, model.asked[0].max_tokens

    assert await asked("cot") == (None, 512)
    assert await asked("cot(thinking=0)") == (0, 512)
    assert await asked("cot(thinking=1000, max_tokens=99)") == (1000, 1099)
    assert await asked("cot(effort='low')") == (2048, 2048 + 512)
    with pytest.raises(BadInput, match="'low', 'medium' or 'high'"):
        await asked("cot(effort='max')")
    with pytest.raises(BadInput, match="give one of them"):
        await asked("cot(effort='low', thinking=9)")


async def test_a_thinking_model_keeps_its_thought_apart_and_both_are_billed() -> None:
    script = lambda op, index, seed: "<think>17 + 25 is 42</think>It is \\boxed{42}."  # noqa: E731
    answer = await run_of(Fake(script)).solve(QUESTION, strategy("cot(thinking=3)"))
    assert (answer.text, answer.key, answer.thought.thinking) == ("It is \\boxed{42}.", "42", "17 + 25")
    assert (answer.spend.thinking, answer.spend.answer) == (3, 3)


async def few(model: Fake, question: Question = QUESTION, **given: Any) -> list[Message]:
    """The turns that the model was shown."""
    await run_of(model).solve(question, lambda root: few_shot(root, **given))
    return list(dialogue(model.asked[-1].node, model.asked[-1].say)[0])


async def test_worked_examples_are_earlier_turns() -> None:
    question = Question((Message("system", "Be exact."), Message("user", "What is 17 + 25?")))
    turns = await few(Fake(["\\boxed{42}"]), question, k=2)
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert turns[1].content == f"{SHOTS[0][0]}\n\n{CHAIN}"
    assert turns[2].content == f"{SHOTS[0][1]}\n\nThe final answer is \\boxed{{{SHOTS[0][2]}}}."
    assert turns[-1].content == f"What is 17 + 25?\n\n{CHAIN}"


@pytest.mark.parametrize(("asked", "worked", "answer"), SHOTS)
def test_our_own_examples_are_right(asked: str, worked: str, answer: str) -> None:
    sums = [line.rsplit("=", 1) for line in worked.splitlines() if "=" in line]
    assert sums, asked
    assert answer in worked.splitlines()[-1]
    for left, right in re.findall(r"(\d[\d.+*/ -]*) = ([\d.]+)(?![\d.]* [*t])", worked):
        assert eval(left) == float(right.rstrip(".")), (left, right)


async def test_examples_of_ones_own_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "shots.jsonl"
    rows = [
        {"question": "2 + 3?", "answer": "5", "solution": "2+3 = <<2+3=5>>5"},
        {"question": "1 + 1?", "answer": "One more than one: 1+1=<<1+1=2>>2\n#### 2"},
        {"question": "4 + 4?", "answer": 8},
    ]
    path.write_text("\n\n".join(map(json.dumps, rows)) + "\nnot read\n")
    turns = await few(Fake(["\\boxed{42}"]), k=3, examples=str(path))
    assert [turn.content for turn in turns if turn.role == "assistant"] == [
        "2+3 = 5\n\nThe final answer is \\boxed{5}.",
        "One more than one: 1+1=2\n\nThe final answer is \\boxed{2}.",
        "The final answer is \\boxed{8}.",
    ]


async def test_other_examples_are_another_conversation() -> None:
    model = Fake(["\\boxed{42}"])
    await few(model, k=1)
    await few(model, k=2)
    assert len({op.node.id for op in model.asked}) == 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[1, 2]", "no example"),
        ("not JSON", "no example"),
        ('{"question": "2 + 3?"}', "no example"),
        ('{"question": "  ", "answer": "5"}', "no example"),
        ('{"question": "2?", "answer": [5]}', "no example"),
        ('{"question": "2?", "answer": "2", "solution": 3}', "no example"),
        ('{"question": "2?", "answer": "2"}', "has 1 examples, not k=2"),
        ("", "has 0 examples"),
    ],
)
async def test_a_file_that_is_no_set_of_examples_is_refused(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "shots.jsonl"
    path.write_text(line)
    with pytest.raises(BadInput, match=why):
        await few(Fake(), k=2, examples=str(path))


async def test_examples_that_are_not_there_or_not_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        await few(Fake(), examples=str(tmp_path / "nowhere.jsonl"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8"):
        await few(Fake(), examples=str(tmp_path / "binary"))
    with pytest.raises(BadInput, match="built-in set has 4"):
        await few(Fake(), k=5)
    with pytest.raises(BadInput, match="shows nothing"):
        await few(Fake(), k=0)
