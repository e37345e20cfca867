"""The model without weights as a thinking model: its thoughts are told apart, capped, stopped and gone on with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.ports import Piece, Sample
from pondera.thought import Question, Thought, dialogue, musing, root_of

ROOT = root_of(Question.of("What is 6 times 7?"))
REPLY = "<think>\nSix sevens.\n\nThat is 42.\n</think>\n\nIt is\n\n\\boxed{42}."


async def one(op: Expand, reply: str = REPLY) -> tuple[Sample, list[Piece]]:
    events = [event async for event in Fake([reply]).sample(op, [1])]
    assert isinstance(events[-1], Sample)
    return events[-1], [event for event in events if isinstance(event, Piece)]


def grown(op: Expand, sample: Sample) -> Thought:
    return Thought("0.0/0", op.node, text=sample.text, thinking=sample.thinking, finish=sample.finish, tokens=sample.spend.tokens)


async def test_a_thought_is_told_apart() -> None:
    sample, pieces = await one(Expand(ROOT))
    assert (sample.thinking, sample.text, sample.finish) == ("\nSix sevens.\n\nThat is 42.\n", "It is\n\n\\boxed{42}.", "done")
    assert (sample.spend.thinking, sample.spend.answer) == (6, 3), "white space at the end is a token"
    assert "".join(piece.text for piece in pieces if piece.thinking) == sample.thinking
    assert "".join(piece.text for piece in pieces if not piece.thinking) == sample.text
    assert len(sample.ids) == len(sample.logprobs) == sum(piece.tokens for piece in pieces) == 9


@pytest.mark.parametrize(
    ("more", "thinking", "text", "finish"),
    [
        ({"until": "step"}, "\nSix sevens.\n\n", "", "step"),
        ({"until": 3}, "\nSix sevens.\n\nThat", "", "tokens"),
        ({"until": 7}, "\nSix sevens.\n\nThat is 42.\n", "It", "tokens"),
        ({"max_tokens": 2}, "\nSix sevens.", "", "length"),
        ({"thinking": 2}, "\nSix sevens.", "It is\n\n\\boxed{42}.", "done"),
        ({"thinking": 0}, "", "It is\n\n\\boxed{42}.", "done"),
        ({"thinking": 0, "until": "step"}, "", "It is\n\n", "step"),
        ({"stop": ("</think>",)}, "\nSix sevens.\n\nThat is 42.\n", "", "done"),
        ({"stop": ("That",)}, "\nSix sevens.\n\nThat", "", "done"),
    ],
)
async def test_a_thought_ends_where_the_op_ends_it(more: dict[str, object], thinking: str, text: str, finish: str) -> None:
    sample, _ = await one(replace(Expand(ROOT), **more))
    assert (sample.thinking, sample.text, sample.finish) == (thinking, text, finish)


async def test_an_open_thought_is_gone_on_with() -> None:
    first = Expand(ROOT, until="step")
    node = grown(first, (await one(first))[0])
    assert musing(dialogue(node)[1])
    second = Expand(node, until="step")
    sample, _ = await one(second, "That is 42.\n</think>\n\nIt is\n\nso.")
    assert (sample.thinking, sample.text, sample.finish) == ("That is 42.\n", "It is\n\n", "step")
    assert dialogue(grown(second, sample))[1] == "<think>\nSix sevens.\n\nThat is 42.\n</think>\n\nIt is\n\n"
    sample, _ = await one(Expand(node, force="\n</think>\n\nSo "), "it is 42.")
    assert (sample.thinking, sample.text) == ("", "it is 42.")


async def test_a_reply_without_a_thought_has_none() -> None:
    sample, _ = await one(Expand(ROOT, thinking=1), "It is <think> 42 </think>.")
    assert (sample.thinking, sample.text, sample.spend.thinking) == ("", "It is <think> 42 </think>.", 0)
