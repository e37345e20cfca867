"""Switches of thought: found, measured, and penalised or taken back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.errors import BadInput, ModelError, Unsupported
from pondera.ledger import Ledger
from pondera.models.fake import Fake, Reply, Script
from pondera.ops import Expand
from pondera.strategies.steps import ANSWER
from pondera.strategies.underthinking import ONWARD, PENALISED, efficiency, reached, steady, switches, thoughts, underthinking
from pondera.thought import CLOSE, OPEN, Answer, Budget, dialogue
from tests.test_laws import QUESTION, run_of


@pytest.mark.parametrize(
    "switch",
    [
        "Wait, that is wrong.",
        "But wait, no.",
        "Alternatively, use algebra.",
        "Another approach: count them.",
        "Let me try again.",
        "Let's try a different method.",
        "On second thought, no.",
        "Hmm, is it?",
        "Hold on.",
        "Maybe we should try mod 7.",
        "Okay, so let me reconsider this.",
        "**Alternatively**, use algebra.",
    ],
)
def test_a_switch_is_found_where_a_sentence_begins(switch: str) -> None:
    text = f"First we add.\nThat makes 5. {switch} Then we go on."
    assert len(switches(text)) == 1
    assert [part.strip(" *") for part in thoughts(text)][1:] == [text[switches(text)[0] :].strip(" *")]
    assert len(thoughts(f"{switch} Then we go on.")) == 1, "a thought may begin so"


@pytest.mark.parametrize(
    "text",
    [
        "The waiters wait for 5 minutes. Waiters are 3.",
        "We wait. Wait times are 5. Wait for it.",
        "He took another way home, alternatively a bus.",
        "Let me compute 3 + 4. Okay, now add 2.",
        "But 5 is more. No apples are left.",
        "",
    ],
)
def test_what_only_looks_like_a_switch_is_none(text: str) -> None:
    assert switches(text) == []
    assert thoughts(text) == ([text] if text else [])


@given(st.lists(st.sampled_from(["Wait, ", "Alternatively, ", "we add. ", "\n\n", "Hmm. ", " ", "so 5. "])).map("".join))
def test_thoughts_joined_are_the_text(text: str) -> None:
    assert "".join(thoughts(text)) == text
    assert all(part.strip() for part in thoughts(text)[1:])


def right(thought: str) -> bool:
    return "42" in thought


def test_the_scores_of_the_papers() -> None:
    early = "It is 42 then. Wait, I add once more and get 41."  # right after 4 of 12 words, and left
    never = "It is 40. Alternatively, it is 41."
    assert reached(early, right) == 4 / 12
    assert reached(never, right) is None
    assert underthinking([early, never], right) == pytest.approx((1 - 4 / 12) / 2)
    assert underthinking([never], right) == 0.0
    long = "It is 42. Wait, I check that it is 42."  # 3 of 10
    assert efficiency([long, "It is 42."], right) == pytest.approx((3 / 10 + 1) / 2)
    assert efficiency([long, never], right) == pytest.approx(3 / 20)
    assert efficiency([long], right, len) == len("It is 42. ") / len(long)
    assert underthinking([], right) is None
    assert efficiency([], right) is None


def steadily(**given: Any) -> Any:
    return lambda root: steady(root, **given)


async def solve(thinking: Any, script: Script, budget: Budget | None = None) -> tuple[Answer, list[Expand]]:
    model, ledger = Fake(script), Ledger()
    answer = await run_of(model, budget).solve(QUESTION, thinking, ledger=ledger)
    again = await run_of(None).solve(QUESTION, thinking, ledger=Ledger(list(ledger.rows)))
    assert (again.text, again.key) == (answer.text, answer.key)
    return answer, model.asked


CHAIN = ["We add 17 and 25.\n\n", "Wait, perhaps we multiply.\n\n", "Alternatively, we halve.\n\n", "So \\boxed{42}."]


def reciting(bias: bool) -> Script:
    def script(op: Expand, index: int, seed: int) -> Reply:
        if op.bias and not bias:
            return Unsupported("no bias here")
        if op.force:
            return "7}." if op.force.endswith(ANSWER) else "17 + 25 = 42.\n\nAnd"
        return "".join(CHAIN[len(op.node.path) - 1 :])

    return script


async def test_switches_are_penalised_while_a_thought_is_young() -> None:
    answer, asked = await solve(steadily(alpha=2.0, beta=7), reciting(bias=True))
    assert (answer.text, answer.key) == ("".join(CHAIN), "42")
    told = tuple((word, -2.0) for word in PENALISED)
    assert [op.bias for op in asked] == [told, told, told, told], "each step has less than 7 tokens, and two begin new thoughts"
    _, asked = await solve(steadily(alpha=2.0, beta=5), reciting(bias=True))
    assert [op.bias for op in asked] == [told, (), (), told]


async def test_without_a_bias_a_step_that_leaves_a_young_thought_is_taken_back() -> None:
    answer, asked = await solve(steadily(), reciting(bias=False))
    assert answer.text == CHAIN[0] + 2 * f"{ONWARD}17 + 25 = 42.\n\n" + CHAIN[3]
    assert sum(bool(op.bias) for op in asked) == 1, "asked for once"
    old, asked = await solve(steadily(beta=5), reciting(bias=False))
    assert old.text.startswith(CHAIN[0] + CHAIN[1]), "after 5 tokens a thought may be left"
    assert old.text == "".join([CHAIN[0], CHAIN[1], CHAIN[2], CHAIN[3]])
    assert not any(op.force for op in asked)


async def test_a_thinking_models_thought_is_kept_steady_too() -> None:
    def script(op: Expand, index: int, seed: int) -> Reply:
        begun = dialogue(op.node, op.say)[1] + op.force
        if op.bias:
            return Unsupported("no bias here")
        if begun.rstrip().endswith(CLOSE):
            return "It is \\boxed{42}."
        if begun.endswith(ONWARD):
            return f"it is 42.{CLOSE}It is \\boxed{{42}}."
        return f"{'' if begun else OPEN}{'Wait, no.' if begun else 'We add.'}\n\nAnd so on."

    answer, _ = await solve(steadily(), script)
    assert (answer.text, answer.key) == ("It is \\boxed{42}.", "42")
    assert "".join(step.thinking for step in answer.thought.turn).startswith(f"We add.\n\n{ONWARD}it is 42.")


async def test_a_chain_that_goes_on_for_ever_or_cannot_be_paid_has_its_answer_forced() -> None:
    def script(op: Expand, index: int, seed: int) -> Reply:
        return "7}." if op.force else " so" * 400

    for budget in (None, Budget(tokens=200), Budget(tokens=40)):
        answer, _ = await solve(steadily(max_tokens=300), script, budget)
        assert (answer.key, answer.stopped) == ("7", "budget" if budget else "done")


async def test_a_step_that_fails_ends_the_chain_and_a_first_one_the_run() -> None:
    def script(op: Expand, index: int, seed: int) -> Reply:
        return "7}." if op.force else ModelError("down") if op.node.parent else CHAIN[0] + "more"

    answer, _ = await solve(steadily(), script)
    assert answer.text == CHAIN[0] + ANSWER + "7}."
    with pytest.raises(ModelError, match="down"):
        await run_of(Fake([ModelError("down")])).solve(QUESTION, steadily())


@pytest.mark.parametrize("given", [{"alpha": -1.0}, {"alpha": float("nan")}, {"beta": 0}, {"step": 0}, {"max_tokens": 0}])
async def test_what_cannot_be_meant_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        await run_of(Fake()).solve(QUESTION, steadily(**given))
