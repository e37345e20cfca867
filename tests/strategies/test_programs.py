"""Searches over programs: their parts are the steps, an end is run, and what it prints is the vote."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from pondera.errors import BadInput
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.strategies import strategy
from pondera.strategies.steps import ANSWER
from pondera.strategies.think import CHAIN, FENCE, PROGRAM, UNFENCE
from pondera.thought import Budget
from tests.strategies.planted import replays, solve

SEARCHES = ("beam", "lookahead", "dvts", "rebase", "particles", "gibbs", "mcts", "mcts(value='verifier')", "mcts(value='both')")
every = pytest.mark.parametrize("text", SEARCHES)
STEPS = 3


def over(text: str, **more: Any) -> Any:
    return partial(strategy(text), over="programs", **more)


def coder(op: Expand, index: int, seed: int) -> str:
    """A program of three parts, each right with a chance of 2 in 5; never when greedy. It goes on in words after its end."""
    rng = random.Random(seed)
    if op.force.endswith(ANSWER):
        return "6}.\n"
    said = op.node.reply if not op.say else ""
    words = ["right" if op.temperature and rng.random() < 0.4 else "wrong" for _ in range(STEPS - said.count("\n\n"))]
    number = "42" if "wrong" not in [*said.split(), *words] else str(5 * rng.randint(1, 6) + 1)
    return "\n\n".join([*(f" {word} so far\nx = 1" for word in words), f"print({number})\n```\nSo it is \\boxed{{7}}."])


@every
async def test_a_path_is_a_program_whose_output_is_the_answer(text: str) -> None:
    model = Fake(coder)
    answer = await solve(over(text), model)
    assert answer.thought.tool == "python"
    code = answer.thought.parent
    assert code is not None
    assert code.reply.startswith(FENCE)
    assert code.reply.endswith(UNFENCE)
    assert answer.key in code.reply
    first, *others = model.asked
    assert (first.say, first.force) == (PROGRAM, FENCE)
    assert others
    assert all(op.stop == (UNFENCE,) for op in model.asked)
    assert all((op.say, op.force) == (("", "") if op.node.parent else (PROGRAM, FENCE)) for op in others), "a path is continued"


@pytest.mark.parametrize(
    ("text", "given"),
    [
        *(("beam", {"fanout": 4}), ("lookahead", {"fanout": 4}), ("dvts", {"fanout": 4}), ("rebase", {"width": 8})),
        *(("particles", {"n": 8}), ("gibbs", {"n": 6}), ("mcts", {"rounds": 24})),
    ],
)
async def test_the_planted_program_is_found(text: str, given: dict[str, Any]) -> None:
    answers = [await solve(over(text, by="honest", **given), Fake(coder), seed=seed) for seed in range(20)]
    assert sum(answer.key == "42" for answer in answers) >= 10


@every
async def test_a_program_that_fails_is_out_and_the_others_vote(text: str) -> None:
    def breaks(op: Expand, index: int, seed: int) -> str:
        """The tool of these tests fails where a multiple of 5 is printed."""
        start = "" if "so" in op.node.reply else f" so {seed % 99}\n\n"
        return f"{start}print({10 if seed % 3 == 0 else 41})\n```"

    answers = [await solve(over(text), Fake(breaks), seed=seed) for seed in range(4)]
    assert {answer.key for answer in answers} == {"41"}
    assert all("10" not in answer.votes for answer in answers)
    assert any("ZeroDivisionError" in line for answer in answers for line in answer.cut)


@every
async def test_where_all_programs_fail_a_chain_answers(text: str) -> None:
    def fails(op: Expand, index: int, seed: int) -> str:
        return "So it is \\boxed{8}." if op.say == CHAIN else "\nprint(5)\n```"

    answer = await solve(over(text), Fake(fails))
    assert answer.key == "8"
    assert any("ZeroDivisionError" in line for line in answer.cut)


@every
@pytest.mark.parametrize("tokens", [40, 100, 300, 700])
async def test_a_program_that_comes_to_no_end_has_its_answer_forced(text: str, tokens: int) -> None:
    def wordy(op: Expand, index: int, seed: int) -> str:
        return "6}.\n" if op.force.endswith(ANSWER) else "\n\n".join([f"x = {'1 + ' * 30}{seed}"] * 30)

    model = Fake(wordy)
    answer = await solve(over(text), model, Budget(tokens=tokens))
    assert answer.key == "6"
    assert answer.spend.tokens <= tokens
    assert f"{UNFENCE}{ANSWER}" in answer.text or not answer.thought.path[1].text.startswith(FENCE)


@every
async def test_even_steps_have_so_many_tokens_and_what_ends_a_program_may_lie_in_two(text: str) -> None:
    def typist(op: Expand, index: int, seed: int) -> str:
        if op.say:
            return f" add {seed % 9}\n\nx = 41 + 1\n\nprint(42)\n`` `"
        return "`" + " talk" * 99 if op.node.reply.endswith("``") else " more talk" * 99

    model = Fake(typist)
    answer = await solve(over(text, even=True, step=9), model)
    assert (answer.key, answer.thought.tool) == ("42", "python")
    grown = [op for op in model.asked if op.until != "done"]
    assert {op.until for op in grown} == {9}
    code = answer.thought.parent
    assert code is not None
    assert [step.text[:1] for step in code.path[2:]] == ["`"], "it is run as soon as it is closed"


async def test_a_rollout_that_talks_on_after_the_end_of_a_program_in_two_parts_is_run() -> None:
    def typist(op: Expand, index: int, seed: int) -> str:
        return f" add {seed % 9}\n\nx = 41 + 1\n\nprint(42)\n`` `" if op.say else "6}." if op.force else "`" + " talk" * 99

    answer = await solve(over("mcts", even=True, step=9, max_tokens=20), Fake(typist))
    assert (dict(answer.votes).keys(), answer.thought.tool) == ({"42"}, "python")


@every
async def test_a_replay_says_the_same(text: str) -> None:
    await replays(over(text))
    await replays(over(text, even=True, step=7))


@every
async def test_another_sort_of_path_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"over='poems'.*give one"):
        await solve(partial(strategy(text), over="poems"))
