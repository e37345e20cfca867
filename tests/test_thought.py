"""Thoughts as turns of a conversation: what a model is asked to go on with is what the path says."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pondera.thought import Message, Question, Thought, dialogue, root_of

ROOT = root_of(Question.of("What is 17 + 25?"))
steps = st.tuples(st.sampled_from(["", "Check it."]), st.sampled_from(["so ", "42", ""]), st.sampled_from(["", "", "python"]))


def path(*made: tuple[str, str, str]) -> Thought:
    node = ROOT
    for i, (said, text, tool) in enumerate(made):
        node = Thought(f"0.{i}/0", node, said="" if tool else said, text=text, tool=tool)
    return node


def test_what_follows_a_tool_is_a_turn_of_its_own() -> None:
    code = ("Write a program.", "print(42)", "")
    output = path(code, ("", "42", "python"))
    assert output.reply == "42"
    answer = path(code, ("", "42", "python"), ("", "The answer is 42.", ""))
    assert answer.reply == "The answer is 42."
    assert [turn.role for turn in dialogue(answer, "Sure?")[0]] == ["user", "assistant", "user", "assistant", "user"]


@given(st.lists(steps, max_size=6))
def test_the_open_turn_is_the_reply_of_the_node(made: list[tuple[str, str, str]]) -> None:
    node = path(*made)
    turns, reply = dialogue(node)
    assert reply == ("" if node.tool else "".join(step.text for step in node.turn))
    assert all(one.role != other.role for one, other in pairwise(turns)), "no two turns of one role in a row"
    assert all(isinstance(turn, Message) for turn in turns)
